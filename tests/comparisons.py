"""Small comparisons whose tables can be checked by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Literal

from neftune_cli.analysis.comparison import ComparedEvidence
from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.options import DEFAULT_OPTIONS
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import (
    ArmSummary,
    Assessment,
    BestArm,
    ClaimResult,
    Comparison,
    Contrast,
    DifferenceBySeed,
    EarlyStopping,
    Estimate,
    Interval,
    NoiseTest,
    Role,
    StoppedArm,
    Verdict,
)
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.evidence.measurements import Evidence, Setting, TrialOrigin
from neftune_cli.metrics import METRICS, Margin, Metric

T_OF_THREE_SEEDS = 4.302653
"""Two-sided 5% point of the t distribution with two degrees of freedom."""
ITEMS = 20

SETTING = Setting("tiny", "bios", {"epochs": 3, "learning_rate": 1e-3, "batch_size": 16}, {})

Measured = tuple[float, Sequence[float], Sequence[float], Verdict]
"""Value of the base model, values of alpha=0 and alpha=5 by seed, and the verdict on alpha=5."""

MEASURED: dict[str, Measured | None] = {
    "train_loss": (math.nan, (0.800, 0.810, 0.820), (0.900, 0.910, 0.920), "higher"),
    "train_loss_clean": (4.1, (0.700, 0.705, 0.710), (0.750, 0.755, 0.766), "higher"),
    "eval_loss": (4.2, (1.500, 1.510, 1.520), (1.498, 1.505, 1.518), "equivalent"),
    "eval_perplexity": (66.686, (4.482, 4.527, 4.572), (4.473, 4.504, 4.563), "equivalent"),
    "exact_match": (0.0, (0.40, 0.42, 0.44), (0.41, 0.42, 0.46), "inconclusive"),
    "bleu": None,
    "response_chars": (400.0, (100.0, 104.0, 108.0), (110.0, 112.0, 120.0), "higher"),
    "repetition_2gram": (60.0, (10.0, 11.0, 12.0), (9.0, 9.9, 10.8), "better"),
}
"""BLEU stands for a metric that is not defined for the data. The base model has no noisy training loss."""
CORPUS_SCORES = ("train_loss", "bleu", "repetition_2gram")


def hand_made() -> Comparison:
    """Return two arms of three seeds and the base model, with t intervals over seeds."""
    keys = list(MEASURED)
    baseline = {key: None if one is None else estimate(one[1]) for key, one in MEASURED.items()}
    treated = {key: None if one is None else _compared(key, one) for key, one in MEASURED.items()}
    base = {key: None if one is None or math.isnan(one[0]) else one[0] for key, one in MEASURED.items()}
    arms = (summary("alpha=0", 0.0, baseline), summary("alpha=5", 5.0, treated, noise_ratio=0.097))
    return replace(comparison(*arms, keys=keys), base_scores=base)


def comparison(*arms: ArmSummary, keys: Sequence[str] = (), metrics: Mapping[str, Metric] = METRICS) -> Comparison:
    """Return a comparison of these arms with the first one, on the metrics `keys` or on all that the arms have."""
    measured = keys or [key for key in metrics if any(key in arm.estimates for arm in arms)]
    return Comparison(
        sweep="bios",
        setting=SETTING,
        declared_arms=tuple(arm.name for arm in arms),
        baseline=arms[0].name,
        base_scores=None,
        arms=arms,
        metrics={key: metrics[key] for key in measured},
        primary="eval_loss",
        about_noise=arms[0].alpha == 0 and all(arm.alpha for arm in arms[1:]),
        confidence=0.95,
        margins={key: Margin(0.01) for key in measured},
        items=ITEMS,
        noise_tests={},
        plan=None,
        learning=Learning(has_learned=None),
        best=None,
        early_stopping=None,
        claims=(),
        difference_from_first="",
        attestations=(),
        notes=(),
        unfinished=(),
        manifest_digest=None,
        origin=TrialOrigin(),
    )


def of_no_trials(comparison: Comparison) -> ComparedEvidence:
    """Return a comparison with evidence that has neither trials nor files."""
    return ComparedEvidence(Evidence(comparison.sweep, comparison.setting, (), {}), comparison, DEFAULT_OPTIONS)


def summary(
    name: str, alpha: float | None, estimates: Mapping[str, Estimate | None], *, noise_ratio: float | None = None
) -> ArmSummary:
    """Return an arm with the seeds of its estimates."""
    seeds = sorted({seed for one in estimates.values() if one for seed in one.by_seed})
    return ArmSummary(name, alpha, tuple(seeds), noise_ratio, estimates)


def estimate(
    values: Sequence[float],
    baseline: Sequence[float] | None = None,
    assessed: Assessment | None = None,
) -> Estimate:
    """Return a metric of seeds 0, 1, 2, ..., paired with the baseline's values if there are any."""
    difference = None
    if baseline is not None:
        pairs = [value - other for value, other in zip(values, baseline, strict=False)]
        difference = DifferenceBySeed(dict(enumerate(pairs)), *_mean_and_sd(pairs))
    return Estimate(dict(enumerate(values)), *_mean_and_sd(values), difference, assessed)


