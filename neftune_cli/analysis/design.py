"""Design of a comparison: roles of arms, and their assessment at one look with all seeds or at the planned looks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import accumulate, chain

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric, TrialsByArm, align, first_trial, slope_weights
from neftune_cli.analysis.crossed_factors import ROUNDING
from neftune_cli.analysis.multiplicity import simes
from neftune_cli.analysis.outlook import Family, Outlook, outlook
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import (
    DECIDED,
    DIFFERENT,
    Assessment,
    Contrast,
    ContrastName,
    Interval,
    MetricAssessment,
    NoiseTest,
    Role,
    family_of,
)
from neftune_cli.analysis.sequential import FIXED, SequentialTest
from neftune_cli.analysis.verdicts import ComparisonsByLook, assess, is_testable
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import AnalysisPlan, Floats, Measurements
from neftune_cli.metrics import Metric

LEAST_SEED_SHARE = 0.5
"""Smallest number of seeds of an arm in the contrasts of a look, as a share of the seeds of the arm with the most."""


@dataclass(frozen=True)
class Design:
    """Trials with the tests that they were run for.

    Without planned looks there is one look with all seeds. At a planned look of n seeds, an arm is compared on those of
    the first n planned seeds that it shares with the baseline. Seeds outside the plan are not tested.
    """

    trials: TrialsByArm
    baseline: str
    confidence: float
    plan: AnalysisPlan
    """Declared analysis; an empty one if there is none."""
    about_noise: bool
    """Whether the baseline has no noise, and all other arms but controls have noise and the same recipe."""

    @property
    def test(self) -> SequentialTest:
        """Return the test at the planned looks, or at one look."""
        return SequentialTest(self.plan.looks) if self.plan.has_planned_looks else FIXED

    @cached_property
    def _looks(self) -> "_Looks":
        return _Looks(self.trials, self.baseline, self.confidence, self.plan)

    @cached_property
    def treated(self) -> tuple[str, ...]:
        """Return the arms that are compared with the baseline."""
        return tuple(arm for arm in self.trials if arm != self.baseline)

    def role(self, arm: str) -> Role:
        """Return the role of an arm in the tests.

        If the declared primary arm has no trial, or is the baseline, the other arms stay exploratory.
        """
        if arm in self.plan.controls:
            return "control"
        if self.plan.primary_arm is None:
            return "arm"
        return "primary" if arm == self.plan.primary_arm else "exploratory"

    def looks_by_arm(self, metric: Metric, margin: float) -> dict[str, int]:
        """Return the number of looks at each arm: until the first look at which the arm is decided on this metric."""
        if not self.plan.has_planned_looks:
            return dict.fromkeys(self.treated, 1)
        looks_by_arm = dict.fromkeys(self.treated, 0)
        undecided = set(self.treated)
        for _ in range(self.plan.looks_taken):
            looks_by_arm |= {arm: looks_by_arm[arm] + 1 for arm in undecided}
            found = self.assess(metric, margin, looks_by_arm).arms
            undecided -= {arm for arm in undecided if arm in found and found[arm].verdict in DECIDED}
        return looks_by_arm

    def assess(self, metric: Metric, margin: float, looks_by_arm: Mapping[str, int]) -> MetricAssessment:
        """Return the assessments of the arms on a metric, each after its number of looks.

        An arm is missing if it shares no seed or no item with the baseline, or if a value is not finite.
        """
        compared = {arm: self._at_looks(metric, arm, looks_by_arm[arm]) for arm in self.treated}
        noise_test = self._noise_test(metric, margin, compared)
        gates = dict.fromkeys(noise_test.arms, noise_test.p_value) if noise_test else {}
        families: dict[tuple[str, ...], dict[str, ComparisonsByLook]] = {}
        for arm, comparisons in compared.items():
            families.setdefault(family_of(arm, self.role(arm)), {})[arm] = comparisons
        found: dict[str, Assessment] = {}
        for members in families.values():
            found |= assess(members, metric, margin, test=self.test, gates=gates)
        found |= self._before_first_look(metric, margin, [arm for arm in self.treated if not looks_by_arm[arm]])
        arms = {arm: replace(found[arm], role=self.role(arm)) for arm in self.treated if arm in found}
        return MetricAssessment(arms, noise_test)

    def outlooks(self, metric: Metric, assessed: Mapping[str, Assessment]) -> dict[str, tuple[Outlook, ...]]:
        """Return the chances of a decision at the next look and at the last, for each undecided arm but the controls.

        Without planned looks, they are those of a new sweep with the default ones. The assumed differences are 0 and
        improvements. If the metric has no direction of improvement, they are 0 and increases.
        """
        test = self.test if self.plan.has_planned_looks else SequentialTest(DEFAULT_LOOKS)
        sign = -1 if metric.goal == "lower" else 1
        found = {}
        for arm, one in assessed.items():
            if one.verdict != "inconclusive" or one.role == "control":
                continue
            measured = len(self.plan.seeds_until(one.looks_taken)) if self.plan.has_planned_looks else one.paired.seeds
            coming = [seeds for seeds in test.looks if seeds > measured]
            chances = (
                outlook(
                    one.paired.crossed,
                    effect,
                    margin=one.margin,
                    test=test,
                    significance=1 - self.confidence,
                    looks=sorted({*coming[:1], *coming[-1:]}),
                    family=_family(assessed, arm),
                )
                for effect in (0.0, sign * one.margin, 2 * sign * one.margin)
            )
            found[arm] = tuple(chain.from_iterable(chances))
        return found

    def tested_trials(self, looks_by_arm: Mapping[str, int]) -> TrialsByArm:
        """Return the trials of the arms that are not controls, until the last look at each arm.

        The baseline is measured until the last look at any arm. Before the first look, an arm has all planned seeds.
        Trials outside the plan stay if there are no others.
        """
        last = {**looks_by_arm, self.baseline: max(looks_by_arm.values(), default=0)}
        arms = [arm for arm in self.trials if arm == self.baseline or self.role(arm) != "control"]
        looks = {arm: count - 1 if count else None for arm, count in last.items()}
        return {arm: self._looks.trials_of(arm, looks[arm]) or self.trials[arm] for arm in arms}

    def _at_looks(self, metric: Metric, arm: str, count: int) -> list[PairedComparison | None]:
        """Return the comparison at each look, None for one without new seeds. Empty if a value is not finite."""
        comparisons: list[PairedComparison | None] = []
        seeds: tuple[int, ...] = ()
        for look in range(count):
            found = self._looks.compare(metric.key, arm, look)
            if found is None or found[0] == seeds:
                comparisons.append(None)
                continue
            seeds, one = found
            if one is None:
                return []
            comparisons.append(one)
        return comparisons

    def _before_first_look(self, metric: Metric, margin: float, arms: Sequence[str]) -> dict[str, Assessment]:
        """Return assessments without tests of the differences that are measured so far."""
        found = {arm: self._looks.compare(metric.key, arm, None) for arm in arms}
        unknown, interval = math.nan, Interval(math.nan, math.nan)
        return {
            arm: Assessment(comparison, unknown, unknown, margin, None, interval, interval, looks_taken=0)
            for arm, of_arm in found.items()
            if of_arm and (comparison := of_arm[1])
        }

    def _noise_test(self, metric: Metric, margin: float, compared: Mapping[str, ComparisonsByLook]) -> NoiseTest | None:
        """Test whether any arm with noise differs, with their mean, their trend and each of them.

        None if the arms differ in more than their noise, or if no look has two of them.

        Mean and trend alone would miss an effect at the middle alpha only. At each look, the contrasts are those of the
        arms with new seeds. The results decide which arms these are, so each look is adjusted for at least as many
        tests as the looks before it. The estimates of the contrasts are reported at the last look with the most arms.
        An arm with few seeds at an early look, for example because trials failed, joins the test later.
        """
        tested = {arm: one for arm, one in compared.items() if self.role(arm) == "arm" and any(map(is_testable, one))}
        present = [_with_most_seeds(tested, look) for look in range(max(map(len, tested.values()), default=0))]
        most: tuple[str, ...] = max(reversed(present), key=len, default=())
        if not self.about_noise or len(most) < 2:
            return None
        found = [self._looks.contrasts(metric.key, arms, look) for look, arms in enumerate(present)]
        at_look = [
            [
                one.p_value
                for one in (*contrasts.values(), *(tested[arm][look] for arm in arms))
                if one and is_testable(one)
            ]
            for look, (arms, contrasts) in enumerate(zip(present, found, strict=True))
        ]
        numbers = accumulate(map(len, at_look), max)
        p_value = self.test.p_value(
            [simes(one, number) if one else math.nan for one, number in zip(at_look, numbers, strict=True)]
        )
        names: tuple[ContrastName, ...] = ("mean", "trend")
        at_looks: dict[str, ComparisonsByLook] = {
            name: [of_look.get(name) if arms == most else None for arms, of_look in zip(present, found, strict=True)]
            for name in names
        }
        assessed = assess(at_looks, metric, margin, test=self.test, gates=dict.fromkeys(names, p_value))
        contrasts = tuple(Contrast(name, most, assessed[name]) for name in names if name in assessed)
        members = {*chain.from_iterable(present)}
        return NoiseTest(p_value, contrasts, tuple(arm for arm in tested if arm in members)) if contrasts else None


class _Looks:
    """Trials at single looks, counted from 0. Comparisons are computed once: each look uses those of earlier looks."""

    def __init__(self, trials: TrialsByArm, baseline: str, confidence: float, plan: AnalysisPlan) -> None:
        self._trials = trials
        self._baseline = baseline
        self._confidence = confidence
        self._plan = plan
        self.compare = cache(self._compare)
        self.contrasts = cache(self._contrasts)

    def trials_of(self, arm: str, look: int | None) -> Mapping[int, Measurements]:
        """Return the trials of an arm with the planned seeds until a look, None for all planned seeds.

        Without planned looks, these are all trials.
        """
        trials, plan = self._trials[arm], self._plan
        if not plan.has_planned_looks:
            return trials
        seeds = {*(plan.seeds if look is None else plan.seeds_until(look + 1))}
        return {seed: trial for seed, trial in trials.items() if seed in seeds}

    def _compare(self, key: str, arm: str, look: int | None) -> tuple[tuple[int, ...], PairedComparison | None] | None:
        """Return the seeds that an arm shares with the baseline at a look, and their comparison on a metric.

        `look` is None for all planned seeds. The comparison is None if a value is not finite. None is returned if no
        seed or no item is shared.
        """
        aligned = self._aligned(key, (self._baseline, arm), look)
        return (aligned.seeds, aligned.compare(*aligned.values, confidence=self._confidence)) if aligned else None

    def _contrasts(self, key: str, arms: tuple[str, ...], look: int) -> dict[ContrastName, PairedComparison]:
        """Return the mean and the trend of arms with noise on a metric, those that can be computed."""
        aligned = self._aligned(key, (self._baseline, *arms), look) if arms else None
        if aligned is None:
            return {}
        baseline, noisy = aligned.values[0], aligned.values[1:]
        found: dict[ContrastName, PairedComparison | None] = {}
        found["mean"] = aligned.compare(baseline, noisy.mean(axis=0), confidence=self._confidence)
        if (weights := self._trend_weights(arms)) is not None:
            change = np.tensordot(weights, noisy, axes=1)
            if np.abs(change).max() <= ROUNDING * np.abs(noisy).max():  # the weights rarely sum to exactly 0
                change = np.zeros_like(change)
            found["trend"] = aligned.compare(np.zeros_like(change), change, confidence=self._confidence)
        return {name: one for name, one in found.items() if one}

    def _aligned(self, key: str, arms: Sequence[str], look: int | None) -> AlignedMetric | None:
        return align({arm: self.trials_of(arm, look) for arm in arms}, key)

    def _trend_weights(self, arms: Sequence[str]) -> Floats | None:
        """Return the weights of the arms in the fitted change from the smallest to the largest alpha, (arms,)."""
        alphas = np.array([first_trial(self._trials, arm).alpha or math.nan for arm in arms])
        span = float(np.ptp(alphas))
        return slope_weights(alphas) * span if span > 0 else None


def _family(assessed: Mapping[str, Assessment], arm: str) -> Family:
    """Return the numbers of tested arms whose tests are adjusted together with those of an arm."""
    key = family_of(arm, assessed[arm].role)
    verdicts = [one.verdict for name, one in assessed.items() if family_of(name, one.role) == key]
    return Family(
        open=verdicts.count("inconclusive"),
        different=sum(verdict in DIFFERENT for verdict in verdicts),
        equivalent=verdicts.count("equivalent"),
    )


def _with_most_seeds(tested: Mapping[str, ComparisonsByLook], look: int) -> tuple[str, ...]:
    """Return the arms with new seeds at a look, without those that have few seeds.

    An arm with few seeds, such as a new one, would limit the contrasts of all arms to its seeds.
    """
    seeds = {arm: one.seeds for arm, found in tested.items() if look < len(found) and (one := found[look])}
    least = LEAST_SEED_SHARE * max(seeds.values(), default=0)
    return tuple(arm for arm, count in seeds.items() if count >= least)
