"""The message with which a data set is refused, for tests."""

from typing import Any

import pytest

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from neftune_cli.errors import UsageError

PAIR = '{"prompt": "Why?", "completion": "Because."}\n'


def message_of(name: str, **options: Any) -> str:
    """Return the message with which a data set in the working directory is refused."""
    with pytest.raises(UsageError) as error:
        load_data(InputSpec(dataset=name, **options))
    return str(error.value)
