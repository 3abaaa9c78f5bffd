"""Setup of a comparison: its arms, metrics, margins and looks, from the evidence and the options of the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from neftune_cli.analysis.alignment import TrialsByArm, first_trial, largest_score
from neftune_cli.analysis.design import Design
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.config.arm_names import arms_named
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import NothingToCompareError, Problem, Problems, UsageError, did_you_mean
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements
from neftune_cli.formatting import and_more, counted
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS, Margin, Metric


@dataclass(frozen=True)
class ComparisonSetup:
    """Arms, metrics, margins and looks of a comparison, and the model before fine-tuning."""

    arms: dict[str, dict[int, Measurements]]
    declared_arms: tuple[str, ...]
    """All arms, those without a finished trial included; the first one is the default baseline."""
    base: Measurements | None
    """The model before fine-tuning."""
    metrics: dict[str, Metric]
    planned: Metric
    """The declared primary metric, or the default one. Planned looks decide arms on it."""
    primary: Metric
    """The metric that the user chose, or the planned one."""
    options: ComparisonOptions
    """The options with the margin of each metric in its unit, and with the chosen metric, if any, by its key."""
    design: Design
    looks_by_arm: Mapping[str, int]
    """Number of planned looks that were taken at each arm."""

    @property
    def base_scores(self) -> Mapping[str, float | None] | None:
        """Return the scores of the model before fine-tuning."""
        return self.base.scores if self.base else None


def comparison_setup(evidence: Evidence, options: ComparisonOptions) -> ComparisonSetup:
    """Return the setup of a comparison.

    Raises:
        NothingToCompareError: no trained trial has finished, or no score can be compared.
        UsageError: `options.baseline` matches no arm or several, two trials have the same arm and seed, or
            `options.metric` was not measured.
    """
    arms, metrics = _trials_by_arm(evidence), _measured_metrics(evidence)
    declared_arms = evidence.declared_arms or tuple(arms)
    plan = evidence.plan or AnalysisPlan(controls=evidence.shared_controls)
    base = next((trial for trial in evidence.trials if trial.is_base), None)
    planned_key, problems = _planned_metric(plan, metrics), Problems()
    baseline = problems.attempt(lambda: _baseline(evidence.name, arms, declared_arms[0], options.baseline))
    primary_key = problems.attempt(lambda: _primary_metric(evidence.name, metrics, planned_key, options.metric))
    problems.raise_any()
    assert baseline is not None
    assert primary_key is not None
    declared = {plan.metric or planned_key: plan.margin} if plan.margin else {}
    margins = _Margins(_until_first_look(arms, plan), baseline, base.scores if base else None)
    chosen = replace(options, margins={**declared, **options.margins})
    in_units = {key: margins.of(metric, chosen) for key, metric in metrics.items()}
    design = Design(arms, baseline, options.confidence, plan, _is_about_noise(arms, baseline, plan))
    # looks are those of the declared margin: another one must not change which arms were decided
    size = margins.of(metrics[planned_key], replace(options, margins=declared)).size
    return ComparisonSetup(
        arms=arms,
        declared_arms=declared_arms,
        base=base,
        metrics=metrics,
        planned=metrics[planned_key],
        primary=metrics[primary_key],
        options=replace(options, metric=options.metric and primary_key, margins=in_units),
        design=design,
        looks_by_arm=design.looks_by_arm(metrics[planned_key], size),
    )


@dataclass(frozen=True)
class _Margins:
    """Converts margins to the unit of a metric: one may be a share of the baseline's mean, or of the gain."""

    arms: TrialsByArm
    """Trials until the first planned look."""
    baseline: str
    base_scores: Mapping[str, float | None] | None

    def of(self, metric: Metric, options: ComparisonOptions) -> Margin:
        return options.margin(metric, self.arms, self.baseline, self.base_scores)


def _trials_by_arm(evidence: Evidence) -> dict[str, dict[int, Measurements]]:
    """Return the trained trials by arm and seed.

    Raises:
        NothingToCompareError: there is none.
        UsageError: two trials have the same arm and seed.
    """
    arms: dict[str, dict[int, Measurements]] = {}
    for trial in evidence.trials:
        if trial.is_base or trial.seed is None:
            continue
        first = arms.setdefault(trial.arm, {}).setdefault(trial.seed, trial)
        if first is not trial:
            raise UsageError(_duplicate_trial(evidence.name, first, trial))
    if arms:
        return arms
    raise _no_trained_trial(evidence)


