"""First screen: its texts, its number of lines, and its width with few, many and hostile arms."""

# ruff: noqa: RUF001  (the screen has typographic minus signs)

import io
import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.outlook import Outlook
from neftune_cli.analysis.results import Assessment, Comparison, Departure, EarlyStopping, Interval
from neftune_cli.evidence.measurements import AnalysisPlan, TrialOrigin
from neftune_cli.metrics import METRICS, Margin
from neftune_cli.reporting.cells import share_range, short_seeds_text
from neftune_cli.reporting.next_step import chance_sentence, next_step
from neftune_cli.reporting.output_formats import ScreenOptions
from neftune_cli.reporting.page.chapter import opening
from neftune_cli.reporting.screen import MOST_LINES, print_screen
from neftune_cli.reporting.terminal import print_comparisons
from tests.comparisons import (
    assessment,
    comparison,
    early_stopping,
    estimate,
    hand_made,
    noise_test,
    summary,
)

ORIGIN = TrialOrigin(("results/bios",), is_sweep=True, seconds=30.0, workers=2)
LOOKS = (5, 8, 12, 20)
BASELINE = (1.5, 1.51, 1.52)
OUTLOOKS = (
    Outlook(20, 0.0, 0.3, 0.1, 0.6),
    Outlook(20, -0.01, 0.3, 0.2, 0.7),
    Outlook(20, -0.02, 0.5, 0.3, 0.995),
)

FOUR_ARMS = """\
bios  tiny on bios · 3 epochs · lr 0.001 · seeds 0-2 · 20 held-out examples

NOT DECIDED  The data do not show whether noise improves or worsens held-out
             loss: they are compatible with differences of −0.12 to +0.08 nats.

Held-out loss (nats per completion token, lower is better)   base model 4.200
                                  simultaneous  adj.                exact  noise
alpha      mean ± sd    vs 0      95% interval     p  verdict       match  ratio
    0  1.510 ± 0.010                                  baseline      0.400     0%
    5  1.510 ± 0.010  −0.020  [−0.120, +0.080]  0.40  inconclusive  0.500   9.7%
   10  1.510 ± 0.010  −0.020  [−0.120, +0.080]  0.40  inconclusive  0.500   9.7%
   15  1.510 ± 0.010  −0.020  [−0.120, +0.080]  0.40  inconclusive  0.500   9.7%
Any noise      mean of alphas 5, 10, 15: −0.010 [−0.060, +0.040], inconclusive
Other metrics  none better or worse; smallest adj. p 0.40 (exact match, alpha 5)

Next     neftune sweep results/bios/sweep.yaml --until-decided \\
         --output results/bios-until-decided
         at most 80 trials (20 seeds), about 20 min with 2 workers
Chance   of a decision on an open arm by 20 seeds: 10% to 60% if its true
         difference is 0, 30% to >99% if it is −0.0200 nats (twice the margin)
Details  neftune compare results/bios --full
         further options: --metric KEY, --hypotheses
Report   results/bios/report.html
"""
"""80 trials of 30 s with 2 workers take 20 minutes."""


def test_four_arms_at_80_columns() -> None:
    assert _printed(_four_arms(), 80) == FOUR_ARMS
    assert len(FOUR_ARMS.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("width", range(60, 201, 10))
@pytest.mark.parametrize("arms", [1, 2, 4, 8])
def test_nothing_is_cut_at_any_width(width: int, arms: int) -> None:
    text = _printed(_with_everything(_four_arms(arms)), width)

    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("results/bios/report.html") == 1


@pytest.mark.parametrize("name", ["ünï" * 9, "a[red]b[/red]", "x\x1b[31my\nz", "名前" * 20, "w" * 200, "a,b,c" * 12])
def test_hostile_names_stay_on_their_line_and_in_the_width(name: str) -> None:
    arms = (
        summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE)}),
        summary(name, 5.0, {"eval_loss": estimate(BASELINE, BASELINE, assessment(0.0, 0.02))}),
    )
    hostile = replace(comparison(*arms), sweep=name, unfinished=(name,), learning=Learning(None, (name,)))

    text = _printed(replace(hostile, origin=replace(ORIGIN, folders=("results/x",))), 80)

    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(cell_len, text.splitlines())) <= 80
    if "[red]" in name:
        assert text.count(name) >= 4


