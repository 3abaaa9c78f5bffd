"""From trials to a result for each claim: the way in."""

from collections.abc import Mapping

from neftune_cli.analysis.aligned import TrialsByArm
from neftune_cli.analysis.choices import Choices
from neftune_cli.analysis.claims.case import Case
from neftune_cli.analysis.claims.deciding import Finding
from neftune_cli.analysis.claims.not_measured import NotMeasuredError
from neftune_cli.analysis.claims.paper import CLAIMS, Claim
from neftune_cli.analysis.claims.recipes import noisy_arms, reference_arm, unknown_arms
from neftune_cli.analysis.results import EarlyStopping, HypothesisResult
from neftune_cli.evidence.metrics import Metric

EACH_AT_ITS_OWN_LEVEL = (
    f"Each of the {len(CLAIMS)} claims is tested at its own level, not corrected for the others: among so many, one "
    "may be decided wrongly by chance alone. The paper trained every setting with one seed and gives no intervals "
    "(appendix A.1)."
)
"""What a reader of all claims has to know."""


def examine_claims(
    arms: TrialsByArm,
    baseline: str,
    metrics: Mapping[str, Metric],
    stopping: EarlyStopping | None,
    choices: Choices,
) -> tuple[HypothesisResult, ...]:
    """Return what these trials say of each claim of the paper, one result a claim, always in the same order.

    Args:
        arms: the trained trials, by arm and seed.
        baseline: the arm that others are compared with; the claims take it as the one without noise if it has none.
        metrics: those that were measured.
        stopping: held-out loss at the best epochs, beside the baseline; None where there is nothing to compare, as with
            a single epoch.
        choices: confidence, margins and the metric that the user asked about.
    """
    try:
        reference = reference_arm(arms, baseline)
        noisy = noisy_arms(arms, reference)
        case = Case(arms, reference, noisy, unknown_arms(arms), baseline, metrics, stopping, choices)
    except NotMeasuredError as reason:
        return tuple(_result(claim, Finding("not measured", str(reason))) for claim in CLAIMS)
    return tuple(_result(claim, _finding(claim, case)) for claim in CLAIMS)


def _finding(claim: Claim, case: Case) -> Finding:
    try:
        return claim.examine(case)
    except NotMeasuredError as reason:
        return Finding("not measured", str(reason))


def _result(claim: Claim, finding: Finding) -> HypothesisResult:
    return HypothesisResult(
        key=claim.key,
        claim=claim.claim,
        paper=claim.paper,
        here=finding.here,
        status=finding.status,
        caveat=claim.caveat,
        comparison=finding.comparison,
    )
