"""The promises of the paired inference on simulated sweeps: `make simulations` in small, and the simulator itself.

Limits are what a rate at the edge of its promised range stays within 99.9% of the time.
"""

import math
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from experiments.null_simulations.__main__ import app
from experiments.null_simulations.components import metric_components, sweep_components, table_components
from experiments.null_simulations.counts import MARGIN, count_rates, counting
from experiments.null_simulations.error_rates import ErrorRates, Rate, error_rates, generator, rate
from experiments.null_simulations.looks import look_rates
from experiments.null_simulations.power import EFFECTS, Power, seeds_needed
from experiments.null_simulations.promises import COVERAGE, FALSE_POSITIVES, broken_promises
from experiments.null_simulations.records import Records, seed_means, simulate
from experiments.null_simulations.report import promises_table
from experiments.null_simulations.scenarios import (
    EXACT_MATCH,
    HELD_OUT_LOSS,
    ITEMS_ALONE,
    RARE_EVENTS,
    SCENARIOS,
    Scenario,
)
from experiments.null_simulations.words import MARGINS, word_rates
from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.records import EvalMetrics, ExampleLoss, LossMetrics, TrialRecord
from neftune_cli.store import SweepFolder
from tests.finished_trials import leave

REPETITIONS = 400
DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"


def least(share: float) -> float:
    """Return the lowest rate that a true one of this size may show."""
    return float(binom.ppf(0.0005, REPETITIONS, share)) / REPETITIONS


def most(share: float) -> float:
    """Return the highest one."""
    return float(binom.ppf(0.9995, REPETITIONS, share)) / REPETITIONS


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("scenario", [HELD_OUT_LOSS, EXACT_MATCH, ITEMS_ALONE], ids=lambda one: one.name)
def test_no_promise_is_broken(scenario: Scenario, seeds: int) -> None:
    rates = error_rates(scenario, seeds, REPETITIONS)
    assert least(FALSE_POSITIVES[0]) <= rates.false_positives.value <= most(FALSE_POSITIVES[1])
    assert rates.family_wise.value <= most(0.05)
    assert least(COVERAGE[0]) <= rates.coverage.value <= most(COVERAGE[1])
    assert rates.false_equivalence.value <= most(0.05)


@pytest.mark.parametrize("seeds", [3, 5])
def test_rare_events_are_no_findings(seeds: int) -> None:
    assert error_rates(RARE_EVENTS, seeds, REPETITIONS).false_positives.value <= most(FALSE_POSITIVES[1])


@pytest.mark.parametrize(("share", "items"), [(0.01, 20), (0.01, 200), (0.2, 50)])
def test_few_items_that_count_right_answers_are_no_findings(share: float, items: int) -> None:
    rates = count_rates(share, items, 3, REPETITIONS)
    assert rates.false_positives.value <= most(0.05)
    assert rates.false_equivalence.value <= most(0.06)


def test_where_one_answer_in_a_hundred_is_right_20_items_often_say_nothing() -> None:
    """All answers of both arms wrong, or one item in which every seed differs alike: no verdict, not a sure one."""
    assert count_rates(0.01, 20, 3, REPETITIONS).unmeasured.value > 0.2
    assert count_rates(0.2, 200, 5, REPETITIONS).unmeasured.value == 0


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_counted_answers_are_as_often_right_as_they_should_and_differ_by_the_margin(share: float) -> None:
    scenario = counting(share, 200)
    draws = np.random.default_rng(3)
    sweeps = [simulate(scenario, arms=2, seeds=2, draws=draws) for _ in range(300)]
    baseline = [sweep.baseline.mean() for sweep in sweeps]
    differences = [(sweep.treated(scenario.shift)[0] - sweep.baseline).mean() for sweep in sweeps]
    for found, expected in ((baseline, share), (differences, MARGIN)):
        assert np.mean(found) == pytest.approx(expected, abs=4 * float(np.std(found)) / math.sqrt(len(found)))


@pytest.mark.parametrize("scenario", [HELD_OUT_LOSS, EXACT_MATCH], ids=lambda one: one.name)
def test_both_families_together_err_as_often_as_their_levels_add_up_to(scenario: Scenario) -> None:
    rates = word_rates(scenario, MARGINS[0], 10, REPETITIONS)
    assert max(rates.difference.value, rates.equivalence.value) <= most(0.05)
    assert max(rates.difference.value, rates.equivalence.value) <= rates.either.value <= most(0.1)


