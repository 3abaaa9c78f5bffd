"""Collection of the evidence at and below paths: sweeps, and runs of other tools."""

from collections.abc import Sequence
from pathlib import Path

from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.folders import check_folders, nothing_found
from neftune_cli.evidence.inspect_logs import inspect_evidence
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.evidence.trainer_state import trainer_evidence
from neftune_cli.store import find_sweeps


def gather(paths: Sequence[Path], *, cluster_by: str | None = None, scored_again: str | None = None) -> list[Evidence]:
    """Return the evidence at and below the paths: sweeps first, then runs of other tools.

    Args:
        paths: folders.
        cluster_by: field of the metadata of inspect's samples. Samples with the same value form a cluster.
        scored_again: key of a sweep's own metric whose stored scores are not read, because its function is called.

    Raises:
        UsageError: a path is not a folder, a file in it is invalid, or `cluster_by` is not a field of inspect's logs.
        NothingToCompareError: there are neither sweeps nor runs of other tools.

    """
    check_folders(paths)
    of_inspect = inspect_evidence(*paths, cluster_by=cluster_by)
    of_sweeps = sweep_evidence(find_sweeps(paths), scored_again=scored_again)
    evidence = [*of_sweeps, *trainer_evidence(*paths), *lm_eval_evidence(*paths), *of_inspect]
    if not evidence:
        raise nothing_found(paths, ", and no run of a trainer, of lm-evaluation-harness or of Inspect AI")
    if cluster_by is not None and not of_inspect:
        what = f"--cluster-by {cluster_by}: there are no inspect logs in {', '.join(map(str, paths))}."
        raise UsageError(
            Problem(what, "Leave it out: it names a field of the metadata of samples of Inspect AI (inspect_ai).")
        )
    return evidence
