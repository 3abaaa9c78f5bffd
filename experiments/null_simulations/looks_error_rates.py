"""Error rates, power and intervals of planned looks at seed level, in many simulated sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, Rate, rate, rate_of_sweeps
from experiments.null_simulations.planned_looks import Flags, Replay, replay
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import Floats

MARGIN = 1.0
"""Equivalence margin in standard deviations of a difference, at which both families of tests decide often."""
FAILING = "lognormal, 3 x"

NULL_MODELS = {
    **{f"one arm, {spread:g} x": SeedModel(1, (spread,), 1.0) for spread in (0.5, 1.0, 2.0, 3.0)},
    "one arm, t": SeedModel(1, (1.0,), 1.0, shape="t, 3 degrees"),
    "one arm, t, 3 x": SeedModel(1, (3.0,), 1.0, shape="t, 3 degrees"),
    **{
        f"correlation {between:g}, {spread:g} x": SeedModel(3, (spread,), between, 0.35 if between else 0.0)
        for between in (0.0, 0.75, 0.98)
        for spread in (0.5, 1.0, 2.0, 3.0)
    },
    **{f"9 arms, {spread:g} x": SeedModel(9, (spread,), 0.0, 0.0) for spread in (1.0, 3.0)},
    "spreads 0.5, 1 and 3 x": SeedModel(3, (0.5, 1.0, 3.0)),
    "t": SeedModel(3, shape="t, 3 degrees"),
    "t, 3 x": SeedModel(3, (3.0,), shape="t, 3 degrees"),
    "lognormal": SeedModel(3, shape="lognormal"),
    FAILING: SeedModel(3, (3.0,), shape="lognormal"),
    "one arm, lognormal": SeedModel(1, (1.0,), 1.0, shape="lognormal"),
    "one arm, lognormal, 3 x": SeedModel(1, (3.0,), 1.0, shape="lognormal"),
}
"""Title to model. `3 x`: the noise of the arms has three times the standard deviation of the baseline's."""


ONE_ARM, THREE_ARMS = SeedModel(1, (1.0,), 1.0), SeedModel(3)
POWER_ROWS = (
    *((ONE_ARM, (effect,), margin) for margin in (0.0, 0.5, 1.0) for effect in (0.0, 0.5, 1.0, 2.0)),
    *((THREE_ARMS, (effect,) * 3, 0.0) for effect in (0.0, 0.5, 1.0, 2.0)),
    *(
        (THREE_ARMS, effects, 1.0)
        for effects in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 2.0, 0.0), (1.0, 1.0, 0.0), (-1.0, 0.0, 1.0))
    ),
)
"""Models, true effects of the arms and margins, in standard deviations of a difference. A margin of 0 is none."""


@dataclass(frozen=True)
class LooksErrorRates:
    """Error rates of planned looks in one model, both families at the 5% level."""

    family_wise: Rate
    """Any adjusted p-value of a difference below 5% without an effect."""
    any_noise: Rate | None
    """p-value of the test of any noise below 5% without an effect; None with one arm."""
    false_equivalence: Rate
    """Any arm equivalent if all differ by the margin; the larger rate of margins above and below zero."""
    any_false: Rate
    """Any false verdict if the first arm has no effect and the others differ by the margin. With one arm the larger of
    the other two rates."""
    uncovered: Rate
    """Any simultaneous interval, at the last look of its arm, that misses the true effect. No arm has an effect."""
    seeds: float
    """Mean number of seeds of an arm without an effect."""


def looks_error_rates(title: str, sweeps: int, looks: tuple[int, ...] = DEFAULT_LOOKS) -> LooksErrorRates:
    """Return the rates of the model with this title in `NULL_MODELS`. Results are deterministic."""
    model = NULL_MODELS[title]
    differences = model.differences(sweeps, looks[-1], seed_generator(title))
    null = replay(differences, MARGIN, looks)
    equivalence = _larger(*(_any(replay(differences + end, MARGIN, looks).equivalent) for end in (MARGIN, -MARGIN)))
    family_wise = _any(null.different)
    return LooksErrorRates(
        family_wise=family_wise,
        any_noise=rate_of_sweeps(null.p_noise <= LEVEL) if model.arms > 1 else None,
        false_equivalence=equivalence,
        any_false=_any_false(differences, looks) if model.arms > 1 else _larger(family_wise, equivalence),
        uncovered=_any(null.misses(np.zeros(model.arms))),
        seeds=float(null.seeds.mean()),
    )


def _any_false(differences: Floats, looks: tuple[int, ...]) -> Rate:
    def of(margin: float) -> Rate:
        effects = np.array([0.0, *[margin] * (differences.shape[1] - 1)])
        found = replay(differences + effects[:, None], MARGIN, looks)
        false_difference = found.different[:, 0] & ~found.equivalent[:, 0]
        return rate_of_sweeps(false_difference | found.equivalent[:, 1:].any(axis=1))

    return _larger(of(MARGIN), of(-MARGIN))


def _any(happened: Flags) -> Rate:
    return rate_of_sweeps(np.atleast_1d(happened.any(axis=1)))


def _larger(*rates: Rate) -> Rate:
    return max(rates, key=lambda one: one.value)


@dataclass(frozen=True)
class LooksPower:
    """Chances of a verdict with planned looks for true effects, in standard deviations of a difference."""

    effects: tuple[float, ...]
    """True effect of each arm."""
    margin: float
    shown: Rate
    """Share of the arms with an effect whose difference is shown; without any, of all arms."""
    ungated: Rate
    """The same without the any-noise test."""
    equivalent: Rate
    """Share of the same arms whose equivalence is shown."""
    decided: Rate
    """Share of the arms with an effect that are decided; without any, of all arms."""
    null_arms: Rate | None
    """Any difference shown of an arm without an effect, if others have one."""
    uncovered: Rate
    """Any simultaneous interval, at the last look of its arm, that misses the true effect."""
    seeds: float
    """Mean number of seeds of the same arms."""


def looks_power(
    model: SeedModel,
    effects: Sequence[float],
    margin: float,
    sweeps: int,
    looks: tuple[int, ...] = DEFAULT_LOOKS,
) -> LooksPower:
    """Return the chances in simulated sweeps. Results are deterministic."""
    draws = seed_generator(model, effects)
    true = np.array(effects)
    differences: Floats = model.differences(sweeps, looks[-1], draws) + true[:, None]
    found, ungated = replay(differences, margin, looks), replay(differences, margin, looks, gate=False)
    real = true != 0 if true.any() else true == 0
    return LooksPower(
        effects=tuple(effects),
        margin=margin,
        shown=rate(found.different[:, real]),
        ungated=rate(ungated.different[:, real]),
        equivalent=rate(found.equivalent[:, real]),
        decided=rate(found.decided[:, real]),
        null_arms=None if real.all() else _any(found.different[:, ~real]),
        uncovered=_any(found.misses(true)),
        seeds=_mean_seeds(found, real),
    )


def _mean_seeds(found: Replay, arms: Flags) -> float:
    return float(found.seeds[:, arms].mean())