def test_looking_again_finds_more_that_is_not_there() -> None:
    rates = look_rates(HELD_OUT_LOSS, "eval_loss", REPETITIONS)
    assert rates.first_look.value <= most(FALSE_POSITIVES[1])
    assert rates.any_look.value > 0.08  # 5% and a bit at the first look, and others at the second and third
    assert rates.first_look.value <= rates.any_look.value <= most(0.15)  # at most three times 5%
    assert rates.new_seeds_alone.value <= most(FALSE_POSITIVES[1])


def test_a_test_that_takes_items_for_fixed_would_be_found_out() -> None:
    """That the limits can be broken: seeds agree here because they share their items."""
    draws = generator(ITEMS_ALONE, 5)
    sweeps = [simulate(ITEMS_ALONE, arms=2, seeds=5, draws=draws) for _ in range(REPETITIONS)]
    differences = np.diff([seed_means(sweep) for sweep in sweeps], axis=1)[:, 0]
    errors = differences.std(axis=1, ddof=1) / math.sqrt(5)
    claims = np.abs(differences.mean(axis=1)) / errors > 2.776  # the 97.5% point of t on 4 degrees of freedom
    assert claims.mean() > most(FALSE_POSITIVES[1])


def aligned(records: Records) -> AlignedMetric:
    values = np.concatenate([records.baseline[None], records.treated()])
    names, clusters = tuple(map(str, range(len(values)))), tuple(map(str, records.scenario.clusters))
    return AlignedMetric(names, tuple(range(values.shape[1])), clusters, values, records.weights)


def test_simulated_records_have_the_components_that_were_put_in() -> None:
    put_in = HELD_OUT_LOSS.variances
    draws = np.random.default_rng(0)
    found = [metric_components(aligned(simulate(HELD_OUT_LOSS, arms=3, seeds=40, draws=draws))) for _ in range(20)]
    of_seeds = [one.differences["1"].seed for one in found]
    assert np.mean(of_seeds) == pytest.approx(2 * put_in.arm_seed, rel=0.15)
    assert np.mean([one.covariance for one in found]) == pytest.approx(put_in.seed, rel=0.25)
    # clusters of the records weigh unequally: 1.45 times the variance of one; their noise is averaged over 200 items
    assert np.mean([one.differences["1"].cluster for one in found]) == pytest.approx(
        1.45 * 2 * put_in.arm_cluster, rel=0.25
    )
    assert np.mean([one.differences["1"].rest for one in found]) == pytest.approx(2 * put_in.noise * 144 / 200, rel=0.1)


def test_simulated_exact_match_is_as_frequent_and_varies_as_in_the_records() -> None:
    """The components of results/ablation: 0.597, 0.0038, 0.137, and 0.0010 shared by arms over seeds."""
    draws = np.random.default_rng(0)
    found = [metric_components(aligned(simulate(EXACT_MATCH, arms=3, seeds=40, draws=draws))) for _ in range(20)]
    assert np.mean([one.level for one in found]) == pytest.approx(0.597, abs=0.03)
    assert np.mean([one.differences["1"].seed for one in found]) == pytest.approx(0.0038, rel=0.2)
    assert np.mean([one.differences["1"].rest for one in found]) == pytest.approx(0.137, rel=0.1)
    assert np.mean([one.covariance for one in found]) == pytest.approx(0.0010, rel=0.3)


def test_components_of_a_table_by_hand() -> None:
    # rows differ by 2 and columns by 4 without any rest: mean squares are 3 x 2, 2 x 16 and 0
    table = np.array([[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]])
    found = table_components(table)
    assert (found.seed, found.cluster, found.rest) == pytest.approx((2.0, 16.0, 0.0), abs=1e-12)


def test_components_of_a_sweep_are_those_of_its_records(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    sweep.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1]}))
    for seed, losses in enumerate(([0.0, 4.0, 8.0], [2.0, 6.0, 10.0])):
        finish(sweep, "alpha=0", seed, [1.0, 1.0, 1.0])
        finish(sweep, "alpha=5", seed, [1 + loss for loss in losses])
    found = sweep_components(tmp_path)["eval_loss"]
    assert astuple(found.differences["alpha=5"]) == pytest.approx((2.0, 16.0, 0.0), abs=1e-12)
    assert (found.level, found.covariance, found.variance) == pytest.approx((1.0, 0.0, 1.0))
    printed = CliRunner().invoke(app, ["components", str(tmp_path)])
    assert ["alpha=5", "-", "baseline", "2", "16", "0"] in [line.split() for line in printed.output.splitlines()]


