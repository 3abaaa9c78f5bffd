"""Collection of the evidence at and below paths: sweeps, and runs of other tools."""

from collections.abc import Sequence
from pathlib import Path

from neftune_cli.evidence.folders import check_folders, nothing_found
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.evidence.trainer_state import trainer_evidence
from neftune_cli.store import find_sweeps


def gather(paths: Sequence[Path]) -> list[Evidence]:
    """Return the evidence at and below the paths: sweeps first, then runs of other tools.

    Raises:
        UsageError: a path is not a folder, or a file in it is invalid.
        NothingToCompareError: there are neither sweeps nor runs of other tools.

    """
    check_folders(paths)
    evidence = [*sweep_evidence(find_sweeps(paths)), *trainer_evidence(*paths), *lm_eval_evidence(*paths)]
    if not evidence:
        raise nothing_found(paths, ", and no run of a trainer or of lm-evaluation-harness")
    return evidence
