"""LaTeX tables: escaping, rows, labels and captions; with LaTeX installed, the tables compile."""

# ruff: noqa: RUF001  (one text has a multiplication sign)

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_cli.analysis.results import Comparison, Departure, Role
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.reporting.latex import to_latex
from neftune_cli.reporting.sanitizing import latex_text
from tests.comparisons import (
    assessment,
    best_arm,
    claims,
    comparison,
    early_stopping,
    estimate,
    hand_made,
    noise_test,
    summary,
)

SPECIAL = "\\{}&%$#_~^<>|[]*`-\N{MINUS SIGN}\N{EN DASH}±↓↑×"
NASTY_NAMES = (
    "[red]5[/red]",
    "*star",
    "a_b & c%",
    "x--y",
    "{^~\\}",
    "50% #1 $x$",
    "<a|b>`",
    "\\end{tabular}",
    "\u00e9",
)

PRINTED = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    r"\textendash{}": "\N{EN DASH}",
    r"$\pm$": "±",
    r"$\downarrow$": "↓",
    r"$\uparrow$": "↑",
    r"$\times$": "×",
    "$-$": "\N{MINUS SIGN}",
    "{[}": "[",
    "{*}": "*",
    r"\{": "{",
    r"\}": "}",
    r"\&": "&",
    r"\%": "%",
    r"\$": "$",
    r"\#": "#",
    r"\_": "_",
    "{}": "",
}
"""Text that LaTeX prints for each command, according to its manual."""
TOKEN = re.compile("|".join(map(re.escape, PRINTED)) + "|.")

LOSS_TABLE = r"""
\begin{table}[htbp]
\centering\small
\caption{Loss: tiny on bios (3 epochs, learning rate 0.001, batch size 16). Mean $\pm$ standard deviation over seeds. Differences from alpha=0 are paired by seed and item. No arms are tested together, so the 95\% intervals are not adjusted. The interval of an equivalent arm is the 90\% interval, by which equivalence is tested. Where an interval disagrees with its verdict, it ends at exactly 0 or at the margin, and carries no information beyond the verdict. Verdicts use tests at the 5\% level. Equivalence margins: held-out loss 0.01.}
\label{tab:bios-loss}
\begin{tabular}{lrrrl}
\toprule
arm & value & vs alpha=0 & 95\% interval & verdict \\
\midrule
\multicolumn{5}{l}{held-out loss $\downarrow$ (nats)} \\
alpha=0 & 1.5100 $\pm$ 0.0100 &  &  &  \\
alpha=5 & 1.5070 $\pm$ 0.0101 & $-$0.0030 & {[}$-$0.0073, +0.0013] & equivalent \\
\bottomrule
\end{tabular}
\end{table}
"""  # noqa: E501


@pytest.fixture
def whole() -> Comparison:
    return replace(hand_made(), best=best_arm(), early_stopping=early_stopping(), claims=claims())


@given(st.text(st.sampled_from(SPECIAL + "ab 1"), max_size=30))
def test_escaped_text_is_printed_literally(text: str) -> None:
    source = latex_text(text)

    assert "".join(PRINTED.get(token, token) for token in TOKEN.findall(source)) == " ".join(text.split())
    unguarded = "".join(token for token in TOKEN.findall(source) if token not in PRINTED)
    assert not set(unguarded) & set(SPECIAL) - set("-]")
    assert "--" not in source


def test_table_of_one_metric() -> None:
    arms = [replace(arm, estimates={"eval_loss": arm.estimates["eval_loss"]}) for arm in hand_made().arms]

    assert LOSS_TABLE in to_latex([comparison(*arms)])


def test_one_table_per_section_with_unique_labels(whole: Comparison) -> None:
    text = to_latex([whole])

    names = ("compact", "loss", "generation-on-held-out-prompts", "comparison-with-early-stopping")
    assert _labels(text) == [f"tab:bios-{name}" for name in names]
    assert len(set(_labels(to_latex([whole, whole])))) == 8


def test_rows_have_as_many_cells_as_the_table_has_columns(whole: Comparison) -> None:
    for table in to_latex([whole, comparison(hand_made().arms[0])]).split(r"\begin{table}")[1:]:
        columns = len(re.findall(r"\{tabular\}\{(l\w+)\}", table)[0])
        rows = [line for line in table.splitlines() if line.endswith(r"\\") and not line.startswith(r"\multicolumn")]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}


