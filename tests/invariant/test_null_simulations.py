"""Error rates of the paired comparison on simulated sweeps, as in `make simulations`, and tests of the simulator.

Tests use bounds that a rate at the end of its permitted range exceeds with a probability of 0.1%.
"""

import math
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from experiments.null_simulations.__main__ import app
from experiments.null_simulations.binary_metrics import MARGIN, binary_rates, binary_scenario
from experiments.null_simulations.error_rates import ErrorRates, Rate, error_rates, generator, rate
from experiments.null_simulations.few_clusters import cluster_rates, few_clusters, unequal_clusters
from experiments.null_simulations.limits import (
    COVERAGE,
    FALSE_POSITIVES,
    exceeded_cluster_limits,
    exceeded_limits,
)
from experiments.null_simulations.optional_stopping import optional_stopping_rates
from experiments.null_simulations.power import EFFECTS, Power, seeds_needed
from experiments.null_simulations.report import error_table
from experiments.null_simulations.simulated_sweeps import (
    EXACT_MATCH,
    HELD_OUT_LOSS,
    ITEMS_ALONE,
    RARE_EVENTS,
    SCENARIOS,
    Scenario,
    SimulatedSweep,
    seed_means,
    simulate,
)
from experiments.null_simulations.variance_components import metric_components, sweep_components, table_components
from experiments.null_simulations.verdict_errors import MARGINS, verdict_error_rates
from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.records import EvalMetrics, ExampleLoss
from neftune_cli.store import SweepFolder
from tests.finished_trials import trial_record, write_trial

REPETITIONS = 400
DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"


def lower_bound(share: float) -> float:
    """Return the lower bound of the observed rate for this true rate."""
    return float(binom.ppf(0.0005, REPETITIONS, share)) / REPETITIONS


def upper_bound(share: float) -> float:
    """Return the upper bound of the observed rate for this true rate."""
    return float(binom.ppf(0.9995, REPETITIONS, share)) / REPETITIONS


@pytest.mark.parametrize(
    ("scenario", "seeds"),
    [
        (HELD_OUT_LOSS, 3),
        (EXACT_MATCH, 5),
        (ITEMS_ALONE, 3),
        pytest.param(HELD_OUT_LOSS, 5, marks=pytest.mark.slow),
        pytest.param(EXACT_MATCH, 3, marks=pytest.mark.slow),
        pytest.param(ITEMS_ALONE, 5, marks=pytest.mark.slow),
    ],
    ids=lambda one: one.name if isinstance(one, Scenario) else None,
)
def test_error_rates_are_within_their_limits(scenario: Scenario, seeds: int) -> None:
    rates = error_rates(scenario, seeds, REPETITIONS)
    assert lower_bound(FALSE_POSITIVES[0]) <= rates.false_positives.value <= upper_bound(FALSE_POSITIVES[1])
    assert rates.family_wise.value <= upper_bound(0.05)
    assert rates.all_covered.value >= lower_bound(0.95)
    assert lower_bound(COVERAGE[0]) <= rates.coverage.value <= upper_bound(COVERAGE[1])
    assert rates.false_equivalence.value <= upper_bound(0.05)


