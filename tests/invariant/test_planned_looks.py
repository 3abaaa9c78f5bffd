"""Planned looks in simulated sweeps: the arrays of the simulations beside `Design`, and error rates of both."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from experiments.null_simulations.fixed_designs import adjustment_rates
from experiments.null_simulations.limits import exceeded_looks, exceeded_power, exceeded_statements, exceeded_tables
from experiments.null_simulations.looks_error_rates import ONE_ARM, THREE_ARMS, looks_error_rates, looks_power
from experiments.null_simulations.margins import margin_seeds
from experiments.null_simulations.planned_looks import hommel_rows, noise_p_values, replay, simes_rows
from experiments.null_simulations.planned_tables import planned_design, table_error_rates
from experiments.null_simulations.planning_statement import statement
from experiments.null_simulations.pooled_variances import pooling_rates
from experiments.null_simulations.seed_level import SeedModel
from neftune_cli.analysis.multiplicity import hommel, simes
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import METRICS

LOSS = METRICS["eval_loss"]
SWEEPS = 2000
EFFECTS = {"none": (0.0, 0.0, 0.0), "one": (0.0, 1.2, 0.0), "several": (0.7, -0.9, 1.0)}


@pytest.mark.parametrize("looks", [(5, 8, 12, 20), (6,)], ids=["planned", "fixed"])
@pytest.mark.parametrize("effects", EFFECTS.values(), ids=list(EFFECTS))
def test_arrays_give_the_decisions_of_the_analysis(effects: tuple[float, ...], looks: tuple[int, ...]) -> None:
    differences = SeedModel().differences(15, looks[-1], np.random.default_rng(4)) + np.array(effects)[:, None]
    found = replay(differences, 1.0, looks)
    for sweep, of_arms in enumerate(differences):
        design = planned_design(np.concatenate([np.zeros_like(of_arms[:1]), of_arms])[..., None], looks)
        assessed = design.assess(LOSS, 1.0, design.looks_by_arm(LOSS, 1.0))
        assert assessed.noise_test is not None
        assert assessed.noise_test.p_value == pytest.approx(found.p_noise[sweep], rel=1e-9)
        for arm, one in enumerate(assessed.arms.values()):
            assert one.p_adjusted == pytest.approx(found.p_adjusted[sweep, arm], rel=1e-9)
            assert one.p_equivalent == pytest.approx(found.p_equivalent[sweep, arm], rel=1e-9)
            assert one.paired.seeds == found.seeds[sweep, arm]
            assert (one.interval.low, one.interval.high) == pytest.approx(tuple(found.interval[sweep, arm]), abs=1e-9)


def test_arrays_of_one_arm_give_the_decisions_of_the_analysis() -> None:
    differences = SeedModel(1, (1.0,), 1.0).differences(20, 20, np.random.default_rng(5)) + 0.6
    found = replay(differences, 1.0)
    for sweep, of_arm in enumerate(differences):
        design = planned_design(np.concatenate([np.zeros_like(of_arm), of_arm])[..., None])
        (one,) = design.assess(LOSS, 1.0, design.looks_by_arm(LOSS, 1.0)).arms.values()
        assert one.p_adjusted == pytest.approx(found.p_adjusted[sweep, 0], rel=1e-9)
        assert one.paired.seeds == found.seeds[sweep, 0]


@pytest.mark.parametrize("tests", [1, 2, 3, 5])
def test_rows_are_adjusted_like_single_sweeps(tests: int) -> None:
    p_values: Floats = np.random.default_rng(tests).uniform(size=(30, tests)) ** 2
    for row, adjusted, combined in zip(p_values, hommel_rows(p_values), simes_rows(p_values), strict=True):
        assert adjusted == pytest.approx(hommel(row.tolist()))
        assert combined == pytest.approx(simes(row.tolist()))


def test_absent_arms_keep_the_number_of_tests() -> None:
    differences = SeedModel().differences(6, 8, np.random.default_rng(6))
    present = np.array([[True, False, True], [False, False, True]] * 3)
    found = noise_p_values(differences, present)
    one_arm = noise_p_values(differences[:, 2:], np.ones((6, 1), dtype=bool))
    assert found[1::2] == pytest.approx(one_arm[1::2] * 5 / 3)  # mean, trend and three arms, instead of one arm
    assert np.isinf(noise_p_values(differences, np.zeros((6, 3), dtype=bool))).all()


def upper_bound(share: float, sweeps: int = SWEEPS) -> float:
    """Return the bound that the observed rate exceeds with a probability of 0.05%, for this true rate."""
    return float(binom.ppf(0.9995, sweeps, share)) / sweeps


@pytest.mark.parametrize("title", ["one arm, 2 x", "correlation 0, 3 x", "correlation 0.75, 1 x", "t"])
def test_planned_looks_keep_their_levels(title: str) -> None:
    rates = looks_error_rates(title, SWEEPS)
    assert rates.family_wise.value <= upper_bound(0.05)
    assert rates.any_noise is None or rates.any_noise.value <= upper_bound(0.06)
    assert rates.false_equivalence.value <= upper_bound(0.05)
    assert rates.any_false.value <= upper_bound(0.1)
    assert rates.seeds < 16


def test_skewed_differences_are_where_planned_looks_fail() -> None:
    assert looks_error_rates("one arm, lognormal, 3 x", SWEEPS).false_equivalence.value > 0.1


@pytest.mark.parametrize(
    ("effect", "shown", "seeds"), [(0, 0.05, 19.7), (0.5, 0.49, 17.9), (1, 0.98, 12.2), (2, 1, 6.8)]
)
def test_power_and_seeds_of_one_arm(effect: float, shown: float, seeds: float) -> None:
    """The expected numbers are those of another implementation."""
    found = looks_power(ONE_ARM, (effect,), 0.0, SWEEPS)
    assert found.shown.value == pytest.approx(shown, abs=0.04)
    assert found.seeds == pytest.approx(seeds, abs=0.4)
    assert not list(exceeded_power([found]))


def test_an_effect_of_the_middle_arm_alone_is_shown() -> None:
    found = looks_power(THREE_ARMS, (0.0, 1.0, 0.0), 1.0, SWEEPS)
    assert found.shown.value > 0.85
    assert found.ungated.value - found.shown.value < 0.05
    assert found.null_arms is not None
    assert found.null_arms.value <= upper_bound(0.05)
    assert found.uncovered.value <= upper_bound(0.06)


@pytest.mark.parametrize("item_share", [0.0, 1.0])
def test_planned_looks_on_tables_keep_their_levels(item_share: float) -> None:
    rates = table_error_rates(item_share, 3, 40)
    assert rates.family_wise.value <= upper_bound(0.05, 40)
    assert rates.any_false.value <= upper_bound(0.1, 40)


def test_rates_outside_their_limits_are_named() -> None:
    low = looks_error_rates("t", 400)
    assert not list(exceeded_looks({"t": low}))
    assert list(exceeded_looks({"t": looks_error_rates("one arm, lognormal, 3 x", 400)}))
    assert not list(exceeded_looks({"lognormal": looks_error_rates("one arm, lognormal, 3 x", 400)}))
    assert not list(exceeded_tables([]))


@pytest.mark.parametrize("effect", [0.0, 1.0, 2.0])
def test_stated_chances_from_five_seeds_are_near_the_true_ones(effect: float) -> None:
    found = statement(1, 5, 1.0, effect, 250)
    standard_error = 0.5 / np.sqrt(250 * found.open)
    assert max(map(abs, found.errors)) <= 0.1 + 3 * standard_error
    assert not list(exceeded_statements([found]))
    assert list(exceeded_statements([replace(found, right=0.7)]))


def test_hommel_shows_more_than_holm() -> None:
    found = adjustment_rates((1.0, 1.0, 1.0), 5, SWEEPS)
    hommel_shown, holm_shown = (one.value for one in found.shown if one)
    assert hommel_shown > holm_shown + 0.02


def test_pooled_variances_exceed_the_level() -> None:
    rates = pooling_rates("arms 0.5 x", 5, SWEEPS)
    assert rates.separate.value <= upper_bound(0.05)
    assert min(rates.two_way.value, rates.differences.value, rates.moderated.value) > upper_bound(0.05) - 0.01
    assert rates.two_way.value > 0.09


def test_seeds_for_equivalence_are_nearly_those_needed() -> None:
    found = margin_seeds(0.5, SWEEPS)
    assert found.needed is not None
    assert found.stated is not None
    assert abs(found.needed - found.stated) <= 3
    assert found.false_equivalence.value <= upper_bound(0.05)
