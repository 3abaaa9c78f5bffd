"""Decision after a comparison: the action that follows from the verdicts, and how the sweep continues."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.results import DECIDED, Assessment, Comparison, DepartureKind, EarlyStopping, StoppedArm
from neftune_cli.config.arms import AA_CONTROL, POSITIVE_CONTROL
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.metrics import METRICS, TASKS_TABLE, Metric, names_function
from neftune_cli.store import folder_label

Action = Literal[
    "use",
    "stop earlier",
    "keep baseline",
    "choose later",
    "undecided",
    "no direction",
    "too few seeds",
    "not learned",
    "no evidence",
]
"""Action to advise:

- `use`: use an arm, which is better than the baseline.
- `stop earlier`: stop the baseline earlier; the arm is not shown to be better than the early-stopped baseline.
- `keep baseline`: every arm that the decision is about is worse or equivalent.
- `choose later`: noise makes a difference, and no arm is decided as better.
- `undecided`: no arm is better, and at least one is inconclusive.
- `no direction`: report the change; neither direction of the metric is an improvement.
- `too few seeds`: report the results of these trained models.
- `not learned`: repair the training first; it does not improve on the base model.
- `no evidence`: report the reasons why there is no verdict.
"""


Continuation = Literal["looks", "new sweep", "missing trials"]
"""Way to decide what is open:

