"""Collection of the evidence at and below paths: sweeps, and runs of other tools."""

from collections.abc import Sequence
from pathlib import Path

from neftune_cli.errors import NothingToCompareError, Problem, UsageError
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
    if wrong := [path for path in paths if not path.is_dir()]:
        fix = "Name a results folder of `neftune sweep`, for example results/."
        raise UsageError(
            *(Problem(f"{path} {'is a file' if path.exists() else 'does not exist'}.", fix) for path in wrong)
        )
    evidence = [*sweep_evidence(find_sweeps(paths)), *trainer_evidence(*paths), *lm_eval_evidence(*paths)]
    if not evidence:
        where = ", ".join(map(str, paths))
        raise NothingToCompareError(
            f"There is no sweep in {where}, and no run of a trainer or of lm-evaluation-harness.\n"
            "  Run `neftune sweep --alphas 0,5,10,15` first."
        )
    return evidence