def assessment(
    difference: float,
    half_width: float,
    verdict: Verdict | None = "inconclusive",
    *,
    seeds: int = 3,
    items: int = ITEMS,
    margin: float = 0.01,
    role: Role = "arm",
) -> Assessment:
    """Return an assessment with this half-width of all its intervals. Its p-values are arbitrary."""
    error = half_width / T_OF_THREE_SEEDS
    about: Literal["method", "checkpoints"] = "method" if seeds >= MIN_SEEDS else "checkpoints"
    mean = CrossedMean(difference, seeds * error**2, 0.0, seeds, items, seeds - 1, 1.0)
    low, high = difference - half_width, difference + half_width
    paired = PairedComparison(difference, low, high, 0.2, seeds, items, items, about, 0.95, mean)
    interval = Interval(low, high)
    return Assessment(paired, 0.4, 0.03, margin, verdict, interval, interval, role=role)


def noise_test(mean: Assessment, trend: Assessment, arms: Sequence[str], p_value: float = 0.5) -> NoiseTest:
    """Return the test whether noise matters with these contrasts."""
    return NoiseTest(p_value, (Contrast("mean", tuple(arms), mean), Contrast("trend", tuple(arms), trend)), tuple(arms))


def best_arm() -> BestArm:
    """Return a best arm whose biased difference is three times its cross-fitted advantage."""
    return BestArm("alpha=5", "eval_loss", -0.003, assessment(-0.001, 0.0043).paired, {"alpha=5": 0.6, "alpha=10": 0.4})


def early_stopping() -> EarlyStopping:
    """Return an arm that is better than the baseline after the last epoch, but not at the best epoch."""
    baseline = StoppedArm("alpha=0", 1.51, 1.45, 2.0, assessment(0.06, 0.02, "worse"), None)
    treated = StoppedArm("alpha=5", 1.507, 1.449, 2.25, assessment(0.057, 0.03, "worse"), assessment(-0.001, 0.012))
    return EarlyStopping((1, 2, 3), (baseline, treated))


def claims() -> tuple[ClaimResult, ...]:
    """Return a claim that was tested and a claim that was not measured."""
    return (
        ClaimResult(
            key="training-loss",
            claim="Noise raises the training loss that is measured without noise.",
            paper="Higher for alpha 5 on LLaMA-2 7B and Alpaca (figure 4).",
            here="Noise-off training loss of alpha=5: +0.0520 [+0.0434, +0.0606].",
            status="supported",
            caveat="The paper shows one seed.",
        ),
        ClaimResult(
            key="leaderboard",
            claim="Scores on multiple-choice tasks stay what they were.",
            paper="OpenLLM Leaderboard tasks change by less than a point (table 3).",
            here="Not measured here: these tasks run in other programs.",
            status="not measured",
        ),
    )


def _compared(key: str, measured: Measured) -> Estimate:
    _, baseline, treated, verdict = measured
    differences = [value - other for value, other in zip(treated, baseline, strict=True)]
    half_width = T_OF_THREE_SEEDS * stdev(differences) / math.sqrt(3)
    items = 1 if key in CORPUS_SCORES else ITEMS
    margin = METRICS[key].margin.at(fmean(baseline))
    return estimate(treated, baseline, assessment(fmean(differences), half_width, verdict, items=items, margin=margin))


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    if not all(map(math.isfinite, values)):
        return math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None