def _no_trained_trial(evidence: Evidence) -> NothingToCompareError:
    """Return the error for evidence without a finished trained trial, with the reason of a failure, if there is one."""
    if evidence.trials and not evidence.origin.is_sweep:  # runs of another tool
        return NothingToCompareError(f"'{evidence.name}' has the base model only. Add runs of trained models.")
    what = f"No trained trial of sweep '{evidence.name}' has finished"
    if not (failed := evidence.origin.failed_trials):
        trained = tuple(f"{label} " for label in evidence.origin.unusable_trials if label != BASE_ARM)
        if unusable := [line for line in evidence.unfinished if line.startswith(trained)]:
            return _lost_files(evidence.name, unusable)
        return NothingToCompareError(f"{what}. Run the same `neftune sweep` again to finish it.")
    reasons = (line.rstrip(".") for line in evidence.unfinished if line.startswith(f"{failed[0]} failed"))
    retry = f"Run the same `neftune sweep` with --retry failed to run {'it' if len(failed) == 1 else 'them'} again."
    sentences = (f"{what}: {counted(len(failed), 'trial')} failed", *islice(reasons, 1), retry)
    return NothingToCompareError(". ".join(sentences))


def _lost_files(sweep: str, unusable: Sequence[str]) -> NothingToCompareError:
    """Return the error for finished trials with a missing or damaged file, given a sentence on each."""
    what = f"No trained trial of sweep '{sweep}' can be compared: {unusable[0]}"
    copied = "If the folder is a copy, copy it again: the copy may have left out files or converted their line endings."
    return NothingToCompareError(f"{what}{and_more(unusable)}. {copied}")


def _duplicate_trial(sweep: str, first: Measurements, second: Measurements) -> Problem:
    ids = f"{first.trial_id} and {second.trial_id}"
    return Problem(
        f"Sweep '{sweep}' has two trials of arm '{first.arm}', seed {first.seed}: {ids}.",
        "They differ in more than the seed. Move the trial that does not belong to the sweep out of its folder.",
    )


def _measured_metrics(evidence: Evidence) -> dict[str, Metric]:
    """Return the measured metrics. Those that neftune does not declare have the decimals that their values need.

    Raises:
        NothingToCompareError: there is none, for example because no document was evaluated in every run.
    """
    if metrics := evidence.measured_metrics:
        return {
            key: metric if key in METRICS else metric.showing(largest_score(evidence.trials, key))
            for key, metric in metrics.items()
        }
    notes = " ".join(evidence.notes)
    raise NothingToCompareError(f"The runs of '{evidence.name}' have no score that can be compared. {notes}".strip())


def _baseline(sweep: str, arms: TrialsByArm, default: str, wanted: str | None) -> str:
    """Return the arm that is wanted as the baseline, or the default one, or the first one if that has no trial."""
    if wanted is None:
        return default if default in arms else next(iter(arms))
    matches = arms_named(wanted, {name: first_trial(arms, name).alpha for name in arms})
    if len(matches) == 1:
        return matches[0]
    found = f"{len(matches)} arms" if matches else "no trained arm"
    names = ", ".join(f"'{name}'" for name in matches or arms)
    raise UsageError(
        Problem(f"--baseline {wanted}: sweep '{sweep}' has {found} with this name or alpha.", f"Use one of {names}.")
    )


def _planned_metric(plan: AnalysisPlan, metrics: Mapping[str, Metric]) -> str:
    """Return the key of the declared primary metric, or of the default one if the declared one was not measured."""
    if plan.metric and plan.metric in metrics:
        return plan.metric
    return HELD_OUT_LOSS if HELD_OUT_LOSS in metrics else next(iter(metrics))


def _primary_metric(sweep: str, metrics: Mapping[str, Metric], default: str, wanted: str | None) -> str:
    """Return the key of the metric that is wanted by its key or its name, or the default one."""
    if not wanted:
        return default
    named = [key for key, one in metrics.items() if wanted.casefold() == one.name.casefold()]
    if wanted in metrics or len(named) == 1:
        return wanted if wanted in metrics else named[0]
    found = "several metrics have this name" if named else "no metric with this key was measured"
    known = ", ".join(f"{key} ({metrics[key].name_within})" for key in named or metrics)
    question = did_you_mean(wanted, metrics)
    fix = f"{question} Known are {known}." if question and not named else f"Use one of {known}."
    raise UsageError(Problem(f"--metric {wanted!r}: {found} in sweep '{sweep}'.", fix))


def _until_first_look(arms: TrialsByArm, plan: AnalysisPlan) -> TrialsByArm:
    """Return the trials until the first planned look. Their means determine margins, which must not change later."""
    if not plan.has_planned_looks:
        return arms
    seeds = plan.seeds_until(1)
    return {arm: {seed: trials[seed] for seed in seeds if seed in trials} or trials for arm, trials in arms.items()}


def _is_about_noise(arms: TrialsByArm, baseline: str, plan: AnalysisPlan) -> bool:
    """Return whether the baseline has no noise, and all other arms but controls have noise and the same recipe.

    Recipes of runs of other tools are the same if the names of their arms state no difference.
    """
    reference = first_trial(arms, baseline)
    others = [first_trial(arms, arm) for arm in arms if arm != baseline and arm not in plan.controls]
    return reference.alpha == 0 and all(one.alpha and one.stated_recipe == reference.stated_recipe for one in others)
