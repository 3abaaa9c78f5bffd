"""Printed tables: every cell at 80 columns, and the layout at other widths."""

# ruff: noqa: RUF001  (the tables have typographic minus signs and dashes)

import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.results import ArmSummary, Comparison, Estimate
from neftune_cli.metrics import METRICS
from neftune_cli.reporting.output_formats import OutputFormat, ScreenOptions, document, to_text
from neftune_cli.reporting.terminal import print_claims, print_comparisons, print_details
from tests.comparisons import (
    assessment,
    best_arm,
    claims,
    comparison,
    early_stopping,
    estimate,
    hand_made,
    of_no_trials,
    summary,
)

EVERYTHING = ScreenOptions(full=True, hypotheses=True)
AT_80_COLUMNS = """\
Loss

noisy training loss (nats)
arm            mean ± sd  vs alpha=0        95% interval  verdict
─────────────────────────────────────────────────────────────────
base                   –
alpha=0  0.8100 ± 0.0100
alpha=5  0.9100 ± 0.0100     +0.1000  [+0.1000, +0.1000]  higher

noise-off training loss (nats)
arm            mean ± sd  vs alpha=0        95% interval  verdict
─────────────────────────────────────────────────────────────────
base              4.1000
alpha=0  0.7050 ± 0.0050
alpha=5  0.7570 ± 0.0082     +0.0520  [+0.0434, +0.0606]  higher

held-out loss ↓ (nats)
arm            mean ± sd  vs alpha=0        95% interval  verdict
────────────────────────────────────────────────────────────────────
base              4.2000
alpha=0  1.5100 ± 0.0100
alpha=5  1.5070 ± 0.0101     −0.0030  [−0.0073, +0.0013]  equivalent

held-out perplexity ↓
arm           mean ± sd  vs alpha=0      95% interval  verdict
─────────────────────────────────────────────────────────────────
base             66.686
alpha=0   4.527 ± 0.045
alpha=5   4.513 ± 0.046      −0.014  [−0.034, +0.006]  equivalent

Generation on held-out prompts

exact match ↑ (0 to 1)
arm          mean ± sd  vs alpha=0      95% interval  verdict
──────────────────────────────────────────────────────────────────
base             0.000
alpha=0  0.420 ± 0.020
alpha=5  0.430 ± 0.026      +0.010  [−0.015, +0.035]  inconclusive

response length (characters)
arm        mean ± sd  vs alpha=0   95% interval  verdict
────────────────────────────────────────────────────────
base           400.0
alpha=0  104.0 ± 4.0
alpha=5  114.0 ± 5.3       +10.0  [+5.0, +15.0]  higher

repetition ↓ (% of 2-grams)
arm         mean ± sd  vs alpha=0    95% interval  verdict
──────────────────────────────────────────────────────────
base            60.00
alpha=0  11.00 ± 1.00
alpha=5   9.90 ± 0.90       −1.10  [−1.35, −0.85]  better

Best arm

alpha=5 has the best mean held-out loss of alpha=5 and alpha=10. Its difference
from alpha=0 is −0.0030. This estimate is optimistic on average, because the arm
was selected on the same seeds and items. The seeds and items were split into
halves many times, and the best arm on one half was selected. In the splits that
selected alpha=5, its difference on the other half was on average −0.0010 (95%
interval −0.0053 to +0.0033, not adjusted for the number of arms). If no arm is
better than the others, about a third to a half of the bias remains. The
selected arm was alpha=5 in 60% of the splits and alpha=10 in 40%.

Comparison with early stopping

The best epoch of a training run is the epoch after which its held-out loss is
lowest (epochs 1 to 3). Each seed of each arm has its own. It is selected on one
part of the items, and the loss is measured on the rest. The numbers are means
over seeds and over many such splits. Every arm, at its best epoch and after its
last epoch, is compared with alpha=0 as if each training run of alpha=0 had
stopped at its best epoch.

          best   held-out loss ↓                             95%
arm      epoch  best epoch, nats  difference            interval  verdict
──────────────────────────────────────────────────────────────────────────────
alpha=0    2.0            1.4500
alpha=5    2.2            1.4490     −0.0010  [−0.0130, +0.0110]  inconclusive

held-out loss ↓ (last epoch, nats)
arm        mean  difference        95% interval  verdict
────────────────────────────────────────────────────────
alpha=0  1.5100     +0.0600  [+0.0400, +0.0800]  worse
alpha=5  1.5070     +0.0570  [+0.0270, +0.0870]  worse

Mean ± standard deviation over seeds. Losses are in nats per completion token. ↓
"""
"""Means, standard deviations, differences and t intervals, computed by hand from the values in comparisons.py."""

