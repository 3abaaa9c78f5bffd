"""Declarations of the claims of the NEFTune paper (arXiv 2310.05914): statement, result in the paper, and test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neftune_cli.analysis.alignment import TrialsByArm, largest_score
from neftune_cli.analysis.learning import NO_ROOM
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.paper_claims.alpha_comparison import alphas_are_alike
from neftune_cli.analysis.paper_claims.claim_data import (
    ClaimData,
    NotMeasuredError,
    noisy_arms,
    reference_arm,
    unknown_arms,
)
from neftune_cli.analysis.paper_claims.claim_tests import ClaimOutcome, changes, does_not_rise, stays_equivalent
from neftune_cli.analysis.paper_claims.early_stopping_gain import gains_over_early_stopping
from neftune_cli.analysis.paper_claims.matched_length import gains_beyond_length
from neftune_cli.analysis.paper_claims.noise_effects import linear_trend, mean_effect
from neftune_cli.analysis.results import ClaimResult, EarlyStopping
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_LOSS, NOISE_OFF_TRAINING_LOSS, NOISY_TRAINING_LOSS, TRUNCATED, Metric


@dataclass(frozen=True)
class PaperClaim:
    """A claim of the paper, or one of two that it does not make: on the noisy training loss and on early stopping."""

    key: str
    claim: str
    """The claim as a sentence."""
    paper: str
    """Result in the paper, with its location there."""
    caveat: str
    """Differences between the paper's setting and this one."""
    test: Callable[[ClaimData], ClaimOutcome]
    """Raises NotMeasuredError if the trials lack the data."""
    metric: str = ""
    """Key of the metric of responses that the claim is about, if it can lack room to change."""


LARGEST_ALPHA = 15
"""Largest alpha of the paper."""

_MEMORIZATION = "With other data and a smaller model, less may be memorized even without noise."
_CHUNKS = (
    "The margin is a choice of this tool; the paper reports no test. The paper cuts responses to their first 50 to 150 "
    "words, generated with a repetition penalty of 1.2. Here the cut is shorter if responses are shorter, and the "
    "penalty is an option of the sweep."
)