@pytest.mark.parametrize("seeds", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_rare_events_give_few_false_positives(seeds: int) -> None:
    assert error_rates(RARE_EVENTS, seeds, REPETITIONS).false_positives.value <= upper_bound(FALSE_POSITIVES[1])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", unequal_clusters(), ids=lambda one: one.name)
def test_unequal_weights_give_few_false_positives(scenario: Scenario) -> None:
    rates = cluster_rates(scenario, (10,), REPETITIONS)
    assert rates.false_positives.value <= upper_bound(FALSE_POSITIVES[1])
    assert rates.false_equivalence.value <= upper_bound(FALSE_POSITIVES[1])
    assert rates.as_if_equal.value >= rates.false_positives.value


@pytest.mark.parametrize(("share", "items"), [(0.01, 20), (0.01, 200), (0.2, 50)])
def test_binary_metrics_with_few_items_give_few_false_verdicts(share: float, items: int) -> None:
    rates = binary_rates(share, items, 3, REPETITIONS)
    assert rates.false_positives.value <= upper_bound(0.05)
    assert rates.false_equivalence.value <= upper_bound(0.06)


def test_rare_exact_matches_on_20_items_often_give_no_verdict() -> None:
    """If no response is correct, or all seeds differ equally in one item, the standard error is unknown."""
    assert binary_rates(0.01, 20, 3, REPETITIONS).unmeasured.value > 0.2
    assert binary_rates(0.2, 200, 5, REPETITIONS).unmeasured.value == 0


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_binary_scenario_has_its_share_and_differs_by_the_margin(share: float) -> None:
    scenario = binary_scenario(share, 200)
    draws = np.random.default_rng(3)
    sweeps = [simulate(scenario, arms=2, seeds=2, draws=draws) for _ in range(300)]
    baseline = [sweep.baseline.mean() for sweep in sweeps]
    differences = [(sweep.treated(scenario.shift)[0] - sweep.baseline).mean() for sweep in sweeps]
    for found, expected in ((baseline, share), (differences, MARGIN)):
        assert np.mean(found) == pytest.approx(expected, abs=4 * float(np.std(found)) / math.sqrt(len(found)))


@pytest.mark.parametrize("scenario", [HELD_OUT_LOSS, EXACT_MATCH], ids=lambda one: one.name)
def test_both_families_of_tests_have_their_levels(scenario: Scenario) -> None:
    rates = verdict_error_rates(scenario, MARGINS[0], 10, REPETITIONS)
    assert max(rates.difference.value, rates.equivalence.value) <= upper_bound(0.05)
    assert max(rates.difference.value, rates.equivalence.value) <= rates.either.value <= upper_bound(0.1)


def test_seeds_added_by_hand_increase_false_positives_and_planned_looks_do_not() -> None:
    rates = optional_stopping_rates(HELD_OUT_LOSS, REPETITIONS)
    assert rates.first_test.value <= upper_bound(FALSE_POSITIVES[1])
    assert rates.by_hand.value > 0.08  # about 5% at the first test, more at the second and third
    assert rates.looks_by_hand.value > 0.08
    assert rates.first_test.value <= rates.by_hand.value <= upper_bound(0.15)  # at most three times 5%
    assert rates.planned.value <= upper_bound(0.05)
    assert rates.planned.value < rates.then_planned.value
    assert rates.new_seeds_only.value <= upper_bound(FALSE_POSITIVES[1])


@pytest.mark.parametrize("looks", [(20,), (5, 8, 12, 20)], ids=["fixed", "planned"])
def test_two_clusters_give_few_false_verdicts(looks: tuple[int, ...]) -> None:
    scenario = next(one for one in few_clusters() if one.name == "2 clusters, 0.5 x")
    rates = cluster_rates(scenario, looks, REPETITIONS)
    assert rates.false_positives.value <= upper_bound(0.05)
    assert rates.false_equivalence.value <= upper_bound(0.05)
    assert not list(exceeded_cluster_limits([rates]))
    assert rates.without_clusters_alone.value > upper_bound(FALSE_POSITIVES[1])
    wrong = replace(rates, false_positives=rates.without_clusters_alone)
    assert len(list(exceeded_cluster_limits([wrong]))) == 1


def test_weights_of_items_have_their_spread() -> None:
    equal, unequal = (
        np.concatenate(
            [simulate(one, arms=1, seeds=1, draws=np.random.default_rng(draw)).weights for draw in range(50)]
        )
        for one in (few_clusters()[-1], unequal_clusters()[-1])
    )
    assert set(equal) == {1.0}
    assert np.log(unequal).std() == pytest.approx(1.0, rel=0.05)


def test_limits_detect_a_test_that_treats_items_as_fixed() -> None:
    """Seeds agree here because they share their items, so the paired t-test of seed means has false positives."""
    draws = generator(ITEMS_ALONE, 5)
    sweeps = [simulate(ITEMS_ALONE, arms=2, seeds=5, draws=draws) for _ in range(REPETITIONS)]
    differences = np.diff([seed_means(sweep) for sweep in sweeps], axis=1)[:, 0]
    errors = differences.std(axis=1, ddof=1) / math.sqrt(5)
    significant = np.abs(differences.mean(axis=1)) / errors > 2.776  # 97.5% quantile of t with 4 degrees of freedom
    assert significant.mean() > upper_bound(FALSE_POSITIVES[1])


def aligned(sweep: SimulatedSweep) -> AlignedMetric:
    values = np.concatenate([sweep.baseline[None], sweep.treated()])
    names, clusters = tuple(map(str, range(len(values)))), tuple(map(str, sweep.scenario.clusters))
    return AlignedMetric(names, tuple(range(values.shape[1])), clusters, values, sweep.weights)


def test_simulated_sweeps_have_the_variance_components_of_the_scenario() -> None:
    variances = HELD_OUT_LOSS.variances
    draws = np.random.default_rng(0)
    found = [metric_components(aligned(simulate(HELD_OUT_LOSS, arms=3, seeds=40, draws=draws))) for _ in range(20)]
    of_seeds = [one.differences["1"].seed for one in found]
    assert np.mean(of_seeds) == pytest.approx(2 * (variances.treated_seed + variances.arm_seed), rel=0.15)
    shared = variances.seed + variances.treated_seed
    # items that arms do not share lower the correlation of the means a little
    assert np.mean([one.between_arms for one in found]) == pytest.approx(shared / variances.of_seed, abs=0.1)
    assert np.mean([one.covariance for one in found]) == pytest.approx(variances.seed, abs=0.1 * variances.of_seed)
    # unequal cluster weights multiply the variance by 1.45; the noise is averaged over 200 items
    assert np.mean([one.differences["1"].cluster for one in found]) == pytest.approx(
        1.45 * 2 * variances.arm_cluster, rel=0.25
    )
    assert np.mean([one.differences["1"].residual for one in found]) == pytest.approx(
        2 * variances.noise * 144 / 200, rel=0.1
    )


def test_simulated_exact_match_has_the_measured_mean_and_components() -> None:
    """Measured with twelve seeds: mean 0.595, seed 0.0033, residual 0.113, covariance of arms over seeds 0.0018."""
    draws = np.random.default_rng(0)
    found = [metric_components(aligned(simulate(EXACT_MATCH, arms=3, seeds=40, draws=draws))) for _ in range(20)]
    assert np.mean([one.level for one in found]) == pytest.approx(0.595, abs=0.03)
    assert np.mean([one.differences["1"].seed for one in found]) == pytest.approx(0.0033, rel=0.2)
    assert np.mean([one.differences["1"].residual for one in found]) == pytest.approx(0.113, rel=0.15)
    assert np.mean([one.covariance for one in found]) == pytest.approx(0.0018, rel=0.3)
    assert np.mean([one.between_arms for one in found]) == pytest.approx(0.55, abs=0.1)


def test_variance_components_match_a_table_by_hand() -> None:
    # rows differ by 2 and columns by 4 without residual: mean squares are 3 x 2, 2 x 16 and 0
    table = np.array([[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]])
    found = table_components(table)
    assert (found.seed, found.cluster, found.residual) == pytest.approx((2.0, 16.0, 0.0), abs=1e-12)


def test_variance_components_of_a_sweep_match_its_trials(tmp_path: Path) -> None:
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
    """Write a finished trial with these held-out losses."""
    alpha = float(arm.removeprefix("alpha="))
    undefined = EvalMetrics.model_validate(dict.fromkeys(EvalMetrics.model_fields))
    record = trial_record(f"{arm}{seed}", arm, seed, alpha=alpha, eval=undefined)
    folder = sweep.trial(record.trial, arm, seed)
    examples = [
        ExampleLoss(split="held-out", epoch=1, example=f"e{number}", cluster=f"c{number}", loss=value, tokens=5)
        for number, value in enumerate(losses)
    ]
    write_trial(folder, record, examples)


@pytest.mark.parametrize("scenario", [EXACT_MATCH, RARE_EVENTS, HELD_OUT_LOSS], ids=lambda one: one.name)
def test_mean_difference_of_many_sweeps_is_the_true_effect(scenario: Scenario) -> None:
    draws = np.random.default_rng(1)
    differences = []
    for _ in range(300):
        sweep = simulate(scenario, arms=2, seeds=10, draws=draws)
        differences.append(float(np.mean(sweep.treated(scenario.shift)[0] - sweep.baseline)))
    error = float(np.std(differences)) / math.sqrt(len(differences))
    assert np.mean(differences) == pytest.approx(scenario.effect(scenario.shift), abs=4 * error)
    assert scenario.effect(0.0) == 0


def test_own_seeds_are_not_paired() -> None:
    shared = replace(HELD_OUT_LOSS.variances, seed=1.0, arm_seed=0.0)
    scenario = replace(HELD_OUT_LOSS, variances=shared)
    draws = np.random.default_rng(2)
    for own_seeds, expected in ((False, 0.0), (True, 2.0)):
        means = seed_means(simulate(scenario, arms=2, seeds=500, draws=draws, own_seeds=own_seeds))
        assert np.var(means[1] - means[0]) == pytest.approx(expected, abs=0.4)


def test_error_rates_are_deterministic() -> None:
    assert error_rates(EXACT_MATCH, 3, 10) == error_rates(EXACT_MATCH, 3, 10)


def test_monte_carlo_error_counts_each_sweep_once() -> None:
    found = rate([[True, True], [False, False], [True, False], [False, False]])
    assert found.value == 0.375
    assert found.error == pytest.approx(np.std([1, 0, 0.5, 0], ddof=1) / 2)


def test_exceeded_limits_are_named() -> None:
    within, high = Rate(0.05, 0.007), Rate(0.08, 0.009)
    fine = ErrorRates(HELD_OUT_LOSS, 5, within, within, Rate(0.95, 0.007), Rate(0.96, 0.007), within)
    assert not list(exceeded_limits([fine]))
    wrong = replace(fine, false_positives=high, coverage=Rate(0.92, 0.009))
    assert list(exceeded_limits([fine, wrong])) == [
        "held-out loss, 5 seeds: false positives 8.0%, not 3% to 7%.",
        "held-out loss, 5 seeds: coverage 92.0%, not 93% to 97%.",
    ]
    cautious = replace(fine, false_positives=Rate(0.01, 0.003))
    assert list(exceeded_limits([cautious]))
    assert not list(exceeded_limits([replace(cautious, seeds=3)]))


def test_seeds_needed_are_interpolated() -> None:
    def power(seeds: int, paired: float) -> Power:
        return Power(seeds, (0.0, paired, 1.0), (0.0, paired / 2, 1.0))

    curve = (power(5, 0.5), power(10, 0.7), power(20, 0.9))
    middle = EFFECTS.index(1.0)
    assert seeds_needed(curve, middle, paired=True) == pytest.approx(15)
    assert seeds_needed(curve, middle, paired=False) is None
    assert seeds_needed(curve, EFFECTS.index(2.0), paired=True) == 5


@pytest.mark.slow
def test_document_has_the_printed_table() -> None:
    """The lines of one of eight scenarios, with all digits."""
    table = error_table([error_rates(EXACT_MATCH, seeds, 1000) for seeds in (3, 5, 10)])
    document = [line.split() for line in DOCUMENT.read_text(encoding="utf-8").splitlines()]
    for line in table.splitlines()[2:]:
        assert line.split() in document


def test_realistic_scenarios_have_the_measured_numbers_of_items_and_clusters() -> None:
    assert [(one.items, len(set(one.clusters))) for one in SCENARIOS if one.realistic] == [
        (200, 144),
        (120, 108),
        (200, 144),
    ]
