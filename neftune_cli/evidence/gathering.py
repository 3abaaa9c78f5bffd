"""Collection of evidence: everything below the given paths that can be compared."""

from collections.abc import Sequence
from pathlib import Path

from neftune_cli.errors import NothingToCompareError, Problem, UsageError
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.evidence.trainer_state import trainer_evidence
from neftune_cli.store import find_sweeps


def gather(paths: Sequence[Path]) -> list[Evidence]:
    """Return the evidence at or below the paths: sweeps first, then runs of other tools.

    Raises:
        UsageError: a path does not exist, or a file there is invalid.
        NothingToCompareError: there is nothing to compare.

    """
    if wrong := [path for path in paths if not path.is_dir()]:
        fix = "Name a results folder of `neftune sweep`, for example results/."
        what = {True: "is a file", False: "does not exist"}
        raise UsageError(*(Problem(f"{path} {what[path.exists()]}.", fix) for path in wrong))
    own = sweep_evidence(find_sweeps(paths))
    others = [*trainer_evidence(*paths), *lm_eval_evidence(*paths)]
    if not own and not others:
        where = ", ".join(map(str, paths))
        raise NothingToCompareError(
            f"There is no sweep in {where}, and no run of a trainer or of lm-evaluation-harness.\n"
            "  Run `neftune sweep --alphas 0,5,10,15` first."
        )
    return [*own, *others]