CLAIMS: tuple[PaperClaim, ...] = (
    PaperClaim(
        key="training-loss-rises",
        claim="Training loss, measured without noise, rises with alpha.",
        paper="Higher with noise than without, LLaMA-2 7B on Alpaca (section 5.1; figure 4, no number given).",
        caveat=(
            "The paper compares one alpha with training without noise. It does not state that the loss rises steadily "
            "with alpha."
        ),
        test=lambda data: changes(linear_trend(data, NOISE_OFF_TRAINING_LOSS), "higher"),
    ),
    PaperClaim(
        key="held-out-loss-does-not-rise",
        claim="Held-out loss does not rise by more than the margin.",
        paper="Slightly lower with noise, LLaMA-2 7B trained on Alpaca (section 5.1; figure 4, no number given).",
        caveat=(
            "The paper measures it on other data (Evol-Instruct); here the held-out examples come from the same data."
        ),
        test=lambda data: does_not_rise(mean_effect(data, HELD_OUT_LOSS)),
    ),
    PaperClaim(
        key="training-rouge-falls",
        claim="Responses to training prompts are less similar to the references: lower ROUGE-L.",
        paper="Lower with noise, LLaMA-2 7B on Alpaca, greedy responses (section 5.1; figure 5, no number given).",
        caveat=_MEMORIZATION,
        test=lambda data: changes(mean_effect(data, "probe_rouge_l"), "lower"),
        metric="probe_rouge_l",
    ),
    PaperClaim(
        key="training-bleu-falls",
        claim="Responses to training prompts are less similar to the references: lower BLEU.",
        paper="Lower with noise, LLaMA-2 7B on Alpaca, greedy responses (section 5.1; figure 5, no number given).",
        caveat=f"{_MEMORIZATION} The paper scores each response; here BLEU is a corpus-level metric of a trial.",
        test=lambda data: changes(mean_effect(data, "probe_bleu"), "lower"),
        metric="probe_bleu",
    ),
    PaperClaim(
        key="answers-get-longer",
        claim="Responses get longer.",
        paper=(
            "From 375 to 1,062 characters on average (Alpaca, alpha 5), 864 to 1,404 (Evol-Instruct, 5), "
            "1,011 to 1,497 (ShareGPT, 10) and 1,101 to 1,694 (OpenPlatypus, 15); LLaMA-2 7B (table 4)."
        ),
        caveat=(
            "The paper's prompts are the open questions of AlpacaEval. Answers to factual questions, such as those of "
            "bios, have less room to grow."
        ),
        test=lambda data: changes(mean_effect(data, "response_chars"), "higher"),
        metric="response_chars",
    ),
    PaperClaim(
        key="repetition-stays",
        claim="Responses cut to equal length repeat 2-grams as often as without noise.",
        paper=(
            "1.49% without and 1.72% with noise (Alpaca), 3.87% and 3.79% (Evol-Instruct), 4.82% and 4.58% (ShareGPT), "
            "2.73% and 3.21% (OpenPlatypus), described as nearly identical (section 5.2, table 4)."
        ),
        caveat=_CHUNKS,
        test=lambda data: stays_equivalent(mean_effect(data, "repetition_2gram")),
    ),
    PaperClaim(
        key="diversity-stays",
        claim="Responses cut to equal length are as diverse as without noise.",
        paper=(
            "Log-diversity of 15.97 without and 16.41 with noise (Alpaca), 10.65 and 10.77 (Evol-Instruct), "
            "8.40 and 8.60 (ShareGPT), 9.96 and 9.64 (OpenPlatypus), described as nearly identical (section 5.2, "
            "table 4)."
        ),
        caveat=_CHUNKS,
        test=lambda data: stays_equivalent(mean_effect(data, "log_diversity")),
    ),
    PaperClaim(
        key="alphas-are-alike",
        claim="The choice of alpha hardly matters: 5, 10 and 15 have about the same effect.",
        paper=(
            "AlpacaEval win rates, ChatGPT as judge, alpha 5, 10 and 15: 62.55, 61.18, 61.86 (Alpaca; 48.26 without "
            "noise), 67.58, 65.59, 66.58 (Evol-Instruct; 62.55), 60.99, 60.62, 61.74 (OpenPlatypus; 57.20); LLaMA-2 7B "
            "(table 6)."
        ),
        caveat=(
            "The paper reports these numbers without a test, and for each data set the alpha with the best score of "
            "this judge (appendix A.1). On another model the same alpha has another noise ratio."
        ),
        test=alphas_are_alike,
    ),
    PaperClaim(
        key="noisy-training-loss-rises",
        claim="The logged training loss, measured with noise, is higher.",
        paper=(
            'Claimed neither in the paper nor by its authors: their README says that the training loss values "may be '
            'very close".'
        ),
        caveat="The README gives no number and does not name the runs.",
        test=lambda data: changes(mean_effect(data, NOISY_TRAINING_LOSS), "higher"),
    ),
    PaperClaim(
        key="gains-beyond-length",
        claim="Responses of equal length are better with noise.",
        paper=(
            "Length alone does not explain the gain: win rate of 61.99 with noise (1,058 characters), 32.36 without "
            "(375), 48.01 when asked for long and comprehensive responses (621), 38.58 when forced to 250 tokens "
            "(1,111); LLaMA-1 7B on Alpaca, GPT-4 as judge (section 5.3, table 5)."
        ),
        caveat=(
            "The paper makes responses longer, and a language model scores them. Here responses of equal length are "
            "compared by their similarity to the reference. Noise also affects the selection of responses of equal "
            "length. They may be the easier ones."
        ),
        test=gains_beyond_length,
        metric="rouge_l",
    ),
    PaperClaim(
        key="gains-over-early-stopping",
        claim="Training with noise is better than training without noise, if each is stopped at its best epoch.",
        paper=(
            "Not tested. The closest results are training runs of 1 to 9 epochs: win rates of at most 48.94 without "
            "noise (5 epochs) and 62.55 with noise (3 epochs); LLaMA-2 7B on Alpaca, ChatGPT as judge (appendix A.2, "
            "table 14)."
        ),
        caveat=(
            "The paper reports win rates; these trials have held-out loss. Stopping is possible only after an epoch."
        ),
        test=gains_over_early_stopping,
    ),
)


