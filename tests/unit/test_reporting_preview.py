"""Text of the preview on the size of the noise."""

from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.reporting.preview import Preview


@pytest.mark.parametrize(("norm", "share"), [(0.1, "112%"), (0.0051, "5.7%"), (1.0, "1120%")])
def test_the_share_of_the_embedding_norm_has_no_exponent(norm: float, share: str) -> None:
    preview: Any = SimpleNamespace(embedding_norm=0.0893, noise="uniform", noise_target="all", alpha=5.0)
    example: Any = SimpleNamespace(noise_norm=norm)
    assert f" {share} of the median" in Preview.noise_of(preview, example)