def test_lines_outside_the_tables_are_comments(whole: Comparison) -> None:
    noted = replace(whole, notes=("one\ntwo \\input{x}",), sweep="a\nb")

    outside = re.sub(r"\\begin\{table\}.*?\\end\{table\}\n", "", to_latex([noted]), flags=re.DOTALL)

    assert all(line.startswith("%") for line in outside.splitlines() if line)
    assert "% one two \\input{x}\n" in outside


def test_compact_table_has_the_primary_metric_and_those_of_responses(whole: Comparison) -> None:
    rows = _compact_rows(to_latex([whole]))

    assert rows[0] == [
        "arm",
        r"held-out loss $\downarrow$",
        r"exact match $\uparrow$",
        "response length",
        r"repetition $\downarrow$",
    ]
    assert rows[1] == ["base", "4.2000", "0.000", "400.0", "60.00"]
    assert rows[2] == [
        "alpha=0",
        _value("1.5100", "0.0100"),
        _value("0.420", "0.020"),
        _value("104.0", "4.0"),
        _value("11.00", "1.00"),
    ]
    assert rows[3] == [
        "alpha=5",
        _value("1.5070", "0.0101") + r"$^{\approx}$",
        _value("0.430", "0.026"),
        _value("114.0", "5.3") + r"$^{\uparrow}$",
        _value("9.90", "0.90") + "$^{+}$",
    ]
    legend = r"5\% level: $^{+}$ better, $^{\uparrow}$ higher, $^{\approx}$ equivalent."
    assert legend in to_latex([whole])


def test_compact_table_without_verdicts_says_so() -> None:
    values = (1.5, 1.51, 1.52)
    assessed = estimate(values, values, assessment(0.0, 0.02))
    arms = [summary("0", 0.0, {"eval_loss": estimate(values)}), summary("5", 5.0, {"eval_loss": assessed})]

    text = to_latex([comparison(*arms)])
    assert r"No arm has a verdict of a difference or of equivalence compared with 0 at the 5\% level." in text


def test_compact_table_names_roles_and_has_panels_of_few_metrics() -> None:
    values = (1.5, 1.51, 1.52)
    keys = ("eval_loss", "exact_match", "rouge_l", "bleu", "response_chars", "repetition_2gram")
    control = estimate(values, values, replace(assessment(1.0, 0.02, "worse"), role="control"))
    arms = [summary("0", 0.0, dict.fromkeys(keys, estimate(values))), summary("90", 90.0, dict.fromkeys(keys, control))]
    rows = _compact_rows(to_latex([comparison(*arms)]))

    assert [row[0] for row in rows] == ["arm", "0", "90 (control)"] * 2
    assert {len(row) for row in rows} == {5}
    assert rows[3][1:] == ["response length", r"repetition $\downarrow$", "", ""]


def test_caption_notes_few_seeds() -> None:
    values = (1.5, 1.51)
    few = estimate(values, values, assessment(0.0, 0.02, None, seeds=2))
    arms = [summary("0", 0.0, {"eval_loss": estimate(values)}), summary("5", 5.0, {"eval_loss": few})]

    text = to_latex([comparison(*arms)])
    assert "With fewer than three paired seeds (5), intervals are unadjusted and describe these trained models" in text
    assert "No arm was tested." in text
    assert "simultaneous" not in text
    assert "Verdicts use" not in text


def test_planned_looks_are_in_the_captions() -> None:
    values = (1.5, 1.51, 1.52)
    assessed = estimate(values, values, assessment(0.0, 0.02))
    arms = [summary("0", 0.0, {"eval_loss": estimate(values)})]
    arms += [summary(name, float(name), {"eval_loss": assessed}) for name in ("5", "10")]
    plan = AnalysisPlan(looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=1)

    text = to_latex([replace(comparison(*arms), plan=plan)])

    assert r"The 95\% intervals are simultaneous over the arms and the planned looks (Bonferroni)" in text
    assert "adjusted for the number of arms (Hommel's method, 2 arms, 5\\% level) and for the planned looks" in text
    assert "adjusted for the number of arms (Hommel's method) and for the planned looks at the 5\\% level" in text