@pytest.mark.parametrize("name", ["名前" * 20, "w" * 200, "weight decay without any noise"])
@pytest.mark.parametrize(("width", "verdict"), [(40, ""), (50, "inconclusive"), (60, "inconclusive")])
def test_long_names_leave_room_for_numbers_and_verdicts(name: str, width: int, verdict: str) -> None:
    assessed = assessment(0.0, 0.02)
    arms = (
        summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE)}),
        summary(name, 5.0, {"eval_loss": estimate(BASELINE, BASELINE, assessed)}),
    )
    text = _printed(comparison(*arms), width)
    (row,) = [line for line in text.splitlines() if line.startswith(name[:4]) and "1.5" in line]

    assert "…" not in text
    assert row.split()[-3 if verdict else -2 :] == ["1.510", "+0.000", *filter(None, [verdict])]


@pytest.mark.parametrize("learned", [True, False])
def test_a_crowded_screen_leaves_out_what_says_least(learned: bool) -> None:
    crowded = _with_everything(_four_arms())
    problems = ("The training diverged: alpha=15 (seed 1). Use a smaller learning rate.",)

    text = _printed(replace(crowded, learning=Learning(learned, problems)), 80)

    assert len(text.splitlines()) <= MOST_LINES
    assert "\nPROBLEM" in text
    assert "\nMissing" in text
    assert text.index("PROBLEM") < text.index("NOTHING LEARNED" if not learned else "NOT DECIDED")
    assert ("\nNext" in text) == learned


def test_a_primary_arm_exploratory_arms_and_controls_are_called_so() -> None:
    assessed = {
        "alpha=5": assessment(-0.02, 0.01, "better", role="primary"),
        "alpha=10": assessment(-0.02, 0.03, role="exploratory"),
        "alpha=100": assessment(0.5, 0.03, "worse", role="control"),
    }
    text = _printed(_compared(assessed), 120)

    assert "\nDECIDED  In held-out loss, compared with alpha 0, alpha 5, the primary arm, is better.\n" in text
    assert (
        " Arms alpha 5: primary arm, whose test was declared in advance; alpha 10: exploratory; alpha 100: check of "
        "the sweep Report "
    ) in " ".join(text.split())
    assert "\nNext" not in text


def test_an_exploratory_arm_does_not_decide() -> None:
    assessed = {
        "alpha=5": assessment(0.0, 0.03, role="primary"),
        "alpha=10": assessment(-0.02, 0.01, "better", role="exploratory"),
    }
    assert "\nNOT DECIDED  The data do not show whether alpha 5 improves or worsens" in _printed(
        _compared(assessed), 120
    )


def test_planned_looks_are_in_the_scope_and_arms_that_stopped_show_their_seeds() -> None:
    values, longer = (1.4,) * 5, (1.5, 1.51, 1.52, 1.5, 1.51, 1.52, 1.5, 1.5)
    arms = (
        summary("alpha=0", 0.0, {"eval_loss": estimate(longer)}),
        summary("alpha=5", 5.0, {"eval_loss": estimate(values, longer, assessment(-0.1, 0.01, "better", seeds=5))}),
        summary("alpha=10", 10.0, {"eval_loss": estimate(longer, longer, assessment(0.0, 0.03, seeds=8))}),
    )
    plan = AnalysisPlan(looks=LOOKS, seeds=tuple(range(20)), looks_taken=2)

    text = _printed(replace(comparison(*arms), plan=plan, origin=ORIGIN), 80)

    seeds = "Seeds alpha 5: difference over the 5 seeds shared with alpha 0, whose mean is over all 8"
    assert seeds in " ".join(text.split())
    assert " · look 2 of 4: 8 of at most 20 seeds" in text
    assert re.search(r"repeated +adj\.", text)
    assert "\nPARTLY DECIDED  In held-out loss, compared with alpha 0, alpha 5 is better, and\n" in text
    assert re.search(r"^ +5 .* better +5$", text, re.MULTILINE)
    assert re.search(r"^ +10 .* inconclusive +8$", text, re.MULTILINE)
    # the baseline and one open arm, 12 further seeds each
    assert "Next     neftune sweep results/bios/sweep.yaml --output results/bios\n" in text
    assert "at most 24 more trials (20 seeds in all), about 6 min with 2 workers" in text


