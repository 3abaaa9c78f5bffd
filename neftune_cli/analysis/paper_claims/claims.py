"""The claims of the NEFTune paper (arXiv 2310.05914), what it reports for each, and how each is examined here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.paper_claims.alpha_comparison import alphas_are_alike
from neftune_cli.analysis.paper_claims.claim_data import Case, NotMeasuredError, noisy_arms, reference_arm, unknown_arms
from neftune_cli.analysis.paper_claims.claim_tests import Finding, does_not_rise, moves, stays
from neftune_cli.analysis.paper_claims.early_stopping_gain import gains_over_stopping
from neftune_cli.analysis.paper_claims.matched_length import gains_beyond_length
from neftune_cli.analysis.paper_claims.noise_effects import pooled, rise_with_alpha
from neftune_cli.analysis.results import EarlyStopping, HypothesisResult
from neftune_cli.metrics import HELD_OUT_LOSS, Metric


@dataclass(frozen=True)
class Claim:
    """One claim."""

    key: str
    claim: str
    """As a sentence."""
    paper: str
    """What the paper reports, with its place there."""
    caveat: str
    """Why that and what is found here aren't the same, as far as they aren't."""
    examine: Callable[[Case], Finding]
    """Raises NotMeasuredError where it can't."""


_OTHER_ANSWERS = "Other data and a smaller model may learn less by heart in the first place."
_CHUNKS = (
    "The margin is this tool's, the paper tests nothing. Its chunks are the first 50 to 150 words, generated with a "
    "repetition penalty of 1.2; here chunks are shorter where answers are, and the sweep sets the penalty."
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        key="training-loss-rises",
        claim="The training loss measured without noise rises with alpha.",
        paper="Higher with noise than without, LLaMA-2 7B on Alpaca (section 5.1; figure 4, no number given).",
        caveat="The paper compares one alpha with none; that the loss rises steadily with alpha is more than it says.",
        examine=lambda case: moves(rise_with_alpha(case, "train_loss_clean"), "higher"),
    ),
    Claim(
        key="held-out-loss-does-not-rise",
        claim="The held-out loss doesn't rise.",
        paper="Slightly lower with noise, LLaMA-2 7B trained on Alpaca (section 5.1; figure 4, no number given).",
        caveat="The paper measures it on other data (Evol-Instruct), here it is on held-out examples of the same data.",
        examine=lambda case: does_not_rise(pooled(case, HELD_OUT_LOSS)),
    ),
    Claim(
        key="training-rouge-falls",
        claim="Answers to training prompts have less of the training answers' wording: lower ROUGE-L.",
        paper="Lower with noise, LLaMA-2 7B on Alpaca, greedy answers (section 5.1; figure 5, no number given).",
        caveat=_OTHER_ANSWERS,
        examine=lambda case: moves(pooled(case, "probe_rouge_l"), "lower"),
    ),
    Claim(
        key="training-bleu-falls",
        claim="Answers to training prompts have less of the training answers' wording: lower BLEU.",
        paper="Lower with noise, LLaMA-2 7B on Alpaca, greedy answers (section 5.1; figure 5, no number given).",
        caveat=f"{_OTHER_ANSWERS} The paper scores answer by answer; here it is one score for all answers of a trial.",
        examine=lambda case: moves(pooled(case, "probe_bleu"), "lower"),
    ),
    Claim(
        key="answers-get-longer",
        claim="Answers get longer.",
        paper=(
            "From 375 to 1,062 characters on average (Alpaca, alpha 5), 864 to 1,404 (Evol-Instruct, 5), "
            "1,011 to 1,497 (ShareGPT, 10) and 1,101 to 1,694 (OpenPlatypus, 15); LLaMA-2 7B (table 4)."
        ),
        caveat="Answers there are to AlpacaEval's open questions; where the data ask for short facts, none can grow.",
        examine=lambda case: moves(pooled(case, "response_chars"), "higher"),
    ),
    Claim(
        key="repetition-stays",
        claim="Answers cut to one length repeat 2-grams as often as before.",
        paper=(
            "1.49% without and 1.72% with noise (Alpaca), 3.87% and 3.79% (Evol-Instruct), 4.82% and 4.58% (ShareGPT), "
            "2.73% and 3.21% (OpenPlatypus): called nearly identical (section 5.2, table 4)."
        ),
        caveat=_CHUNKS,
        examine=lambda case: stays(pooled(case, "repetition_2gram")),
    ),
    Claim(
        key="diversity-stays",
        claim="Answers cut to one length are as diverse as before.",
        paper=(
            "Log-diversity of 15.97 without and 16.41 with noise (Alpaca), 10.65 and 10.77 (Evol-Instruct), "
            "8.40 and 8.60 (ShareGPT), 9.96 and 9.64 (OpenPlatypus): called nearly identical (section 5.2, table 4)."
        ),
        caveat=_CHUNKS,
        examine=lambda case: stays(pooled(case, "log_diversity")),
    ),
    Claim(
        key="alphas-are-alike",
        claim="Which alpha it is hardly matters: 5, 10 and 15 do about the same.",
        paper=(
            "AlpacaEval win rates, ChatGPT as judge, alpha 5, 10 and 15: 62.55, 61.18, 61.86 (Alpaca; 48.26 without "
            "noise), 67.58, 65.59, 66.58 (Evol-Instruct; 62.55), 60.99, 60.62, 61.74 (OpenPlatypus; 57.20); LLaMA-2 7B "
            "(table 6)."
        ),
        caveat=(
            "The paper gives these numbers without a test, and reports for each data set the alpha that this judge "
            "likes best (appendix A.1). The same alpha is other noise on another model."
        ),
        examine=alphas_are_alike,
    ),
    Claim(
        key="noisy-training-loss-rises",
        claim="The training loss that is logged, with the noise on, is higher.",
        paper='Not in the paper; the losses "may be very close" during training, says the authors\' README.',
        caveat="The README gives no number and doesn't say of which runs.",
        examine=lambda case: moves(pooled(case, "train_loss"), "higher"),
    ),
    Claim(
        key="gains-beyond-length",
        claim="Answers get better by more than their length: those of the same length are better too.",
        paper=(
            "Win rate of 61.99 with noise (1,058 characters), 32.36 without (375), 48.01 when asked for long and "
            "comprehensive answers (621), 38.58 when forced to 250 tokens (1,111); LLaMA-1 7B on Alpaca, GPT-4 as "
            "judge (section 5.3, table 5)."
        ),
        caveat=(
            "The paper makes answers longer, and a model judges them; here equally long ones are compared, by their "
            "likeness to the reference answer. Which answers are equally long is itself an effect of the noise: "
            "they may be the easier ones."
        ),
        examine=gains_beyond_length,
    ),
    Claim(
        key="gains-over-early-stopping",
        claim="Noise gains more than stopping the training at its best epoch.",
        paper=(
            "Not tested. Nearest to it are trainings of 1 to 9 epochs: win rates of at most 48.94 without noise "
            "(5 epochs) and 62.55 with it (3 epochs); LLaMA-2 7B on Alpaca, ChatGPT as judge (appendix A.2, table 14)."
        ),
        caveat="Win rates there, held-out loss here; and there are only these epochs to stop at.",
        examine=gains_over_stopping,
    ),
)


UNADJUSTED_CLAIMS_NOTE = (
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
    choices: ComparisonOptions,
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
