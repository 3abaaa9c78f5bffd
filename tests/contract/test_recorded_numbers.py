"""Numbers of a recorded trial of the bundled model, which every processor must give to three decimals."""

from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import Neftune

RECIPE = "--train-examples 64 --eval-examples 40 --max-steps 8 --max-new-tokens 4 --workers 0 --quiet".split()
RECORDED = {"base": 2.7924, "alpha=0": 1.4760, "alpha=5": 1.4331}
"""Held-out losses in nats per completion token, on a processor without bfloat16 instructions."""


def test_the_recipe_of_the_bundled_model_gives_the_recorded_losses(neftune: Neftune, tmp_path: Path) -> None:
    result = neftune("sweep", "--alphas", "0,5", "--seeds", "1", "--no-estimate", *RECIPE, "--output", "out")
    assert result.code == 0, result.err
    found = pd.read_csv(tmp_path / "out" / "loss.csv").set_index("arm").eval_loss.to_dict()
    assert found == pytest.approx(RECORDED, abs=1e-3)