def test_the_caption_of_early_stopping_states_its_own_families(whole: Comparison) -> None:
    test = noise_test(assessment(-0.01, 0.05), assessment(0.0, 0.05), ["alpha=5"])
    control = replace(whole.arms[1], name="alpha=10", alpha=10.0)
    text = to_latex([replace(whole, arms=(*whole.arms, control), noise_tests={"eval_loss": test})])

    (caption,) = [line for line in text.splitlines() if line.startswith(r"\caption{Comparison with early stopping")]
    assert "are two families of tests." in caption
    assert "alpha=0 after its last epoch is tested alone." in caption
    assert "any-noise" not in caption
    controlled = replace(whole, arms=(*whole.arms, control), plan=AnalysisPlan(controls=("alpha=10",)))
    for one in (whole, controlled):
        assert "Verdicts use single tests at the 5\\% level. The interval" in to_latex([one])


def test_captions_name_departures_and_arms_that_are_tested_alone() -> None:
    values = (1.5, 1.51, 1.52)
    roles: Sequence[Role] = ("primary", "exploratory", "exploratory")
    arms = [summary("0", 0.0, {"eval_loss": estimate(values)})]
    arms += [
        summary(f"{place}", float(place), {"eval_loss": estimate(values, values, assessment(0.0, 0.02, role=role))})
        for place, role in enumerate(roles, start=1)
    ]

    departure = Departure("other baseline", "The comparison with 0 is exploratory.")

    text = to_latex([replace(comparison(*arms), departures=(departure,))])

    captions = [line for line in text.splitlines() if line.startswith(r"\caption")]
    assert len(captions) == 2
    assert all("The primary arm is tested alone." in caption for caption in captions)
    assert all("The comparison with 0 is exploratory." in caption for caption in captions)


def test_metrics_without_items_are_paired_by_seed() -> None:
    values = (1.5, 1.51, 1.52)
    assessed = estimate(values, values, assessment(0.0, 0.02, items=1))
    arms = [summary("0", 0.0, {"eval_loss": estimate(values)}), summary("5", 5.0, {"eval_loss": assessed})]

    assert (
        r"Differences from 0 are paired by seed. No arms are tested together, so the 99.9\% intervals "
        "are not adjusted." in to_latex([replace(comparison(*arms), confidence=0.999)])
    )


def test_sweeps_without_ascii_letters_have_labels_of_their_own() -> None:
    labels = [_labels(to_latex([replace(hand_made(), sweep=name)])) for name in ("()", "日本", "日本", "日本 7")]

    assert labels[1] == labels[2]
    assert len({*labels[0], *labels[1], *labels[3]}) == 3 * len(labels[0])
    assert "tab:7-loss" in labels[3]


def test_long_tables_are_split_between_metrics() -> None:
    text = to_latex([_named([f"alpha={alpha}" for alpha in range(1, 12)])])

    assert _labels(text)[1:] == ["tab:bios-loss", "tab:bios-loss-2", "tab:bios-generation-on-held-out-prompts"]
    assert max(table.count("\\\\\n") for table in text.split(r"\begin{table}")) <= 1 + 2 * 13


def test_names_do_not_end_rows_or_start_options() -> None:
    lines = to_latex([_named(NASTY_NAMES)]).splitlines()
    rows = [line for line in lines if line.endswith(("worse \\\\", "$^{-}$ \\\\"))]

    assert len(rows) == 5 * len(NASTY_NAMES)
    assert not any(re.match(r"[\[*]", row) for row in rows)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_tables_compile(tmp_path: Path, whole: Comparison) -> None:
    body = to_latex([whole, _named(NASTY_NAMES), comparison(hand_made().arms[0])])
    source = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(source, encoding="utf-8")

    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)

    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Float too large" not in done.stdout


def _compact_rows(text: str) -> list[list[str]]:
    """Return the cells of the first table."""
    first = text.split(r"\end{table}", maxsplit=1)[0]
    return [line.removesuffix(r" \\").split(" & ") for line in first.splitlines() if line.endswith(r"\\")]


def _value(mean: str, sd: str) -> str:
    return rf"{mean}\,{{\scriptsize $\pm$ {sd}}}"


def _named(names: list[str] | tuple[str, ...]) -> Comparison:
    """Return a comparison of three losses and a score, with arms of these names."""
    values = (1.5, 1.51, 1.52)
    keys = ("train_loss", "train_loss_clean", "eval_loss", "exact_match")
    assessed = estimate(values, values, assessment(0.03, 0.02, "worse"))
    arms = [summary(name, None, dict.fromkeys(keys, assessed)) for name in names]
    return comparison(summary("alpha=0", 0.0, dict.fromkeys(keys, estimate(values))), *arms)


def _labels(text: str) -> list[str]:
    return re.findall(r"\\label\{(.*)\}", text)
