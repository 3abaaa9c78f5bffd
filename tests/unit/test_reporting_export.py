"""What other programs read, parsed back with pandas and a strict JSON reader, against the hand-made numbers."""

import io
import json
import math
from typing import Any

import pandas as pd
import pytest

from neftune_cli.analysis.comparison import Comparison, compare_arms
from neftune_cli.records import TrialRecord
from neftune_cli.reporting.export import CSV_COLUMNS, ExportedComparisons, summary_markdown, to_csv, to_json

Records = list[TrialRecord]


@pytest.fixture
def comparison(hand_made_records: Records) -> Comparison:
    return compare_arms("bios", hand_made_records, unfinished=["alpha=5,seed=3 failed: out of memory"])


def test_json_has_the_hand_made_numbers(comparison: Comparison) -> None:
    exported = _only(to_json([comparison]))

    arm = exported["metrics"]["eval_loss"]["alpha=5"]
    assert arm["mean"] == pytest.approx(1.507)
    assert arm["difference"] == pytest.approx(-0.003)
    assert arm["difference_sd"] == pytest.approx(math.sqrt(3e-6))
    assert arm["seeds"] == [0, 1, 2]
    assert exported["metrics"]["eval_loss"]["alpha=0"]["difference"] is None
    assert exported["metrics"]["bleu"] == {"alpha=0": None, "alpha=5": None}
    assert exported["base"]["eval_loss"] == 4.2
    assert exported["noise_ratio"]["alpha=5"] == pytest.approx(0.29 / 3)
    assert exported["unfinished"] == ["alpha=5,seed=3 failed: out of memory"]


def test_json_is_what_its_schema_says(comparison: Comparison) -> None:
    text = to_json([comparison, comparison])

    document = ExportedComparisons.model_validate_json(text)
    assert [exported.sweep for exported in document.comparisons] == ["bios", "bios"]
    assert list(json.loads(text)) == ["schema_version", "comparisons"]


def test_what_is_not_finite_is_null(hand_made_records: Records) -> None:
    for number in (0, 4):
        diverged = hand_made_records[number].loss.model_copy(update={"eval_perplexity": math.inf})
        hand_made_records[number] = hand_made_records[number].model_copy(update={"loss": diverged})

    exported = _only(to_json([compare_arms("bios", hand_made_records)]))

    perplexity = exported["metrics"]["eval_perplexity"]["alpha=5"]
    assert exported["base"]["eval_perplexity"] is None
    assert [perplexity[key] for key in ("mean", "sd", "difference", "difference_sd")] == [None] * 4


def test_csv_is_one_row_an_arm_and_metric(comparison: Comparison) -> None:
    frame = pd.read_csv(io.StringIO(to_csv([comparison])), keep_default_na=True)

    assert tuple(frame.columns) == CSV_COLUMNS
    assert len(frame) == 3 * 11
    by_arm = frame.pivot(index="metric", columns="arm", values="mean")
    assert by_arm.loc["response_chars"].to_dict() == {"base": 400.0, "alpha=0": 104.0, "alpha=5": 114.0}
    row = frame[(frame["arm"] == "alpha=5") & (frame["metric"] == "response_chars")].iloc[0]
    assert (row["alpha"], row["difference"], row["difference_sd"], row["seeds"]) == (5, 10, 2, "0 1 2")


def test_markdown_has_the_reading_two_tables_and_the_footnotes(comparison: Comparison) -> None:
    lines = summary_markdown(comparison).splitlines()

    assert lines[0] == "# bios, compared with alpha=0"
    assert lines[2].startswith("Held-out loss: alpha=5 is lower than alpha=0 by 0.0030 on average")
    assert [line for line in lines if line.startswith("## ")] == ["## Loss", "## Generation on held-out prompts"]
    assert lines[-1] == "- Not in these numbers: alpha=5,seed=3 failed: out of memory"


def test_markdown_tables_are_rectangular(comparison: Comparison) -> None:
    tables = _tables(summary_markdown(comparison))

    assert [(len(table), {len(row) for row in table}) for table in tables] == [(5, {9}), (5, {13})]
    loss = dict(zip(tables[0][0], tables[0][-1], strict=True))
    assert loss["held-out loss ↓ (nats)"] == "1.5070 ± 0.0101"
    assert tables[0][-1][6] == "\N{MINUS SIGN}0.0030 ± 0.0017"
    assert tables[0][2][1] == "\N{EN DASH}"


def test_a_bar_in_an_arm_does_not_end_its_cell(hand_made_records: Records) -> None:
    renamed = [record.model_copy(update={"arm": "a|b"}) for record in hand_made_records[4:]]

    text = summary_markdown(compare_arms("bios", [*hand_made_records[:4], *renamed]))

    assert "| a\\|b | 0.9100 ± 0.0100 |" in text


def _only(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    (exported,) = json.loads(text, parse_constant=refuse)["comparisons"]
    return exported


def _tables(markdown: str) -> list[list[list[str]]]:
    blocks = (block.splitlines() for block in markdown.split("\n\n") if block.startswith("|"))
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in block] for block in blocks]
