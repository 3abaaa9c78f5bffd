"""Planned looks in simulated sweeps: the arrays of the simulations beside `Design`, and error rates of both."""

import numpy as np
import pytest

from experiments.null_simulations.planned_looks import hommel_rows, noise_p_values, replay, simes_rows
from experiments.null_simulations.planned_tables import planned_design
from experiments.null_simulations.seed_level import SeedModel
from neftune_cli.analysis.multiplicity import hommel, simes
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import METRICS

LOSS = METRICS["eval_loss"]
EFFECTS = {"none": (0.0, 0.0, 0.0), "one": (0.0, 1.2, 0.0), "several": (0.7, -0.9, 1.0)}


@pytest.mark.parametrize("looks", [(5, 8, 12, 20), (6,)], ids=["planned", "fixed"])
@pytest.mark.parametrize("effects", EFFECTS.values(), ids=list(EFFECTS))
def test_arrays_give_the_decisions_of_the_analysis(effects: tuple[float, ...], looks: tuple[int, ...]) -> None:
    differences = SeedModel().differences(25, looks[-1], np.random.default_rng(4)) + np.array(effects)[:, None]
    found = replay(differences, 1.0, looks)
    for sweep, of_arms in enumerate(differences):
        design = planned_design(np.concatenate([np.zeros_like(of_arms[:1]), of_arms])[..., None], looks)
        assessed = design.assess(LOSS, 1.0, design.taken(LOSS, 1.0))
        assert assessed.noise_test is not None
        assert assessed.noise_test.p_value == pytest.approx(found.p_noise[sweep], rel=1e-9)
        for arm, one in enumerate(assessed.arms.values()):
            assert one.p_adjusted == pytest.approx(found.p_adjusted[sweep, arm], rel=1e-9)
            assert one.p_equivalent == pytest.approx(found.p_equivalent[sweep, arm], rel=1e-9)
            assert one.comparison.seeds == found.seeds[sweep, arm]
            assert (one.interval.low, one.interval.high) == pytest.approx(tuple(found.interval[sweep, arm]), abs=1e-9)


def test_arrays_of_one_arm_give_the_decisions_of_the_analysis() -> None:
    differences = SeedModel(1, (1.0,), 1.0).differences(20, 20, np.random.default_rng(5)) + 0.6
    found = replay(differences, 1.0)
    for sweep, of_arm in enumerate(differences):
        design = planned_design(np.concatenate([np.zeros_like(of_arm), of_arm])[..., None])
        (one,) = design.assess(LOSS, 1.0, design.taken(LOSS, 1.0)).arms.values()
        assert one.p_adjusted == pytest.approx(found.p_adjusted[sweep, 0], rel=1e-9)
        assert one.comparison.seeds == found.seeds[sweep, 0]


@pytest.mark.parametrize("tests", [1, 2, 3, 5])
def test_rows_are_adjusted_like_single_sweeps(tests: int) -> None:
    p_values: Floats = np.random.default_rng(tests).uniform(size=(30, tests)) ** 2
    for row, adjusted, combined in zip(p_values, hommel_rows(p_values), simes_rows(p_values), strict=True):
        assert adjusted == pytest.approx(hommel(row.tolist()))
        assert combined == pytest.approx(simes(row.tolist()))


def test_absent_arms_are_no_tests() -> None:
    differences = SeedModel().differences(6, 8, np.random.default_rng(6))
    present = np.array([[True, False, True], [False, False, True]] * 3)
    found = noise_p_values(differences, present)
    one_arm = noise_p_values(differences[:, 2:], np.ones((6, 1), dtype=bool))
    assert found[1::2] == pytest.approx(one_arm[1::2])
    assert np.isinf(noise_p_values(differences, np.zeros((6, 3), dtype=bool))).all()
