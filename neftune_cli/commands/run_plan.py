"""Run the trials of a plan: all of them, or at each planned look those of the arms that are not decided yet."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from neftune_cli.commands.request import PreparedSweep
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.formatting import listed
from neftune_cli.metrics import names_function
from neftune_cli.store import SweepFolder, folder_label
from neftune_cli.sweeps.plan import Plan, at_look, done_trials, failed_trials, missing_trials
from neftune_cli.trackers import prepare_trackers

if TYPE_CHECKING:
    from neftune_cli.analysis.comparison import ComparedEvidence
    from neftune_cli.analysis.results import Comparison
    from neftune_cli.sweeps.progress import Observer
    from neftune_cli.sweeps.runner import SweepOutcome


def run_plan(
    sweep: PreparedSweep,
    observe: "Callable[[], AbstractContextManager[Observer]]",
    say: Callable[[str], None],
) -> "SweepOutcome":
    """Run all trials, or those of the planned looks until every arm is decided, or until the look to pause at.

    Args:
        sweep: the plan with its executor.
        observe: returns a new observer of a run.
        say: receives a line on each planned look.

    Raises:
        UsageError: the folder is not writable, a tracker cannot be used, or the declared function does not score a
            response.
        KeyboardInterrupt: the user interrupted a second time.
    """
    from neftune_cli.sweeps.runner import run_sweep

    plan, folder = sweep.plan, sweep.folder
    if tracking := sweep.request.settings.trial_settings.tracking:
        prepare_trackers(tracking, folder.name)
    if plan.spec.analysis.has_planned_looks:
        return _run_looks(sweep, observe, say)
    with observe() as observer:
        outcome = run_sweep(plan, folder, sweep.executor, observer, sweep.interrupts, sweep.request.settings)
    if not outcome.was_cut_short:
        folder.add_look(len(plan.spec.seeds))  # so that seeds which are added after this comparison are reported
        score_declared_metric(plan.spec, folder)
    return outcome


def track_comparison(
    sweep: PreparedSweep,
    outcome: "SweepOutcome",
    say: Callable[[str], None],
    compared: "Sequence[ComparedEvidence] | None" = None,
) -> None:
    """Write the comparison of a sweep that ran to its end, with the files of its report, to the trackers of its trials.

    Args:
        sweep: the sweep.
        outcome: its outcome.
        say: receives a line for each tracker that fails.
        compared: its comparisons, whose report has been written. If None, both are made here.

    Raises:
        OSError: the folder is not writable.
    """
    tracking = sweep.request.settings.trial_settings.tracking
    if tracking is None or outcome.was_cut_short:
        return
    from neftune_cli.analysis.comparison import compare_sweep
    from neftune_cli.reporting.reports import write_reports
    from neftune_cli.trackers.runs import write_comparison

    if compared is None:
        with suppress(NothingToCompareError):
            compared = compare_sweep(sweep.folder)
            write_reports(sweep.folder, compared)
    if compared:
        for line in write_comparison(tracking, sweep.folder, compared):
            say(line)


def _run_looks(
    sweep: PreparedSweep,
    observe: "Callable[[], AbstractContextManager[Observer]]",
    say: Callable[[str], None],
) -> "SweepOutcome":
    """Run the trials of each look, and compare the arms after it, until no arm gets further seeds.

    The trials of a look depend only on the records of the earlier looks, so an interrupted look continues with the same
    trials. Finished trials of a look that was taken before are not run again. The comparison after such a look is that
    of the last look taken, so the loop continues with the arms that are open now.

    Args:
        sweep: the whole plan, with its executor.
        observe: returns the observer of one look.
        say: receives a line on each look.
    """
    from neftune_cli.sweeps.runner import run_sweep

    plan, folder, looks = sweep.plan, sweep.folder, sweep.plan.spec.analysis.looks
    seeds_taken = max(folder.manifest().planned_looks_taken(looks), default=0)
    if sweep.request.settings.retry_failed and seeds_taken:
        comparison = _compare_and_note_excluded_trials(plan, folder)
        plan = _without_excluded_trials(plan, folder, comparison)
    new_notes = plan.notes[len(sweep.plan.notes) :]  # of the trials that are not run again
    for note in new_notes:
        say(note)
    known_notes = new_notes
    undecided = tuple(arm.name for arm in plan.spec.arms[1:])
    done_before = len(done_trials(plan, folder))
    part: Plan | None = None
    total: SweepOutcome | None = None
    for number, seeds in enumerate(looks, start=1):
        with observe() as observer:
            part = at_look(plan, seeds, undecided, part)
            outcome = run_sweep(
                part,
                folder,
                sweep.executor,
                observer,
                sweep.interrupts,
                sweep.request.settings,
                known_notes=known_notes,
            )
        known_notes = (*known_notes, *outcome.notes)
        # each look counts the trials of earlier looks as done before
        total = replace(_joined(total, outcome), already_done=done_before)
        if outcome.was_cut_short:
            return total
        if not _has_baseline(plan, folder):
            say(f"Look {number} is not taken: the baseline {plan.spec.arms[0].name} has no finished trial.")
            break
        folder.add_look(seeds)
        score_declared_metric(plan.spec, folder)
        comparison = _compare_and_note_excluded_trials(plan, folder)
        undecided = _undecided(plan, comparison)
        is_last = not undecided or seeds == sweep.request.pause_at
        if is_last or seeds >= seeds_taken:  # the comparison is that of the last look that was taken
            say(_look_line(looks, max(seeds, seeds_taken), undecided))
        if is_last:
            break
    assert total is not None
    return total


def after_taken_looks(plan: Plan, folder: SweepFolder, *, retry_failed: bool) -> Plan:
    """Return the plan without the trials that the taken looks make unnecessary, with a note on the last look.

    Decided arms get no further seeds, and neither does the baseline if no arm is left. The plan is returned
    unchanged if no look was taken, and if an arm is tested for the first time, which may reopen decided arms.

    Args:
        plan: the whole plan.
        folder: its results folder.
        retry_failed: whether failed trials are run again.
    """
    from neftune_cli.analysis.decision import arms_to_train

    looks = plan.spec.analysis.looks
    taken = folder.manifest().planned_looks_taken(looks)
    if not taken:
        return plan
    comparison = _comparison(folder)
    if retry_failed:
        plan = _without_excluded_trials(plan, folder, comparison)
    continued = arms_to_train(comparison, retry_failed=retry_failed) if comparison else frozenset()
    undecided = _undecided(plan, comparison)
    arms = {arm.name for arm in plan.spec.arms}
    reopens_decided_arms = continued == arms and arms != {plan.spec.arms[0].name, *undecided}
    if reopens_decided_arms:
        return plan
    missing = {trial.id for trial in missing_trials(plan, folder)}
    trials = [trial for trial in plan.trials if trial.id not in missing or trial.is_base or trial.arm in continued]
    note = _look_line(looks, taken[-1], undecided)
    return replace(plan, trials=tuple(trials), notes=(*plan.notes, note))


def _without_excluded_trials(plan: Plan, folder: SweepFolder, comparison: "Comparison | None") -> Plan:
    """Return the plan in which failed trials that were left out of a test are not run again, with a note on them."""
    from neftune_cli.analysis.decision import excluded_trials

    excluded = excluded_trials(comparison) if comparison else frozenset()
    left_out = {one.id: one.label for one in plan.trials if folder_label(one.arm, one.seed) in excluded}
    failed = failed_trials(plan, folder)
    if labels := [label for label in left_out.values() if label in failed]:
        note = f"Not run again, because their arm was tested at a planned look without them: {listed(labels)}."
        plan = replace(plan, notes=(*plan.notes, note))
    return replace(plan, not_run_again=frozenset(left_out))


def _compare_and_note_excluded_trials(plan: Plan, folder: SweepFolder) -> "Comparison | None":
    """Compare the trials, and note in the manifest which failed trials each taken look excluded.

    The note precedes any further trial: a retried trial changes what the finished trials show.

    Returns:
        The comparison that decides the looks; None if no trained trial has finished.
    """
    from neftune_cli.analysis.decision import excluded_trials

    comparison, looks = _comparison(folder), folder.manifest().planned_looks_taken(plan.spec.analysis.looks)
    if comparison:
        folder.note_excluded_trials(looks, excluded_trials(comparison))
    return comparison


def _comparison(folder: SweepFolder) -> "Comparison | None":
    """Return the comparison that decides the looks of a sweep; None if no trained trial has finished."""
    from neftune_cli.analysis.comparison import compare_sweep

    try:
        return compare_sweep(folder)[0].comparison
    except NothingToCompareError:
        return None


def _has_baseline(plan: Plan, folder: SweepFolder) -> bool:
    done, baseline = done_trials(plan, folder), plan.spec.arms[0].name
    return any(trial.id in done for trial in plan.trials if trial.arm == baseline)


def _undecided(plan: Plan, comparison: "Comparison | None") -> tuple[str, ...]:
    """Return the arms that get further seeds, in the order of the sweep; none if all trials failed."""
    from neftune_cli.analysis.decision import arms_with_further_seeds

    undecided = arms_with_further_seeds(comparison) if comparison else ()
    return tuple(arm.name for arm in plan.spec.arms if arm.name in undecided)


def _joined(before: "SweepOutcome | None", outcome: "SweepOutcome") -> "SweepOutcome":
    """Return the outcome of all looks together: the last one, with the counts of trials that earlier ones ran."""
    if before is None:
        return outcome
    return replace(
        outcome,
        run_now=before.run_now + outcome.run_now,
        run_elsewhere=before.run_elsewhere + outcome.run_elsewhere,
        training_examples={**before.training_examples, **outcome.training_examples},
    )


def _look_line(looks: Sequence[int], seeds: int, undecided: tuple[str, ...]) -> str:
    state = f"not decided: {listed(undecided)}" if undecided else "no arm gets further seeds"
    return f"Look {looks.index(seeds) + 1} of {len(looks)}, {seeds} seeds: {state}."


def score_declared_metric(spec: SweepSpec, folder: SweepFolder) -> None:
    """Score the responses of all finished trials with the declared function, if there is one, and store the scores.

    Raises:
        UsageError: the function cannot be called, or does not return a number.
    """
    if not names_function(spec.analysis.metric):
        return
    from neftune_cli.evidence.user_metrics import metric_scores

    try:
        scores = metric_scores(folder, str(spec.analysis.metric))
    except UsageError as error:
        resume = "Then run the same command again. Finished trials are kept."
        raise UsageError(*(replace(one, fix=f"{one.fix} {resume}") for one in error.problems)) from error
    folder.write_metric_scores(scores)
