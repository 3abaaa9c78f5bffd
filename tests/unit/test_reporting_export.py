"""JSON, CSV and Markdown, parsed with independent readers and compared with values computed by hand."""

import html
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.outlook import Outlook
from neftune_cli.analysis.results import Comparison
from neftune_cli.evidence.measurements import AnalysisPlan, Setting
from neftune_cli.reporting.columns import CSV_COLUMNS, ExportedAssessment, ExportedEstimate
from neftune_cli.reporting.exports import to_csv, to_json
from neftune_cli.reporting.markdown import summary_markdown
from neftune_cli.reporting.output_formats import OutputFormat, document
from neftune_cli.reporting.schema import DOCUMENT_VERSION, ExportedComparisons, json_schema
from tests.comparisons import (
    T_OF_THREE_SEEDS,
    assessment,
    best_arm,
    claims,
    comparison,
    early_stopping,
    estimate,
    hand_made,
    noise_test,
    of_no_trials,
    summary,
)

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "compare.md"
UNFINISHED = "alpha=5,seed=3 failed: out of memory"
WITHOUT_ASSESSMENT = dict.fromkeys(ExportedAssessment.model_fields)


@pytest.fixture
def whole() -> Comparison:
    answered = replace(hand_made(), best=best_arm(), early_stopping=early_stopping(), claims=claims())
    return replace(
        answered,
        unfinished=(UNFINISHED,),
        notes=("2 were cut.",),
        difference_from_first="Apart.",
        manifest_digest="ab12",
    )


def test_json_numbers(whole: Comparison) -> None:
    exported = _only(to_json([whole]))

    arm = exported["metrics"]["eval_loss"]["alpha=5"]
    half_width = T_OF_THREE_SEEDS * 0.001  # the differences are -2, -5 and -2 thousandths
    assert arm == {
        "mean": pytest.approx(1.507),
        "sd": pytest.approx(math.sqrt(1.03e-4)),
        "difference": pytest.approx(-0.003),
        "difference_sd": pytest.approx(math.sqrt(3e-6)),
        "ci_low": pytest.approx(-0.003 - half_width),
        "ci_high": pytest.approx(-0.003 + half_width),
        "p_value": 0.2,
        "p_adjusted": 0.4,
        "p_equivalent": 0.03,
        "margin": 0.01,
        "verdict": "equivalent",
        "about": "method",
        "interval_low": pytest.approx(-0.003 - half_width),
        "interval_high": pytest.approx(-0.003 + half_width),
        "equivalence_low": pytest.approx(-0.003 - half_width),
        "equivalence_high": pytest.approx(-0.003 + half_width),
        "looks": 1,
        "role": "arm",
        "seeds": [0, 1, 2],
        "items": 20,
    }
    assert exported["metrics"]["eval_loss"]["alpha=0"] == {
        **WITHOUT_ASSESSMENT,
        "mean": pytest.approx(1.51),
        "sd": pytest.approx(0.01),
        "difference_sd": None,
        "seeds": [0, 1, 2],
    }
    assert exported["metrics"]["bleu"] == {"alpha=0": None, "alpha=5": None}


def test_json_fields_besides_the_metrics(whole: Comparison) -> None:
    exported = _only(to_json([whole]))

    assert exported["setting"]["recipe"]["learning_rate"] == 1e-3
    assert (exported["setting"]["model"], exported["setting"]["data"]) == ("tiny", "bios")
    assert (exported["baseline"], exported["primary"], exported["confidence"]) == ("alpha=0", "eval_loss", 0.95)
    assert (exported["base"]["eval_loss"], exported["base"]["train_loss"]) == (4.2, None)
    assert exported["noise_ratio"] == {"alpha=0": None, "alpha=5": 0.097}
    best = exported["best_arm"]
    assert (best["arm"], best["naive"], best["gain"]) == ("alpha=5", -0.003, -0.001)
    assert (best["ci_low"], best["ci_high"]) == (pytest.approx(-0.0053), pytest.approx(0.0033))
    assert best["chosen"] == {"alpha=5": 0.6, "alpha=10": 0.4}
    baseline, treated = exported["early_stopping"]["arms"]
    assert exported["early_stopping"]["epochs"] == [1, 2, 3]
    assert (baseline["last"]["verdict"], baseline["best"]) == ("worse", None)
    assert (treated["best"]["difference"], treated["best_epoch"]) == (-0.001, 2.25)
    assert (baseline["epochs"], treated["epochs"]) == ([1, 2, 3], [1, 2, 3])
    first, second = exported["hypotheses"]
    assert (first["key"], first["status"], second["caveat"]) == ("training-loss", "supported", "")
    assert exported["advice"] == advice(whole)
    assert (exported["notes"], exported["unfinished"], exported["apart"]) == (["2 were cut."], [UNFINISHED], "Apart.")
    assert exported["manifest_digest"] == "ab12"


