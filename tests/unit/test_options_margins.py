"""Values of `--margin`: sizes in the unit of a metric, shares of the baseline, and all invalid texts."""

import pytest

from neftune_cli.analysis.options import parse_margins
from neftune_cli.errors import UsageError
from neftune_cli.metrics import Margin

KNOWN = ("eval_loss", "response_chars")


def test_sizes_and_shares_of_the_baseline() -> None:
    assert parse_margins(["eval_loss=0.02", "response_chars = 10%"], KNOWN) == {
        "eval_loss": Margin(0.02),
        "response_chars": Margin(0.1, relative=True),
    }


def test_all_problems_are_reported() -> None:
    with pytest.raises(UsageError) as caught:
        parse_margins(
            ["0.02", "eval_loss=", "eval_loss=-1", "eval_loss=nan", "eval_loss=1", "eval_loss=2", "loss=1"], KNOWN
        )

    assert [problem.what for problem in caught.value.problems] == [
        "--margin 0.02: the metric is missing.",
        "--margin eval_loss=: the size is missing.",
        "--margin eval_loss=-1: the size must be a number larger than 0; '-1' was given.",
        "--margin eval_loss=nan: the size must be a number larger than 0; 'nan' was given.",
        "--margin eval_loss=2: eval_loss has two margins.",
        "--margin loss=1: the metric 'loss' was not measured.",
    ]
    assert caught.value.problems[-1].fix == "Use eval_loss or response_chars."
