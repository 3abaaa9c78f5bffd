"""Collection of the evidence at and below paths: sweeps, and runs of other tools."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.folders import check_folders, find_sweeps, nothing_found, sweeps_without_spec
from neftune_cli.evidence.inspect_ai import inspect_evidence
from neftune_cli.evidence.judgments import with_judgments
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.evidence.trainer_state import trainer_evidence
from neftune_cli.evidence.user_metrics import with_user_metric
from neftune_cli.metrics import names_function


def gather(
    paths: Sequence[Path],
    *,
    metric: str | None = None,
    judge_results: Path | None = None,
    cluster_by: str | None = None,
    say: Callable[[str], None] = lambda _note: None,
) -> list[Evidence]:
    """Return the evidence at and below the paths: sweeps first, then runs of other tools.

    Args:
        paths: folders.
        metric: key of the primary metric. The function that a key `module:function` names scores the responses, even if
            the sweep has stored its scores.
        judge_results: file with the ratings of a judge.
        cluster_by: field of the metadata of inspect's samples. Samples with the same value form a cluster.
        say: receives sentences on repeated trials, and on the responses without a rating or a score.

    Raises:
        UsageError: a path is not a folder, a file is invalid, the function fails, or `cluster_by` is not a field of
            inspect's logs.
        NothingToCompareError: there are neither sweeps nor runs of other tools.
    """
    found = _found(paths, cluster_by, scored_again=metric)
    problems = Problems()
    added = found
    if judge_results is not None:
        added = problems.attempt(lambda: with_judgments(found, judge_results)) or found
    if names_function(metric) and not any(metric in one.metrics for one in found):
        added = problems.attempt(lambda: with_user_metric(added, str(metric))) or added
    problems.raise_any()
    for before, after in zip(found, added, strict=True):
        if before.note_on_repeated_trials:
            say(before.note_on_repeated_trials)
        for note in after.notes[len(before.notes) :]:
            say(note)
    return added


def _found(paths: Sequence[Path], cluster_by: str | None, *, scored_again: str | None) -> list[Evidence]:
    check_folders(paths)
    sweeps, problems = [*find_sweeps(paths), *sweeps_without_spec(paths)], Problems()
    of_inspect = problems.attempt(lambda: inspect_evidence(*paths, cluster_by=cluster_by)) or []
    of_sweeps = problems.attempt(lambda: sweep_evidence(sweeps, scored_again=scored_again)) or []
    problems.raise_any()
    evidence = [*of_sweeps, *trainer_evidence(*paths), *lm_eval_evidence(*paths), *of_inspect]
    evidence = [_with_given_folders(one, paths, evidence) for one in evidence]
    if not evidence:
        raise nothing_found(paths, ", and no run of a trainer, of lm-evaluation-harness or of Inspect AI")
    if cluster_by is not None and not of_inspect:
        what = f"--cluster-by {cluster_by}: there are no inspect logs in {', '.join(map(str, paths))}."
        raise UsageError(
            Problem(what, "Leave it out: it names a field of the metadata of samples of Inspect AI (inspect_ai).")
        )
    return evidence


def _with_given_folders(one: Evidence, paths: Sequence[Path], evidence: Sequence[Evidence]) -> Evidence:
    """Replace the folders of runs by the given paths that contain them and nothing else, because these are fewer."""
    given = [path for path in paths if _is_below(one, path)]
    others = any(_is_below(other, path) for other in evidence if other is not one for path in given)
    if one.origin.is_sweep or others or not given:
        return one
    return replace(one, origin=replace(one.origin, folders=tuple(map(str, given))))


def _is_below(one: Evidence, path: Path) -> bool:
    return any(Path(folder).is_relative_to(path) for folder in one.origin.folders)


def measured_metrics(evidence: Sequence[Evidence]) -> list[str]:
    """Return the keys of the metrics that a trial has a score of."""
    return list(dict.fromkeys(key for one in evidence for key in one.measured_metrics))