def test_json_matches_its_schema(whole: Comparison) -> None:
    text = to_json([whole, comparison(hand_made().arms[0])])

    parsed = ExportedComparisons.model_validate_json(text)
    assert [exported.baseline for exported in parsed.comparisons] == ["alpha=0", "alpha=0"]
    schema, written = json_schema(), json.loads(text)
    assert written["schema_version"] == DOCUMENT_VERSION
    assert list(written) == list(schema["properties"])
    for exported in written["comparisons"]:
        assert set(exported) == set(schema["$defs"]["ExportedComparison"]["properties"])
        assert schema["$defs"]["ExportedComparison"]["required"] == list(exported)


def test_json_has_the_decision_and_its_plan(whole: Comparison) -> None:
    plan = AnalysisPlan(metric="eval_loss", primary_arm="alpha=5", looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=1)
    test = noise_test(assessment(0.01, 0.02), assessment(math.nan, math.nan), ["alpha=5"], p_value=0.5)
    outlook = Outlook(seeds=5, effect=0.01, chance=0.3, low=0.1, high=0.6)
    learning = Learning(has_learned=True, problems=("It diverged.",))
    planned = replace(
        whole, plan=plan, noise_tests={"eval_loss": test}, outlooks={"alpha=5": (outlook,)}, learning=learning
    )

    exported = _only(to_json([planned]))

    assert exported["headline"] == {"word": headline(planned).state, "sentence": headline(planned).sentence}
    assert exported["learning"] == {"has_learned": True, "problems": ["It diverged."]}
    assert exported["plan"] == {
        "metric": "eval_loss",
        "primary_arm": "alpha=5",
        "controls": [],
        "looks": [3, 5],
        "seeds": [0, 1, 2, 3, 4],
        "taken": 1,
    }
    assert exported["margins"]["eval_loss"] == {"size": 0.01, "rule": "0.01"}
    mean, trend = exported["noise_tests"]["eval_loss"]["contrasts"]
    assert (mean["name"], mean["arms"], mean["assessment"]["difference"]) == ("mean", ["alpha=5"], 0.01)
    assert trend["assessment"]["difference"] is None
    chance = {"seeds": 5, "effect": 0.01, "chance": 0.3, "low": 0.1, "high": 0.6}
    assert exported["outlooks"] == {"alpha=5": [chance]}


def test_values_that_are_not_finite_are_null() -> None:
    values = (1.5, 1.6, math.inf)
    assessed = assessment(math.nan, math.nan, None)
    arm = summary("5", 5.0, {"eval_loss": estimate(values, (1.4, 1.5, 1.6), assessed)}, noise_ratio=math.nan)
    baseline = summary("0", 0.0, {"eval_loss": estimate((1.4, 1.5, 1.6))})
    setting = Setting("m", "d", {"rate": math.nan, "schedule": [math.inf], "betas": (0.9, 0.999)}, {})
    best = replace(best_arm(), naive=math.inf, advantage=assessed.paired)
    diverged = replace(comparison(baseline, arm), base_scores={"eval_loss": math.inf}, setting=setting, best=best)

    exported = _only(to_json([diverged]))

    numbers = ("mean", "sd", "difference", "difference_sd", "ci_low", "ci_high", "interval_low", "verdict")
    assert [exported["metrics"]["eval_loss"]["5"][key] for key in numbers] == [None] * len(numbers)
    assert (exported["base"], exported["noise_ratio"]["5"]) == ({"eval_loss": None}, None)
    assert exported["setting"]["recipe"] == {"rate": None, "schedule": [None], "betas": [0.9, 0.999]}
    assert [exported["best_arm"][key] for key in ("naive", "gain", "ci_low", "ci_high")] == [None] * 4
    row = to_csv([diverged]).splitlines()[-1]
    assert row == "bios,5,5,eval_loss,,,,,,,0.2,0.4,0.03,,,0.01,,method,0 1 2,20"


