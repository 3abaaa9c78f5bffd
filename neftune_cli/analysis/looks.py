"""Assessment of the arms of a comparison: at one look with all seeds, or at the planned looks that were taken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric, TrialsByArm, align, measured_seeds
from neftune_cli.analysis.multiplicity import simes
from neftune_cli.analysis.paired import MIN_SEEDS, PairedComparison
from neftune_cli.analysis.results import Assessment, Contrast, Interval, NoiseTest, Role
from neftune_cli.analysis.sequential import FIXED, SequentialTest
from neftune_cli.analysis.verdicts import Looks, assess, is_testable
from neftune_cli.evidence.measurements import AnalysisPlan, Floats
from neftune_cli.metrics import Metric

DECIDED = ("better", "worse", "higher", "lower", "equivalent")
"""Verdicts after which an arm gets no further seeds."""


@dataclass(frozen=True)
class MetricAssessment:
    """Assessments of all arms on one metric."""

    arms: Mapping[str, Assessment]
    noise_test: NoiseTest | None


@dataclass(frozen=True)
class Design:
    """Trials with the tests that they were run for."""

    trials: TrialsByArm
    baseline: str
    confidence: float
    plan: AnalysisPlan | None
    about_noise: bool
    """Whether the arms differ from the baseline in noise alone."""

    @property
    def test(self) -> SequentialTest:
        """Return the test at the planned looks, or at one look."""
        return SequentialTest(self.plan.looks) if self.plan and self.plan.looks else FIXED

    @cached_property
    def treated(self) -> tuple[str, ...]:
        """Return the arms that are compared with the baseline."""
        return tuple(arm for arm in self.trials if arm != self.baseline)

    def role(self, arm: str) -> Role:
        """Return the role of an arm in the tests."""
        plan = self.plan or AnalysisPlan()
        if arm in plan.controls:
            return "control"
        if plan.primary_arm not in self.treated:
            return "arm"
        return "primary" if arm == plan.primary_arm else "exploratory"

    def seeds_at(self, look: int) -> frozenset[int] | None:
        """Return the planned seeds until a look, counted from 0; None for all seeds."""
        plan = self.plan
        return frozenset(plan.seeds[: plan.looks[look]]) if plan and plan.looks else None

    def taken(self, metric: Metric, margin: float) -> dict[str, int]:
        """Return the number of looks at each arm: until the first look at which the arm is decided on this metric."""
        if self.plan is None or not self.plan.looks:
            return dict.fromkeys(self.treated, 1)
        looks = dict.fromkeys(self.treated, 0)
        going_on = set(self.treated)
        for _ in range(self.plan.taken):
            looks |= {arm: looks[arm] + 1 for arm in going_on}
            found = self.assess(metric, margin, looks).arms
            going_on -= {arm for arm in going_on if arm in found and found[arm].verdict in DECIDED}
        return looks

    def assess(self, metric: Metric, margin: float, looks: Mapping[str, int]) -> MetricAssessment:
        """Return the assessments of the arms on a metric, each after its number of looks."""
        compared = {arm: [self._compare(metric, arm, look) for look in range(looks[arm])] for arm in self.treated}
        noise_test = self._noise_test(metric, margin, compared)
        gate = noise_test.p_value if noise_test else 0.0
        families: dict[str, dict[str, list[PairedComparison | None]]] = {}
        for arm, comparisons in compared.items():
            role = self.role(arm)
            families.setdefault(arm if role == "control" else role, {})[arm] = comparisons
        found: dict[str, Assessment] = {}
        for family, members in families.items():
            assessed = assess(members, metric, margin, test=self.test, gate=gate if family == "arm" else 0.0)
            found |= {arm: replace(one, role=self.role(arm)) for arm, one in assessed.items()}
        found |= self._before_first_look(metric, margin, [arm for arm in self.treated if not looks[arm]])
        return MetricAssessment({arm: found[arm] for arm in self.treated if arm in found}, noise_test)

    def _before_first_look(self, metric: Metric, margin: float, arms: Sequence[str]) -> dict[str, Assessment]:
        """Return assessments without tests of the differences that are measured so far."""
        unknown, interval = math.nan, Interval(math.nan, math.nan)
        compared = {arm: self._compare(metric, arm, -1) for arm in arms}
        return {
            arm: Assessment(one, unknown, unknown, margin, None, interval, interval, looks=0, role=self.role(arm))
            for arm, one in compared.items()
            if one
        }

    @cached_property
    def _compared(self) -> dict[tuple[str, tuple[str, ...], int], Mapping[str, PairedComparison | None]]:
        """Return the comparisons by metric, arms and look, filled at their first use: later looks use them again."""
        return {}

    def _compare(self, metric: Metric, arm: str, look: int) -> PairedComparison | None:
        key = (metric.key, (arm,), look)
        if key not in self._compared:
            aligned = self._aligned(metric, (self.baseline, arm), look)
            found = aligned.compare(*aligned.values, confidence=self.confidence) if aligned else None
            self._compared[key] = {arm: found}
        return self._compared[key][arm]

    def _aligned(self, metric: Metric, arms: Sequence[str], look: int) -> AlignedMetric | None:
        seeds = self.seeds_at(look)
        chosen = {
            arm: {seed: trial for seed, trial in self.trials[arm].items() if seeds is None or seed in seeds}
            for arm in arms
        }
        return align(chosen, metric.key)

    def _noise_test(self, metric: Metric, margin: float, compared: Mapping[str, Looks]) -> NoiseTest | None:
        """Test whether any arm with noise differs, with their mean, their trend and each of them; None for one arm.

        Mean and trend alone would miss an effect at the middle alpha only.
        """
        arms = [arm for arm in self.treated if self.role(arm) == "arm" and self._has_enough(metric, arm)]
        if not self.about_noise or len(arms) < 2:
            return None
        contrasts: dict[str, list[PairedComparison | None]] = {"mean": [], "trend": []}
        p_values = []
        for look in range(max(len(compared[arm]) for arm in arms)):
            present = [arm for arm in arms if len(compared[arm]) > look]
            values = self._contrasts(metric, present, look)
            tests = [*values.values(), *(compared[arm][look] for arm in present)]
            p_values.append(simes([one.p_value if one and is_testable(one) else 1.0 for one in tests]))
            if len(present) == len(arms):
                for name, found in contrasts.items():
                    found.append(values.get(name))
        assessed = assess(
            {name: found for name, found in contrasts.items() if any(found)}, metric, margin, test=self.test
        )
        p_value = self.test.p_value(p_values)
        names = [Contrast(name, tuple(arms), assessed[name]) for name in ("mean", "trend") if name in assessed]
        return NoiseTest(p_value, tuple(names)) if names else None

    def _has_enough(self, metric: Metric, arm: str) -> bool:
        """Return whether an arm shares enough seeds with the baseline. A new arm would limit all arms to its seeds."""
        own, others = (measured_seeds(self.trials[one], metric.key) for one in (self.baseline, arm))
        return len(own & others) >= MIN_SEEDS

    def _contrasts(self, metric: Metric, arms: Sequence[str], look: int) -> Mapping[str, PairedComparison | None]:
        key = (metric.key, ("contrasts", *arms), look)
        if key not in self._compared:
            self._compared[key] = self._compare_contrasts(metric, arms, look)
        return self._compared[key]

    def _compare_contrasts(self, metric: Metric, arms: Sequence[str], look: int) -> dict[str, PairedComparison | None]:
        aligned = self._aligned(metric, (self.baseline, *arms), look)
        if aligned is None:
            return {}
        baseline, noisy = aligned.values[0], aligned.values[1:]
        found = {"mean": aligned.compare(baseline, noisy.mean(axis=0), confidence=self.confidence)}
        if (slopes := self._trend(arms)) is not None:
            change = np.tensordot(slopes, noisy, axes=1)
            found["trend"] = aligned.compare(np.zeros_like(change), change, confidence=self.confidence)
        return found

    def _trend(self, arms: Sequence[str]) -> Floats | None:
        """Return the weights of the arms in the fitted change from the smallest to the largest alpha, (arms,)."""
        alphas = np.array([next(iter(self.trials[arm].values())).alpha or math.nan for arm in arms])
        centered = alphas - alphas.mean()
        spread = float(np.square(centered).sum())
        if len(arms) < 2 or not spread > 0:
            return None
        return np.asarray(centered / spread * (alphas.max() - alphas.min()))
