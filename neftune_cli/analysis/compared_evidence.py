"""Comparisons with the evidence that they were made from: of all sets of trials, or of one sweep's folder."""

from collections.abc import Sequence
from dataclasses import dataclass

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.options import DEFAULT_OPTIONS, ComparisonOptions
from neftune_cli.analysis.results import Comparison
from neftune_cli.errors import NothingToCompareError
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.store import SweepFolder


@dataclass(frozen=True)
class ComparedEvidence:
    """Comparable trials, their comparison, and the choices it was made with."""

    evidence: Evidence
    comparison: Comparison
    choices: ComparisonOptions


def compare_all(
    evidence: Sequence[Evidence], choices: ComparisonOptions = DEFAULT_OPTIONS
) -> tuple[list[ComparedEvidence], list[str]]:
    """Compare each set of trials; also return a message for each set without a finished trained trial.

    Raises:
        NothingToCompareError: no set has a finished trained trial.
        UsageError: the choices do not fit one of the sets.
    """
    compared, empty = [], []
    for one in evidence:
        try:
            compared.append(ComparedEvidence(one, compare_arms(one, choices), choices))
        except NothingToCompareError as error:
            empty.append(str(error))
    if not compared:
        raise NothingToCompareError("\n".join(empty))
    return compared, empty


def compare_sweep(folder: SweepFolder) -> list[ComparedEvidence]:
    """Compare the finished trials of one sweep: several comparisons if trials differ in more than their arm and seed.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    return compare_all(sweep_evidence([folder]))[0]