def test_difference_without_assessment_is_exported() -> None:
    arms = [summary("0", 0.0, {"eval_loss": estimate((1.5, 1.6))})]
    arms += [summary("5", 5.0, {"eval_loss": estimate((1.4, 1.5), (1.5, 1.6))})]

    exported = _only(to_json([comparison(*arms)]))

    arm = exported["metrics"]["eval_loss"]["5"]
    assert (arm["difference"], arm["ci_low"], arm["verdict"]) == (pytest.approx(-0.1), None, None)


def test_documentation_describes_every_json_field() -> None:
    schema = json_schema()
    described = {"ExportedComparisons": schema["properties"]}
    described |= {name: one["properties"] for name, one in schema["$defs"].items() if "properties" in one}
    own = {key: value for key, value in described["ExportedEstimate"].items() if key not in WITHOUT_ASSESSMENT}
    described["ExportedEstimate"] = own

    tables = _documented()

    assert set(tables) == {_table_name(name) for name in described}
    for name, fields in described.items():
        assert tables[_table_name(name)] == {
            field: " ".join(one["description"].split()) for field, one in fields.items()
        }


def test_documentation_lists_the_csv_columns() -> None:
    (header,) = re.findall(r"^    (sweep,arm,.*)$", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE)

    assert tuple(header.split(",")) == CSV_COLUMNS
    assert set(CSV_COLUMNS) - {"sweep", "arm", "alpha", "metric"} <= set(ExportedEstimate.model_fields)


def test_csv_has_one_row_per_arm_and_metric(whole: Comparison) -> None:
    frame = pd.read_csv(io.StringIO(to_csv([whole])))

    assert tuple(frame.columns) == CSV_COLUMNS
    assert len(frame) == 3 * 8
    by_arm = frame.pivot(index="metric", columns="arm", values="mean")
    assert by_arm.loc["response_chars"].to_dict() == {"base": 400.0, "alpha=0": 104.0, "alpha=5": 114.0}
    row = frame[(frame["arm"] == "alpha=5") & (frame["metric"] == "response_chars")].iloc[0]
    assert (row["alpha"], row["difference"], row["difference_sd"], row["seeds"]) == (5, 10, 2, "0 1 2")
    # differences of 10, 8 and 12: half an interval is 4.3027 * 2 / sqrt(3)
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(5.0317, abs=1e-4), pytest.approx(14.9683, abs=1e-4))
    assert (row["margin"], row["verdict"], row["about"], row["items"]) == (pytest.approx(5.2), "higher", "method", 20)


def test_csv_quotes_names() -> None:
    arm = summary('5,"gaussian"', None, {"eval_loss": estimate((1.5,))})

    frame = pd.read_csv(io.StringIO(to_csv([comparison(arm)])))

    assert frame.loc[0, "arm"] == '5,"gaussian"'
    assert frame["alpha"].isna().all()


def test_markdown_sections(whole: Comparison) -> None:
    lines = summary_markdown(whole).splitlines()

    assert lines[0] == "# bios, compared with alpha=0"
    assert lines[2:4] == [
        "    bios  tiny on bios · 3 epochs · lr 0.001 · seeds 0-2 · 20 held-out examples",
        "    Apart.",
    ]
    assert not any(line.startswith(("    Next", "    Details", "    Report")) for line in lines)
    assert lines[lines.index("## Advice") + 2] == advice(whole)
    assert [line for line in lines if line.startswith("## ")] == [
        "## Advice",
        "## Loss",
        "## Generation on held-out prompts",
        "## Best arm",
        "## Comparison with early stopping",
        "## Notes",
        "## Claims of the NEFTune paper (arXiv 2310.05914)",
    ]
    assert f"- Missing from these numbers: {UNFINISHED}" in lines
    assert "**supported**: Noise raises the training loss that is measured without noise." in lines