TWO_METRICS_AT_120_COLUMNS = """\
         exact match ↑       vs               95%                response length       vs            95%
arm             0 to 1  alpha=0          interval  verdict            characters  alpha=0       interval  verdict
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
base             0.000                                                     400.0
alpha=0  0.420 ± 0.020                                               104.0 ± 4.0
alpha=5  0.430 ± 0.026   +0.010  [−0.015, +0.035]  inconclusive      114.0 ± 5.3    +10.0  [+5.0, +15.0]  higher
"""

CLAIMS_AT_60_COLUMNS = """\
Claims of the NEFTune paper (arXiv 2310.05914)

supported     Noise raises the training loss that is
              measured without noise.
              Paper: Higher for alpha 5 on LLaMA-2 7B and
              Alpaca (figure 4).
              Here: Noise-off training loss of alpha=5:
              +0.0520 [+0.0434, +0.0606].
              Caveat: The paper shows one seed.

not measured  Scores on multiple-choice tasks stay what they
              were.
              Paper: OpenLLM Leaderboard tasks change by
              less than a point (table 3).
              Here: Not measured here: these tasks run in
              other programs.
"""

NUMBER = r"[+−]?\d+\.\d+"


@pytest.fixture
def whole() -> Comparison:
    return replace(hand_made(), best=best_arm(), early_stopping=early_stopping(), claims=claims())


def test_at_80_columns(whole: Comparison) -> None:
    text = _printed(whole, width=80)

    assert text[text.index("\nLoss\n") + 1 :].startswith(AT_80_COLUMNS)


def test_two_metrics_at_120_columns(whole: Comparison) -> None:
    assert TWO_METRICS_AT_120_COLUMNS in _printed(whole, width=120)


def test_the_advice_is_above_the_tables(whole: Comparison) -> None:
    above, _ = _printed(whole, width=80).split("\nLoss\n")

    assert " ".join(above.split()) == f"Advice {advice(whole)}"


@pytest.mark.parametrize(("width", "rules"), [(80, 9), (120, 8), (200, 4), (300, 3)])
def test_wider_terminals_need_fewer_tables(whole: Comparison, width: int, rules: int) -> None:
    assert _printed(whole, width).count("\n────") == rules


@pytest.mark.parametrize("width", range(80, 200, 8))
def test_numbers_and_rows_are_complete(whole: Comparison, width: int) -> None:
    text = _printed(whole, width)

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert sorted(_numbers(text)) == sorted(_numbers(_printed(whole, 600)))


@pytest.mark.parametrize("width", range(40, 80, 5))
def test_narrow_terminals_drop_columns_but_truncate_none(whole: Comparison, width: int) -> None:
    text = _printed(whole, width)

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert set(_numbers(text)) <= set(_numbers(_printed(whole, 600)))


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (66, "alpha=5  0.430 ± 0.026      +0.010  [−0.015, +0.035]  inconclusive"),
        (65, "alpha=5  0.430 ± 0.026   +0.010  [−0.015, +0.035]  inconclusive"),
        (62, "alpha=5  0.430   +0.010  [−0.015, +0.035]  inconclusive"),
        (54, "alpha=5  0.430   +0.010  inconclusive"),
        (36, "alpha=5  0.430   +0.010"),
    ],
)
def test_spreads_are_dropped_first_then_intervals_then_verdicts(width: int, row: str) -> None:
    arms = [replace(arm, estimates={"exact_match": arm.estimates["exact_match"]}) for arm in hand_made().arms]

    text = _printed(replace(comparison(*arms), primary="exact_match"), width)

    assert row in text.splitlines()


