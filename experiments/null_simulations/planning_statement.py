"""Chances of a decision that `compare` states after the first seeds, beside the frequencies of these decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, product

import numpy as np

from experiments.null_simulations.error_rates import LEVEL
from experiments.null_simulations.planned_looks import Flags, Replay, TTests, replay
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.outlook import Family, Outlook, outlook
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import Floats

MEASURED_SEEDS = (3, 5)
"""Seeds from which the chances are stated: of a fixed design, and of the first planned look."""
MARGINS = (0.5, 1.0, 2.0)
"""In standard deviations of a difference."""
EFFECTS = (0.0, 1.0, 2.0)
"""Assumed and true effects, in margins."""

STATEMENTS = tuple(product((1, 3), MEASURED_SEEDS, MARGINS, EFFECTS))
"""Numbers of arms and of seeds, margins and effects."""
RANGES, CONTINUATIONS = 50, 300
"""Sweeps of a row whose ranges are checked, and simulated continuations of each. The standard error of a true chance is
at most 3 percentage points."""
RANGE_TOLERANCE = 0.1
"""Distance between a true chance and the stated range up to which the statement counts as right."""


@dataclass(frozen=True)
class Statement:
    """Chances of a decision in sweeps that were not decided with the measured seeds, 0 to 1."""

    arms: int
    measured: int
    margin: float
    effect: float
    """In margins; of all arms."""
    stated: tuple[float, float]
    """Mean stated chance until the next look and until the last one."""
    happened: tuple[float, float]
    """Share of the same sweeps in which the first arm was decided until then."""
    open: float
    """Share of the sweeps that were not decided with the measured seeds."""
    right: float
    """Share of the ranges, of both looks, that are at most 10 percentage points from the true chance of their sweep."""

    @property
    def errors(self) -> tuple[float, float]:
        """Return stated minus true chance, for the next look and for the last one."""
        return self.stated[0] - self.happened[0], self.stated[1] - self.happened[1]


def statement(arms: int, measured: int, margin: float, effect: float, sweeps: int) -> Statement:
    """Return the chances in simulated sweeps. Results are deterministic."""
    model = SeedModel(arms) if arms > 1 else SeedModel(1, (1.0,), 1.0)
    draws = seed_generator(arms, measured, margin, effect)
    differences = model.differences(sweeps, DEFAULT_LOOKS[-1], draws) + effect * margin
    coming = [look for look in DEFAULT_LOOKS if look > measured]
    planned = replay(differences, margin)
    first = planned if measured in DEFAULT_LOOKS else replay(differences, margin, (measured,))
    decided = first.decided & (first.seeds == measured)
    is_open = ~decided[:, 0]
    stated = [
        _stated(of_sweep[0, :measured], margin, effect * margin, family, (coming[0], coming[-1]))
        for of_sweep, family in zip(
            differences[is_open], compress(_families(decided, first.equivalent), is_open), strict=True
        )
    ]
    checked = zip(differences[is_open][:RANGES], stated, strict=False)
    right = [
        one.low - RANGE_TOLERANCE <= true <= one.high + RANGE_TOLERANCE
        for of_sweep, ranges in checked
        for one, true in zip(
            ranges, _true_chances(of_sweep[:, :measured], model, margin, effect, coming, draws), strict=True
        )
    ]
    next_chance, last_chance = np.mean([[one.chance for one in ranges] for ranges in stated], axis=0)
    return Statement(
        arms,
        measured,
        margin,
        effect,
        stated=(float(next_chance), float(last_chance)),
        happened=(
            float(_decided_until(planned, coming[0])[is_open].mean()),
            float(planned.decided[is_open, 0].mean()),
        ),
        open=float(is_open.mean()),
        right=float(np.mean(right)),
    )


def _true_chances(
    measured: Floats,  # (arms, seeds)
    model: SeedModel,
    margin: float,
    effect: float,
    coming: Sequence[int],
    draws: np.random.Generator,
) -> tuple[float, float]:
    """Return the chance that the first arm is decided until the next look and until the last, given measured seeds."""
    continued = model.differences(CONTINUATIONS, DEFAULT_LOOKS[-1], draws) + effect * margin
    continued[..., : measured.shape[-1]] = measured
    found = replay(continued, margin)
    return float(_decided_until(found, coming[0]).mean()), float(found.decided[:, 0].mean())


def _families(
    decided: Flags,  # (sweeps, arms)
    equivalent: Flags,  # (sweeps, arms)
) -> list[Family]:
    """Return the family of tests of each sweep with the measured seeds."""
    arms, of_difference, of_equivalence = decided.shape[1], decided & ~equivalent, decided & equivalent
    counts = zip(of_difference.sum(axis=1).tolist(), of_equivalence.sum(axis=1).tolist(), strict=True)
    return [Family(open=arms - one - other, different=one, equivalent=other) for one, other in counts]


def _stated(
    differences: Floats,  # (seeds,)
    margin: float,
    effect: float,
    family: Family,
    looks: tuple[int, int],
) -> tuple[Outlook, Outlook]:
    found = TTests.of(differences)
    seeds = len(differences)
    variance = float(found.error**2 * seeds)
    mean = CrossedMean(float(found.mean), variance, 0.0, seeds, 1, seeds - 1, 1.0)
    test = SequentialTest(DEFAULT_LOOKS)
    chances = outlook(mean, effect, margin=margin, test=test, significance=LEVEL, looks=looks, family=family)
    return chances[0], chances[-1]


def _decided_until(found: Replay, seeds: int) -> Flags:
    """Return whether the first arm was decided with at most this number of seeds, (sweeps,)."""
    return found.decided[:, 0] & (found.seeds[:, 0] <= seeds)