UNADJUSTED_CLAIMS_NOTE = (
    f"Each of the {len(CLAIMS)} claims is tested separately, without adjustment for the other claims or for planned "
    "looks. The claim on early stopping is an exception: it uses the verdicts of the comparison with early stopping, "
    "which are adjusted for the looks. A result can be wrong by chance. A change that is shown to be smaller than the "
    "equivalence margin counts as no change, even if it is significant. Equivalence is shown by two one-sided tests, "
    "so the interval of an equivalent result can extend beyond the margin. The paper trained every setting with one "
    "seed and gives no intervals (appendix A.1)."
)
"""Note on multiple testing, shown with all claims."""


def examine_claims(
    arms: TrialsByArm,
    baseline: str,
    metrics: Mapping[str, Metric],
    stopping: EarlyStopping | None,
    options: ComparisonOptions,
) -> tuple[ClaimResult, ...]:
    """Return the result of these trials for each claim of the paper, always in the same order.

    Args:
        arms: trained trials by arm and seed.
        baseline: arm that differences are relative to. Claims use it as the arm without noise if its alpha is 0.
        metrics: measured metrics.
        stopping: comparison with the early-stopped baseline, or None if there is none, for example with a single epoch.
        options: confidence, the primary metric that the user set, and the margin of each metric in its unit.
    """
    try:
        reference = reference_arm(arms, baseline)
        noisy = noisy_arms(arms, reference)
        data = ClaimData(arms, reference, noisy, unknown_arms(arms), baseline, metrics, stopping, options)
    except NotMeasuredError as reason:
        return tuple(_result(claim, ClaimOutcome("not measured", str(reason))) for claim in CLAIMS)
    beyond = _alphas_beyond_the_paper(data)
    return tuple(_result(claim, _outcome(claim, data), _without_room(data, claim.metric), beyond) for claim in CLAIMS)


def _alphas_beyond_the_paper(data: ClaimData) -> str:
    """Return a sentence on arms with larger alphas than those of the paper; empty without such arms."""
    arms = [arm for arm in data.noisy if data.alpha(arm) > LARGEST_ALPHA]
    are = "has a larger alpha" if len(arms) == 1 else "have larger alphas"
    return f"{listed(arms)} {are} than the paper, which has at most {LARGEST_ALPHA}." if arms else ""


def _without_room(data: ClaimData, key: str) -> str:
    """Return a sentence if all scores of a metric are near zero, or if the token limit cut responses; else ""."""
    if key not in data.metrics:
        return ""
    trials = [trial for arm in (data.reference, *data.noisy) for trial in data.arms[arm].values()]
    if key == "response_chars":
        cut = largest_score(trials, TRUNCATED)
        return f"Up to {cut:.0%} of a trial's responses were cut at the token limit." if cut > NO_ROOM else ""
    metric, largest = data.metrics[key], largest_score(trials, key)
    if largest > NO_ROOM * metric.bounds[1]:
        return ""
    return f"{metric.name} is at most {metric.number(largest)} in every trial, so it can hardly change."


def _outcome(claim: PaperClaim, data: ClaimData) -> ClaimOutcome:
    try:
        return claim.test(data)
    except NotMeasuredError as reason:
        return ClaimOutcome("not measured", str(reason))


def _result(claim: PaperClaim, outcome: ClaimOutcome, *more: str) -> ClaimResult:
    return ClaimResult(
        key=claim.key,
        claim=claim.claim,
        paper=claim.paper,
        here=outcome.here,
        status=outcome.status,
        caveat=" ".join((claim.caveat, *filter(None, more if outcome.status != "not measured" else ()))),
        paired=outcome.paired,
    )