- `looks`: the further planned looks of the sweep.
- `new sweep`: another sweep, with planned looks.
- `missing trials`: the trials of the same sweep that have not finished.
"""
TEMPORARY_DEPARTURES: frozenset[DepartureKind] = frozenset({"missing baseline", "missing base model"})
"""Departures from planned looks that end when the missing trials have finished. The kind `missing trials` is of sweeps
without planned looks."""


@dataclass(frozen=True)
class Decision:
    """An action, and the assessments on which it is based."""

    action: Action
    arm: str | None
    """For `use`, the arm to use. For `stop earlier`, the best arm, which the early-stopped baseline may equal."""
    with_verdict: Mapping[str, Assessment]
    with_few_seeds: Mapping[str, Assessment]
    """Arms with too few seeds for a verdict on the method."""
    without_verdict: tuple[str, ...]
    """Other arms; `missing_verdict_reason` returns the reason."""

    @property
    def confirmatory(self) -> Mapping[str, Assessment]:
        """Return the arms with a verdict that the decision is about, without exploratory ones."""
        return _confirmatory(self.with_verdict)

    @property
    def confirmatory_with_few_seeds(self) -> Mapping[str, Assessment]:
        """Return the arms with too few seeds for a verdict that the decision is about, without exploratory ones."""
        return _confirmatory(self.with_few_seeds)

    @property
    def open_arms(self) -> dict[str, Assessment]:
        """Return the arms that the decision is about and that are neither different nor equivalent."""
        return {
            arm: assessment for arm, assessment in self.confirmatory.items() if assessment.verdict == "inconclusive"
        }


def decide(comparison: Comparison) -> Decision:
    """Return the decision that follows from the verdicts on the primary metric."""
    metric = comparison.metrics[comparison.primary]
    arms = [arm.name for arm in comparison.studied]
    known = {arm: assessment for arm in arms if (assessment := comparison.assessment(arm, metric.key))}
    with_verdict = {arm: assessment for arm, assessment in known.items() if assessment.verdict}
    with_few_seeds = {arm: assessment for arm, assessment in known.items() if not assessment.paired.has_enough_seeds}
    others = tuple(arm for arm in arms if arm not in {**with_verdict, **with_few_seeds})
    action, arm = _action(comparison, metric, _confirmatory(with_verdict), _confirmatory(with_few_seeds))
    return Decision(action, arm, with_verdict, with_few_seeds, others)


def continuation(comparison: Comparison) -> Continuation | None:
    """Return how the sweep of a comparison continues; None if nothing is open, or if none of these ways decides it."""
    origin, has_looks = comparison.origin, comparison.declared.has_planned_looks
    cannot_resume = origin.of_other_version and bool(has_looks or comparison.unfinished)
    if not origin.is_one_sweep or comparison.learning.has_learned is False or cannot_resume:
        return None
    if has_looks:
        return _continuation_of_looks(comparison)
    missing: Continuation | None = "missing trials" if comparison.unfinished else None
    new_sweep: Continuation | None = "new sweep" if _is_measured_by_sweeps(comparison.metric) else None
    if not comparison.studied:
        return missing or new_sweep
    decision = decide(comparison)
    few = decision.confirmatory_with_few_seeds
    if missing and (few or comparison.arms_without_trials or origin.lacks_declared_trials or origin.lacks_base):
        return missing
    seeds_help = few or any(assessment.paired.seeds < DEFAULT_LOOKS[-1] for assessment in decision.open_arms.values())
    if seeds_help and new_sweep and comparison.baseline == comparison.default_baseline:
        return new_sweep
    return missing if _open_arms_lack_pairs(comparison, decision) else None


def _is_measured_by_sweeps(metric: Metric) -> bool:
    """Return whether a sweep can measure a metric. Ratings of judges are in files, which only `compare` reads."""
    return metric.key in METRICS or metric.section == TASKS_TABLE or names_function(metric.key)


def _open_arms_lack_pairs(comparison: Comparison, decision: Decision) -> bool:
    """Return whether a declared seed has no pair of an open arm and the baseline."""
    declared, baseline = {*comparison.declared_seeds}, {*comparison.arm(comparison.baseline).seeds}
    return any(declared - ({*comparison.arm(arm).seeds} & baseline) for arm in decision.open_arms)


def _continuation_of_looks(comparison: Comparison) -> Continuation | None:
    """Return how a sweep with planned looks continues. Further looks decide on the declared choices only."""
    plan, departures = comparison.declared, {one.kind for one in comparison.departures}
    if departures - TEMPORARY_DEPARTURES or not comparison.origin.decides_looks:
        return None
    if "missing baseline" in departures:
        return "missing trials"
    trainable = [arm for arm in _arms_to_decide(comparison) if _can_be_tested(comparison, arm)]
    primary = comparison.declared_primary_arm
    if primary in trainable and primary in comparison.arms_without_trials:
        return "missing trials"  # the other arms are exploratory
    if arms_with_further_seeds(comparison) and not plan.is_finished:
        return "looks"
    return "missing trials" if trainable or comparison.origin.lacks_base else None


def _arms_to_decide(comparison: Comparison) -> list[str]:
    """Return the arms that the decision is about and that missing trials can decide: open ones, and untested ones."""
    primary = comparison.declared_primary_arm
    without = [arm for arm in _arms_without_test(comparison) if primary in (None, arm)]
    return [*decide(comparison).open_arms, *(arm for arm in without if arm not in comparison.declared.controls)]


def _arms_without_test(comparison: Comparison) -> Iterator[str]:
    """Yield the arms, controls included, that no look has tested because trials are missing.

    They have no finished trial, share no seed with the baseline, or have too few pairs of seeds.
    """
    known = comparison.assessments(comparison.primary)
    for arm in (*comparison.declared_arms, *comparison.declared.controls):
        if arm == comparison.default_baseline:
            continue
        if arm not in {summary.name for summary in comparison.arms}:
            yield arm
        elif arm in known:
            if known[arm].verdict is None and not known[arm].paired.has_enough_seeds:
                yield arm
        elif (estimate := comparison.arm(arm).estimates.get(comparison.primary)) and estimate.difference is None:
            yield arm


def _can_be_tested(comparison: Comparison, arm: str, *, retry_failed: bool = True) -> bool:
    """Return whether missing trials can give an arm pairs of seeds at a taken look that it has not been tested at."""
    plan, tested, excluded = comparison.declared, _tested_seeds(comparison), excluded_trials(comparison)
    finished = {summary.name: summary.seeds for summary in comparison.arms}

    def can_run(name: str, seed: int) -> bool:
        label = folder_label(name, seed)
        if label in comparison.origin.failed_trials:
            return retry_failed and label not in excluded
        return seed not in tested.get(name, ())

    def can_pair(seed: int) -> bool:
        missing = [name for name in (comparison.default_baseline, arm) if seed not in finished.get(name, ())]
        return bool(missing) and all(can_run(name, seed) for name in missing)

    return any(map(can_pair, plan.seeds_until(plan.looks_taken)))


def excluded_trials(comparison: Comparison) -> frozenset[str]:
    """Return the labels of failed trials that are not retried, because a planned look has been tested without them.

    With them, the look would be tested again, and the error rates would no longer hold. The manifest has them since the
    look was taken. In older sweeps they follow from the finished trials.
    """
    if comparison.declared.excluded is not None:
        return comparison.declared.excluded
    labels = (folder_label(arm, seed) for arm, seeds in _tested_seeds(comparison).items() for seed in seeds)
    return frozenset(labels) & frozenset(comparison.origin.failed_trials)


def _tested_seeds(comparison: Comparison) -> dict[str, tuple[int, ...]]:
    """Return the planned seeds until the last look that tested an arm; for the baseline, that tested any arm."""
    plan = comparison.declared
    assessed = comparison.assessments(comparison.primary)
    tested = {
        arm: plan.seeds_until(assessment.looks_taken) for arm, assessment in assessed.items() if assessment.verdict
    }
    return {**tested, comparison.default_baseline: max(tested.values(), key=len)} if tested else {}


def arms_to_train(comparison: Comparison, *, retry_failed: bool) -> frozenset[str]:
    """Return the arms of which a command for the planned looks may train trials, controls and the baseline included.

    These are all arms if one of them is tested for the first time: the tests of the others are then adjusted for one
    more arm, so that decided arms may become open.

    Args:
        comparison: the comparison at the taken looks.
        retry_failed: whether failed trials are run again, other than the excluded ones.
    """
    plan, undecided = comparison.declared, arms_with_further_seeds(comparison)
    without = {*_arms_without_test(comparison)}
    arms = {arm for arm in (*undecided, *without) if _can_be_tested(comparison, arm, retry_failed=retry_failed)}
    if not plan.is_finished:
        arms |= {*undecided}
    if (arms & without) - {*plan.controls}:
        return frozenset((*comparison.declared_arms, *plan.controls))
    return frozenset(arms | {comparison.default_baseline}) if arms else frozenset()


def arms_with_further_seeds(comparison: Comparison) -> tuple[str, ...]:
    """Return the arms that get further seeds at the next planned look, exploratory arms included.

    These are the arms without a decision, or none if fine-tuning learned nothing, or if only controls are left. Before
    the first look, and without a finished trial of the baseline, no arm is decided. An arm without an assessment gets
    no further seeds: a trial diverged, all trials failed, or no seed is shared with the baseline.
    """
    plan = comparison.declared
    if not plan.looks_taken or comparison.baseline != comparison.default_baseline:
        return tuple(arm for arm in (*comparison.declared_arms, *plan.controls) if arm != comparison.default_baseline)
    assessed = comparison.assessments(comparison.primary)
    undecided = tuple(arm for arm, assessment in assessed.items() if assessment.verdict not in DECIDED)
    has_others = bool(set(undecided) - set(plan.controls))
    return undecided if has_others and comparison.learning.has_learned is not False else ()


@dataclass(frozen=True)
class ControlFinding:
    """Result of a control that `--controls` adds."""

    sentence: str
    is_expected: bool


def control_findings(comparison: Comparison) -> Iterator[ControlFinding]:
    """Yield what the controls of `--controls` show about the sweep, as far as they have verdicts.

    They are made for the baseline of the sweep, so they show nothing about a comparison with another one.
    """
    if comparison.baseline != comparison.default_baseline:
        return
    assessed = comparison.assessments(comparison.primary)
    verdicts = {
        arm: assessment.verdict
        for arm, assessment in assessed.items()
        if assessment.role == "control" and assessment.verdict
    }
    match verdicts.get(AA_CONTROL):
        case "inconclusive" | "equivalent" as verdict:
            shown = "is equivalent to the baseline" if verdict == "equivalent" else "is not shown to differ"
            yield ControlFinding(f"the {AA_CONTROL} {shown}, as expected", is_expected=True)
        case str() as verdict:
            why = "a false positive, or trials differ in more than their random draws"
            yield ControlFinding(
                f"the {AA_CONTROL} is {verdict}, although nothing was changed: {why}", is_expected=False
            )
    match verdicts.get(POSITIVE_CONTROL):
        case "worse" | "higher" | "lower" as verdict:
            size = comparison.metric.amount(assessed[POSITIVE_CONTROL].paired.difference)
            yield ControlFinding(f"the {POSITIVE_CONTROL} is {verdict} by {size}, as expected", is_expected=True)
        case "better":
            yield ControlFinding(f"the {POSITIVE_CONTROL} is better, although its noise should hurt", is_expected=False)
        case str() as verdict:
            shown = "not shown to differ" if verdict == "inconclusive" else verdict
            why = "this sweep may be unable to show an effect"
            yield ControlFinding(f"the {POSITIVE_CONTROL} is {shown}: {why}", is_expected=False)


def _confirmatory(assessed: Mapping[str, Assessment]) -> Mapping[str, Assessment]:
    """Return the arms without exploratory ones."""
    return {arm: assessment for arm, assessment in assessed.items() if assessment.role != "exploratory"}


def stopped_arm(stopping: EarlyStopping | None, name: str) -> StoppedArm | None:
    """Return an arm of the early-stopping comparison, or None if it has no such arm."""
    return next((arm for arm in stopping.arms if arm.name == name), None) if stopping else None


def _action(
    comparison: Comparison,
    metric: Metric,
    confirmatory: Mapping[str, Assessment],
    with_few_seeds: Mapping[str, Assessment],  # without exploratory arms
) -> tuple[Action, str | None]:
    verdicts = {assessment.verdict for assessment in confirmatory.values()}
    if comparison.learning.has_learned is False:
        return "not learned", None
    if not confirmatory:
        return ("too few seeds" if with_few_seeds else "no evidence"), None
    if verdicts & {"higher", "lower"}:
        return "no direction", None
    if better := {arm: assessment for arm, assessment in confirmatory.items() if assessment.verdict == "better"}:
        return _use_or_stop(comparison, metric, better)
    if "inconclusive" in verdicts:
        test = comparison.noise_tests.get(metric.key)
        return ("choose later" if test and test.p_value <= 1 - comparison.confidence else "undecided"), None
    return "keep baseline", None


def _use_or_stop(comparison: Comparison, metric: Metric, better: Mapping[str, Assessment]) -> tuple[Action, str | None]:
    """Return the best of the better arms, preferably one that is also better than the early-stopped baseline."""
    preferred = {
        arm: assessment for arm, assessment in better.items() if not _early_stopping_may_suffice(comparison, arm)
    }
    sign = 1 if metric.goal == "lower" else -1
    best = min(preferred or better, key=lambda arm: sign * better[arm].paired.difference)
    return ("use" if preferred else "stop earlier"), best


def _early_stopping_may_suffice(comparison: Comparison, arm: str) -> bool:
    """Return whether the baseline is overtrained and the arm is not better than the early-stopped baseline."""
    stopping = comparison.primary_early_stopping
    baseline, treated = stopped_arm(stopping, comparison.baseline), stopped_arm(stopping, arm)
    overtrained = baseline is not None and baseline.last is not None and baseline.last.verdict == "worse"
    return bool(overtrained and treated and treated.best and treated.best.verdict != "better")