def test_next_command_runs_where_the_sweep_ran_with_the_margin_of_the_comparison() -> None:
    origin = replace(ORIGIN, run_options=("--executor", "slurm", "--slurm", "partition=gpu"))

    text = _printed(replace(_four_arms(), origin=origin, chosen_margin=Margin(0.02)), 300)

    command = "neftune sweep results/bios/sweep.yaml --until-decided --margin 0.02 --output results/bios-until-decided"
    assert f"Next     {command} --executor slurm --slurm partition=gpu\n" in text


def test_next_command_names_a_metric_and_a_margin_that_the_spec_does_not_declare() -> None:
    plan = AnalysisPlan(metric="rouge_l", margin=Margin(0.05))
    declared, other = (replace(_four_arms(), plan=replace(plan, metric=key)) for key in ("eval_loss", "rouge_l"))
    steps = [next_step(one) for one in (declared, other)]

    assert [" --metric eval_loss --margin 1% of gain" in " ".join(step.command) for step in steps if step] == [
        False,
        True,
    ]


def test_another_metric_than_the_declared_one_is_noted_and_has_no_next_look() -> None:
    plan = AnalysisPlan(looks=LOOKS, seeds=tuple(range(20)), looks_taken=1)
    departure = Departure("other metric", "Results of ROUGE-L are exploratory.")
    departed = replace(_four_arms(), plan=plan, departures=(departure,), outlooks={})

    text = _printed(departed, 80)

    assert "\nNOTE         Results of ROUGE-L are exploratory.\n" in text
    assert next_step(replace(_four_arms(), plan=plan)) is not None
    assert next_step(departed) is None
    assert "\nNext" not in text
    assert "\nChance" not in text


def test_p_values_of_1_do_not_name_a_closest_metric() -> None:
    compared = _four_arms()
    ones = [
        replace(
            arm,
            estimates={
                key: one and replace(one, assessment=one.assessment and replace(one.assessment, p_adjusted=1.0))
                for key, one in arm.estimates.items()
            },
        )
        for arm in compared.arms
    ]

    text = _printed(replace(compared, arms=tuple(ones)), 80)

    assert "\nOther metrics  none better or worse; smallest adj. p 1.00\n" in text


def test_no_command_is_offered_after_the_last_look() -> None:
    plan = AnalysisPlan(looks=(3,), seeds=(0, 1, 2), looks_taken=1)

    assert next_step(replace(_four_arms(), plan=plan)) is None
    text = _printed(replace(_four_arms(), plan=plan, outlooks={}), 80)
    assert "twice the margin" not in text
    assert " ".join(text.partition("\nNext     ")[2].split()).startswith(
        "the last planned look was taken, so this sweep gets no more seeds; report what is open as not decided, or "
        "test new seeds alone, in another sweep (--seeds, --output) Details"
    )
    of_page = opening(replace(_four_arms(), plan=plan, outlooks={}), "").facts["Next"]
    assert of_page.startswith("The last planned look was taken, so this sweep gets no more seeds; ")
    departure = Departure("other metric", "Results of ROUGE-L are exploratory.")
    departed = replace(_four_arms(), plan=plan, outlooks={}, departures=(departure,))
    assert "last planned look" not in _printed(departed, 80)