def test_long_names_are_broken_before_intervals_are_dropped() -> None:
    values = (1.5, 1.51, 1.52)
    name = "alpha=15,noise_schedule=cosine"
    arms = _arms({"alpha=0": estimate(values), name: estimate(values, values, assessment(0.001, 0.02))})

    assert f"{name}  1.5100  +0.0010  [−0.0190, +0.0210]  inconclusive" in _printed(comparison(*arms), width=81)
    assert (
        "alpha=15,                1.5100  +0.0010  [−0.0190, +0.0210]  inconclusive\n  noise_schedule=cosine\n"
    ) in _printed(comparison(*arms), width=80)


def test_bounds_of_different_lengths_are_aligned() -> None:
    baseline = estimate((100.0, 104.0, 108.0))
    five = estimate((110.0, 112.0, 120.0), (100.0, 104.0, 108.0), assessment(10.0, 15.0))
    ten = estimate((210.0, 212.0, 220.0), (100.0, 104.0, 108.0), assessment(110.0, 5.0, "higher"))
    arms = _arms({"alpha=0": baseline, "alpha=5": five, "alpha=10": ten}, "response_chars")

    lines = _printed(replace(comparison(*arms), primary="response_chars"), width=80).splitlines()

    assert "alpha=5   114.0 ± 5.3       +10.0  [  −5.0,  +25.0]  inconclusive" in lines
    assert "alpha=10  214.0 ± 5.3      +110.0  [+105.0, +115.0]  higher" in lines


def test_one_seed_has_no_spread() -> None:
    arms = _arms(
        {"alpha=0": estimate((1.5,)), "alpha=5": estimate((1.4,), (1.5,), assessment(-0.1, 0.05, None, seeds=1))}
    )

    text = _printed(comparison(*arms), width=80)

    assert "alpha=5  1.4000     −0.1000  [−0.1500, −0.0500]  –" in text.splitlines()


def test_one_seed_without_items_has_no_interval() -> None:
    assessed = assessment(-0.1, math.nan, None, seeds=1, items=1)
    arms = _arms({"alpha=0": estimate((1.5,)), "alpha=5": estimate((1.4,), (1.5,), assessed)})

    text = _printed(comparison(*arms), width=80)

    assert "alpha=5  1.4000     −0.1000             –  –" in text.splitlines()


def test_single_arm_has_no_differences() -> None:
    text = _printed(comparison(hand_made().arms[0]), width=80)

    assert not re.search("vs alpha|interval|verdict", text)
    assert re.search(r"^alpha=0.* 1\.5100 ± 0\.0100", text, re.MULTILINE)


def test_mean_that_is_not_finite() -> None:
    values = (1.5, 1.51, 1.52)
    arms = _arms({"alpha=0": estimate(values), "alpha=5": estimate((1.4, math.inf, 1.5), values)})

    lines = _printed(comparison(*arms), width=80).splitlines()

    assert "alpha=5       not finite           –             –  –" in lines
    assert "– no verdict: a value is not finite." in lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_twelve_arms(width: int) -> None:
    values = (1.5, 1.51, 1.52)
    arms = {"alpha=0": estimate(values)}
    arms |= {f"alpha={alpha}": estimate(values, values, assessment(0.001 * alpha, 0.02)) for alpha in range(1, 12)}

    lines = _printed(comparison(*_arms(arms)), width).splitlines()

    assert max(map(len, lines)) <= width
    for alpha in range(1, 12):
        (row,) = [line for line in lines if line.startswith(f"alpha={alpha} ")]
        assert row.endswith("inconclusive")
        assert f"+{alpha / 1000:.4f}" in row


def test_long_baseline_name_does_not_widen_columns() -> None:
    name = "alpha=0,weight_decay=0.1"
    values = (1.5, 1.51, 1.52)
    arms = _arms({name: estimate(values), "alpha=5": estimate(values, values, assessment(0.0, 0.02))})

    text = _printed(comparison(*arms), width=100)

    assert "vs baseline" in text