def finish(sweep: SweepFolder, arm: str, seed: int, losses: list[float]) -> None:
    """Leave a trial with these held-out losses, and nothing else worth mentioning."""
    alpha = float(arm.removeprefix("alpha="))
    nothing = EvalMetrics.model_validate(dict.fromkeys(EvalMetrics.model_fields))
    loss = LossMetrics(train_loss=1, train_loss_clean=1, eval_loss=1, eval_perplexity=1)
    record = TrialRecord(trial=f"{arm}{seed}", arm=arm, alpha=alpha, seed=seed, loss=loss, eval=nothing, identity={})
    folder = sweep.trial(record.trial, arm, seed)
    examples = [
        ExampleLoss(split="held-out", epoch=1, example=f"e{number}", cluster=f"c{number}", loss=value, tokens=5)
        for number, value in enumerate(losses)
    ]
    leave(folder, record, examples)


@pytest.mark.parametrize("scenario", [EXACT_MATCH, RARE_EVENTS, HELD_OUT_LOSS], ids=lambda one: one.name)
def test_the_true_effect_of_a_shift_is_what_many_records_show(scenario: Scenario) -> None:
    draws = np.random.default_rng(1)
    shown = []
    for _ in range(300):
        records = simulate(scenario, arms=2, seeds=10, draws=draws)
        shown.append(float(np.mean(records.treated(scenario.shift)[0] - records.baseline)))
    error = float(np.std(shown)) / math.sqrt(len(shown))
    assert np.mean(shown) == pytest.approx(scenario.effect(scenario.shift), abs=4 * error)
    assert scenario.effect(0.0) == 0


def test_seeds_of_their_own_leave_nothing_shared() -> None:
    shared = replace(HELD_OUT_LOSS.variances, seed=1.0, arm_seed=0.0)
    scenario = replace(HELD_OUT_LOSS, variances=shared)
    draws = np.random.default_rng(2)
    for own_seeds, expected in ((False, 0.0), (True, 2.0)):
        means = seed_means(simulate(scenario, arms=2, seeds=500, draws=draws, own_seeds=own_seeds))
        assert np.var(means[1] - means[0]) == pytest.approx(expected, abs=0.4)


def test_the_same_call_gives_the_same_rates() -> None:
    assert error_rates(EXACT_MATCH, 3, 10) == error_rates(EXACT_MATCH, 3, 10)


def test_rates_count_a_sweep_once_however_many_arms_it_has() -> None:
    found = rate([[True, True], [False, False], [True, False], [False, False]])
    assert found.value == 0.375
    assert found.error == pytest.approx(np.std([1, 0, 0.5, 0], ddof=1) / 2)


def test_a_broken_promise_is_said() -> None:
    kept, broken = Rate(0.05, 0.007), Rate(0.08, 0.009)
    fine = ErrorRates(HELD_OUT_LOSS, 5, kept, kept, Rate(0.95, 0.007), kept)
    assert not list(broken_promises([fine]))
    wrong = replace(fine, false_positives=broken, coverage=Rate(0.92, 0.009))
    assert list(broken_promises([fine, wrong])) == [
        "held-out loss, 5 seeds: false positives 8.0%, not 3% to 7%.",
        "held-out loss, 5 seeds: coverage 92.0%, not 93% to 97%.",
    ]
    cautious = replace(fine, false_positives=Rate(0.01, 0.003))
    assert list(broken_promises([cautious]))
    assert not list(broken_promises([replace(cautious, seeds=3)]))


def test_seeds_needed_lie_between_those_simulated() -> None:
    def power(seeds: int, ours: float) -> Power:
        return Power(seeds, (0.0, ours, 1.0), (0.0, ours / 2, 1.0))

    curve = (power(5, 0.5), power(10, 0.7), power(20, 0.9))
    middle = EFFECTS.index(1.0)
    assert seeds_needed(curve, middle, paired=True) == pytest.approx(15)
    assert seeds_needed(curve, middle, paired=False) is None
    assert seeds_needed(curve, EFFECTS.index(2.0), paired=True) == 5


@pytest.mark.slow
def test_the_document_shows_what_the_command_prints() -> None:
    """One scenario of eight: its lines of the table, digit by digit."""
    table = promises_table([error_rates(EXACT_MATCH, seeds, 1000) for seeds in (3, 5, 10)])
    document = [line.split() for line in DOCUMENT.read_text(encoding="utf-8").splitlines()]
    for line in table.splitlines()[2:]:
        assert line.split() in document


def test_every_scenario_is_as_large_as_the_records() -> None:
    assert [(one.items, len(set(one.clusters))) for one in SCENARIOS if one.realistic] == [
        (200, 144),
        (120, 108),
        (200, 144),
    ]