def test_runs_of_other_tools_have_no_sweep_to_continue() -> None:
    text = _printed(replace(_four_arms(), origin=TrialOrigin(("runs",))), 80)

    assert "\nNext     train more seeds, their number chosen in advance, and compare again\n" in text


def test_an_equivalent_arm_has_the_interval_of_its_test_and_the_margin_with_its_rule() -> None:
    equivalent = replace(assessment(0.001, 0.009, "equivalent"), equivalence_interval=Interval(-0.006, 0.008))
    margin = METRICS["eval_loss"].margin.resolved(1.5, 2.0)

    text = _printed(replace(_compared({"alpha=5": equivalent}), margins={"eval_loss": margin}), 80)

    assert (
        "\nDECIDED  In held-out loss, compared with alpha 0, alpha 5 is equivalent within\n         0.0200 nats.\n"
        in text
    )
    assert "[−0.0060, +0.0080]" in text
    assert re.search(
        r"^Equivalent +within 0\.0100 nats, 1% of the gain of fine-tuning; 90% interval$", text, re.MULTILINE
    )


def test_a_trend_is_given_only_if_it_is_shown() -> None:
    plain = _four_arms()
    trend = noise_test(assessment(-0.01, 0.05), assessment(-0.03, 0.02, "better"), ["alpha=5", "alpha=10", "alpha=15"])

    assert "trend" not in _printed(plain, 120)
    assert "; trend from 5 to 15: −0.030 [−0.050, −0.010], falls with alpha" in " ".join(
        _printed(replace(plain, noise_tests={"eval_loss": trend}), 120).split()
    )


def test_the_mean_of_two_seeds_is_named_as_unadjusted() -> None:
    mean = noise_test(assessment(-0.02, 0.01, None, seeds=2), assessment(0.0, 0.05), ["alpha=5", "alpha=10"])

    text = " ".join(_printed(replace(_four_arms(3), noise_tests={"eval_loss": mean}), 120).split())

    assert (
        "mean of alphas 5, 10: −0.020 [−0.030, −0.010], no verdict (fewer than three paired seeds; unadjusted interval "
        "for other items only)"
    ) in text


def test_the_direction_of_a_trend_is_that_of_its_verdict() -> None:
    at_an_earlier_look = replace(assessment(0.01, 0.05, "better"), interval=Interval(-0.04, 0.0))
    trend = noise_test(assessment(-0.01, 0.05), at_an_earlier_look, ["alpha=5", "alpha=10", "alpha=15"])

    text = _printed(replace(_four_arms(), noise_tests={"eval_loss": trend}), 160)

    assert "trend from 5 to 15: +0.010 [−0.040, +0.000], falls with alpha" in text


def test_an_unadjusted_interval_beside_adjusted_ones_is_named() -> None:
    few, tested = assessment(0.02, 0.01, None, seeds=2), assessment(-0.02, 0.01, "better")

    mixed = _printed(_compared({"alpha=5": few, "alpha=10": tested, "alpha=15": tested}), 160)

    note = "interval of alpha 5, with fewer than three paired seeds: for other items only, not for other seeds"
    assert re.search(f"^Unadjusted +{note}$", mixed, re.MULTILINE)
    assert "\nUnadjusted" not in _printed(_compared({"alpha=5": few}), 160)  # the heading of the column says so


def test_a_difference_over_fewer_seeds_than_the_mean_is_named() -> None:
    arms = list(_four_arms().arms)
    (values,) = {tuple(arm.estimates["eval_loss"].by_seed.values()) for arm in arms[2:] if arm.estimates["eval_loss"]}
    fewer = estimate(values, values[1:], assessment(-0.02, 0.1))  # the baseline has no trial of one seed
    for place in (1, 2):
        arms[place] = replace(arms[place], estimates={**arms[place].estimates, "eval_loss": fewer})
    compared = replace(_four_arms(), arms=tuple(arms))

    text = _printed(compared, 160)

    line = "alpha 5, alpha 10: difference over the 2 seeds shared with alpha 0, mean over all 3"
    assert re.search(f"^Seeds +{line}$", text, re.MULTILINE)
    assert len(_printed(compared, 80).splitlines()) <= 25
    assert not re.search("^Seeds", _printed(_four_arms(), 160), re.MULTILINE)