@pytest.mark.parametrize("name", ["[red]5[/red]", "[/]", ":smile:", "[link=x]y"])
def test_markup_in_names_is_printed_literally(name: str) -> None:
    values = (1.5, 1.51, 1.52)
    named = _arms({"alpha=0": estimate(values), name: estimate(values, values, assessment(0.0, 0.02))})
    named_everywhere = replace(comparison(*named), notes=(name,), unfinished=(name,), claims=claims())

    text = _printed(replace(named_everywhere, best=replace(best_arm(), arm=name, chosen={name: 1.0})), width=120)

    assert re.search(rf"^{re.escape(name)} +1\.5100", text, re.MULTILINE)
    assert f"{name} has the best mean held-out loss of {name}." in text
    assert f"\n{name}\nMissing from these numbers: {name}\n" in text


def test_sections_are_in_the_order_of_their_first_metric() -> None:
    task = replace(METRICS["exact_match"], key="arc/acc", name="ARC", section="Tasks")
    probe = METRICS["probe_rouge_l"]
    metrics = {"arc/acc": task, "probe_rouge_l": probe, "eval_loss": METRICS["eval_loss"]}
    arm = summary("alpha=0", 0.0, {key: estimate((0.5, 0.6)) for key in metrics})

    lines = _printed(comparison(arm, metrics=metrics), width=80).splitlines()

    assert [line for line in lines if line in ("Tasks", probe.section, "Loss")] == ["Tasks", probe.section, "Loss"]


def test_claims_are_printed_on_request(whole: Comparison) -> None:
    assert "Claims" not in _printed(whole, width=60)
    text = _printed(whole, width=60, hypotheses=True)
    claims, _, note = text[text.index("Claims") :].rpartition("\n\n")
    assert claims + "\n" == CLAIMS_AT_60_COLUMNS
    assert note.startswith("Each of the 11 claims is tested separately")


def test_missing_claims(whole: Comparison) -> None:
    text = _printed(replace(whole, claims=()), width=80, hypotheses=True)

    assert text.endswith(
        "Claims of the NEFTune paper (arXiv 2310.05914)\n\nThese trials do not test any of the claims.\n"
    )


def test_document_does_not_depend_on_the_environment(whole: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _printed(whole, width=120, hypotheses=True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")

    text = document([of_no_trials(whole)] * 2, OutputFormat.TABLE)

    assert "\x1b" not in text
    assert text.count("\nbios  tiny on bios") == 1  # the other screen starts the document
    assert "Claims" not in text
    assert to_text([whole], 120, EVERYTHING).endswith(expected)


def test_colors_repeat_the_text(whole: Comparison) -> None:
    text = io.StringIO()
    colored = Console(file=text, width=80, force_terminal=True, color_system="truecolor")
    print_comparisons(colored, [whole], EVERYTHING)

    assert "\x1b[32mbetter" in text.getvalue()
    plain = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
    assert _without_line_ends(plain) == to_text([whole], 80, EVERYTHING)


def test_no_color_is_respected(whole: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = io.StringIO()
    colored = Console(file=text, width=80, force_terminal=True, color_system="truecolor")
    print_comparisons(colored, [whole], ScreenOptions(full=True))

    codes = set(re.findall(r"\x1b\[([\d;]*)m", text.getvalue()))
    # Codes from 30 are colors; bold, dim and underlined are below.
    assert codes
    assert all(int(code or 0) < 30 for group in codes for code in group.split(";"))


def _arms(estimates: dict[str, Estimate], key: str = "eval_loss") -> list[ArmSummary]:
    return [summary(name, float(place), {key: one}) for place, (name, one) in enumerate(estimates.items())]


def _printed(compared: Comparison, width: int, *, hypotheses: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width)
    print_details(console, compared)
    if hypotheses:
        print_claims(console, compared.claims)
    return _without_line_ends(text.getvalue())


def _without_line_ends(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _numbers(text: str) -> list[str]:
    """Return the numbers in the rows of the tables."""
    return [number for row in _rows(text) for number in re.findall(NUMBER, row)]


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"(base|alpha=\d) {2,}", line)]