def test_markdown_tables_are_rectangular(whole: Comparison) -> None:
    tables = _tables(summary_markdown(whole))

    assert [(len(table), {len(row) for row in table}) for table in tables] == [(14, {6}), (11, {6}), (8, {6})]
    assert tables[0][0] == ["metric", "arm", "value", "vs alpha=0", "95% interval", "verdict"]
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert tables[0][8:11] == [
        ["held-out loss ↓ (nats)", "base", "4.2000", "", "", ""],
        ["", "alpha=0", "1.5100 ± 0.0100", "", "", ""],
        ["", "alpha=5", "1.5070 ± 0.0101", f"{minus}0.0030", f"[{minus}0.0073, +0.0013]", "equivalent"],
    ]
    assert tables[0][2][2] == dash


def test_markdown_of_one_arm_has_no_difference_columns() -> None:
    tables = _tables(summary_markdown(comparison(hand_made().arms[0])))

    assert {len(row) for table in tables for row in table} == {3}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a|b", "a\\|b"),
        ("*bold*", "\\*bold\\*"),
        ("_x_", "\\_x\\_"),
        ("<img src=x>", "\\<img src=x\\>"),
        ("![i](http://x.y)", "!\\[i\\](http://x.y)"),
        ("[l](x)", "\\[l\\](x)"),
        ("[+1, +2](x)", "\\[+1, +2\\](x)"),
        ("~~s~~", "\\~\\~s\\~\\~"),
        ("$a$", "\\$a\\$"),
        ("&amp;", "\\&amp;"),
        ("`a`", "\\`a\\`"),
        ("# a", "\\# a"),
        ("x.__init__", "x.\\_\\_init\\_\\_"),
        ("a\\", "a\\\\"),
        ("a\\|b", "a\\\\\\|b"),
        ("alpha=5", "alpha=5"),
        ("alpha=5,noise_schedule=linear", "alpha=5,noise_schedule=linear"),
    ],
)
def test_markdown_escapes_names(name: str, written: str) -> None:
    arm = summary(name, 5.0, {"eval_loss": estimate((1.4, 1.5))})

    text = summary_markdown(comparison(arm))

    assert f"| {written} | 1.4500 ± 0.0707 |" in text


@settings(max_examples=100, deadline=None)
@example(name="1)")
@given(
    st.text(st.sampled_from("a1_*~`[]()!<>&;\\|#$:/+,. \N{MINUS SIGN}"), max_size=14).filter(
        lambda name: bool(name.strip())
    )
)
def test_markdown_renders_any_name_literally(name: str) -> None:
    spaced = " ".join(name.split())
    rendered = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render(summary_markdown(comparison(summary(spaced, 5.0, {"eval_loss": estimate((1.4, 1.5))}))))
    )

    cells = re.findall("<td[^>]*>(.*)</td>", rendered)
    assert [html.unescape(cell) for cell in cells] == ["held-out loss ↓ (nats)", spaced, "1.4500 ± 0.0707"]
    assert set(re.findall(r"<(\w+)", rendered)) <= set("h1 h2 p pre code ul li table thead tbody tr th td".split())


@pytest.mark.parametrize("format_", [one for one in OutputFormat if one is not OutputFormat.HTML])
def test_every_format_ends_with_one_line_break(format_: OutputFormat, whole: Comparison) -> None:
    text = document([of_no_trials(whole)], format_)

    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def _only(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    (exported,) = json.loads(text, parse_constant=refuse)["comparisons"]
    return exported


def _tables(markdown: str) -> list[list[list[str]]]:
    blocks = (block.splitlines() for block in markdown.split("\n\n") if block.startswith("|"))
    return [[[cell.strip() for cell in line[1:-1].split("|")] for line in block] for block in blocks]


def _documented() -> dict[str, dict[str, str]]:
    """Return the meaning of each field by table heading and field, from docs/compare.md."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    return dict(_field_tables(text[text.index("## The JSON document") :]))


def _field_tables(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for part in text.split("\n### ")[1:]:
        rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", part.split("\n## ")[0], re.MULTILINE)
        yield part.splitlines()[0], dict(rows)


def _table_name(model: str) -> str:
    """Return `Stopped arm` for `ExportedStoppedArm`."""
    words = re.findall("[A-Z][a-z]+", model.removeprefix("Exported"))
    return " ".join(words).capitalize()