def test_changed_metrics_are_named_with_the_arms() -> None:
    arms = list(_four_arms().arms)
    worse = estimate((0.4,) * 3, (0.5,) * 3, assessment(-0.1, 0.05, "worse"))
    arms[1] = replace(arms[1], estimates={**arms[1].estimates, "exact_match": worse})

    text = " ".join(_printed(replace(_four_arms(), arms=tuple(arms)), 120).split())

    assert "Other metrics exact match worse with alpha 5 (not adjusted for the number of metrics)" in text


def test_early_stopping_is_one_sentence() -> None:
    compared = _compared({"alpha=5": assessment(-0.02, 0.01, "better")})
    stopping = early_stopping()
    baseline, treated = stopping.arms
    late = EarlyStopping((1, 2, 3), (replace(baseline, best_epoch=3.0), treated))

    texts = [_printed(replace(compared, early_stopping=one), 120) for one in (stopping, late)]

    assert re.search(
        r"Early stopping +verdicts that differ at best epochs: alpha 5 inconclusive "
        r"\(best epoch of alpha 0: 2\.0 of 3\)",
        texts[0],
    )
    assert re.search("Early stopping +alpha 0 has its lowest loss after its last epoch [(]epoch 3[)]", texts[1])


@pytest.mark.parametrize("recipe", [{"epochs": 3, "max_steps": 5}, {"epochs": 2.5}])
def test_the_end_of_a_training_within_an_epoch_is_not_called_that_of_the_epoch(recipe: Mapping[str, float]) -> None:
    compared = _compared({"alpha=5": assessment(-0.02, 0.01, "better")})
    baseline, treated = early_stopping().arms
    late = EarlyStopping((1, 2, 3), (replace(baseline, best_epoch=3.0), treated))

    text = _printed(replace(compared, early_stopping=late, setting=replace(compared.setting, recipe=recipe)), 120)

    assert "alpha 0 has its lowest loss at the end of its training\n" in text


def test_one_step_is_singular() -> None:
    compared = _four_arms()

    text = _printed(replace(compared, setting=replace(compared.setting, recipe={"max_steps": 1})), 120)

    assert " · 1 step · " in text


def test_a_single_arm_is_told_the_sweep_that_compares() -> None:
    alone = replace(comparison(hand_made().arms[0]), origin=ORIGIN)
    text = _printed(alone, 80)

    assert "\nNOTHING TO COMPARE  Alpha 0 is the only finished arm.\n" in text
    assert "Next     neftune sweep results/bios/sweep.yaml --alphas 0,5,10,15 \\\n" in text
    assert "verdict" not in text


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 paired seed the"), (2, "2 paired seeds the")])
def test_too_few_seeds_have_no_verdict(seeds: int, words: str) -> None:
    text = _printed(_compared({"alpha=5": assessment(0.02, 0.01, None, seeds=seeds)}), 80)

    assert f"\nNO VERDICT  With {words} differences describe these trained models" in text
    assert "unadjusted" in text
    assert "no verdict" in text


def test_a_value_that_is_not_finite_has_no_verdict() -> None:
    diverged = summary("alpha=5", 5.0, {"eval_loss": estimate((1.4, math.inf, 1.5), BASELINE)})
    text = _printed(comparison(summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE)}), diverged), 80)

    assert "\nNO VERDICT  No arm has a verdict on held-out loss: a value is not finite.\n" in text
    assert re.search("^ +5 +not finite +– +– +no verdict$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([(0, 1, 2)] * 2, "seeds 0-2"),
        ([(4,)], "seed 4"),
        ([(0, 2, 7)], "seeds 0, 2, 7"),
        ([(0, 2, 4, 6, 8)], "5 seeds"),
        ([(0, 1, 2), (0, 1)], "2 to 3 seeds"),
        ([(0, 1), (2, 3)], "2 seeds per arm"),
    ],
)
def test_seeds_are_short(seeds: list[tuple[int, ...]], text: str) -> None:
    assert short_seeds_text(seeds) == text


def test_several_comparisons_follow_each_other_and_only_written_reports_are_named() -> None:
    text = io.StringIO()
    other = replace(_four_arms(), sweep="other", origin=TrialOrigin(("results/other",), is_sweep=True))

    options = ScreenOptions(reported=["results/bios"])
    print_comparisons(Console(file=text, width=80), [_four_arms(), other], options)

    assert text.getvalue().count("\nReport ") == 1
    assert [line[:5] for line in text.getvalue().splitlines() if "  tiny on bios" in line] == ["bios ", "other"]


@pytest.mark.parametrize(("high", "is_named"), [(0.01, True), (0.3, False)])
def test_another_experiment_is_advised_where_seeds_decide_nothing(high: float, is_named: bool) -> None:
    chances = tuple(Outlook(20, effect, 0.0, 0.0, high) for effect in (0.0, -0.01, -0.02))

    sentence = chance_sentence(replace(_four_arms(), outlooks={"alpha=5": chances}))

    advice = "in a new sweep, train longer, use a larger learning rate, or declare a larger margin"
    assert sentence.endswith(f"unlikely to decide the open arms: {advice}") is is_named


def test_a_chance_is_never_given_as_certain() -> None:
    assert [share_range(0.0, 1.0), share_range(0.25, 0.25)] == ["<1% to >99%", "25%"]


def _compared(assessed: Mapping[str, Assessment]) -> Comparison:
    alphas = {name: float(name.partition("=")[2]) for name in assessed}
    arms = [summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE)}, noise_ratio=0.0)]
    arms += [
        summary(name, alphas[name], {"eval_loss": estimate(BASELINE[: one.paired.seeds], BASELINE, one)})
        for name, one in assessed.items()
    ]
    controls = tuple(name for name, one in assessed.items() if one.role == "control")
    return replace(comparison(*arms), plan=AnalysisPlan(controls=controls), margins={"eval_loss": Margin(0.02)})


def _four_arms(count: int = 4) -> Comparison:
    """Return arms of alpha 0, 5, 10, ... without a decision."""
    scores = estimate((0.4,) * 3)
    arms = [summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE), "exact_match": scores}, noise_ratio=0.0)]
    for alpha in range(5, 5 * count, 5):
        estimates = {
            "eval_loss": estimate(BASELINE, BASELINE, assessment(-0.02, 0.1)),
            "exact_match": estimate((0.5,) * 3, (0.4,) * 3, assessment(0.1, 0.2)),
        }
        arms.append(summary(f"alpha={alpha}", float(alpha), estimates, noise_ratio=0.097))
    names = [arm.name for arm in arms[1:]]
    test = noise_test(assessment(-0.01, 0.05), assessment(0.0, 0.05), names)
    return replace(
        comparison(*arms),
        base_scores={"eval_loss": 4.2, "exact_match": 0.0},
        noise_tests={"eval_loss": test} if count > 2 else {},
        outlooks=dict.fromkeys(names, OUTLOOKS),
        origin=ORIGIN,
    )


def _with_everything(compared: Comparison) -> Comparison:
    """Return the comparison with every line that the screen can have."""
    stopping = early_stopping() if len(compared.arms) > 1 else None
    missing = tuple(f"alpha=5,seed={seed} failed: out of memory" for seed in range(3, 9))
    return replace(
        compared, early_stopping=stopping, unfinished=missing, difference_from_first="It has another learning rate."
    )


def _printed(compared: Comparison, width: int) -> str:
    text = io.StringIO()
    print_screen(Console(file=text, width=width), compared, report="results/bios/report.html")
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
