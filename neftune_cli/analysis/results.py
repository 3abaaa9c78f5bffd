"""Results of the analysis, as reporting receives them: arms with estimates and verdicts, and results of claims."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.evidence.measurements import Setting
from neftune_cli.metrics import Metric
from neftune_cli.records import Attestation

Verdict = Literal["better", "worse", "higher", "lower", "equivalent", "inconclusive"]
"""`higher` and `lower` are for metrics where neither direction is an improvement by itself."""
Status = Literal["supported", "refuted", "inconclusive", "not measured"]
"""Result for a claim of the paper."""


@dataclass(frozen=True)
class PairedDifference:
    """Differences of an arm to the baseline arm by seed, over the seeds that both have."""

    by_seed: Mapping[int, float]
    mean: float
    """NaN if a value is not finite."""
    sd: float | None
    """Standard deviation of the differences (ddof=1); None for one seed."""

    @property
    def seeds(self) -> int:
        """Return the number of paired seeds."""
        return len(self.by_seed)


@dataclass(frozen=True)
class Assessment:
    """One difference to the baseline with adjusted tests, a verdict and its power."""

    comparison: PairedComparison
    p_adjusted: float
    """p-value for the null hypothesis of no difference, Holm-adjusted over the arms; NaN if the arm was not tested."""
    p_equivalent: float
    """p-value for the null hypothesis of a difference beyond the margin (two one-sided tests), Holm-adjusted."""
    margin: float
    """Equivalence margin in the metric's unit."""
    verdict: Verdict | None
    """None with fewer than three seeds, and if the standard error is unknown."""
    detectable: float
    """Minimum detectable effect at 80% power, in the metric's unit."""
    seeds_needed: int | None
    """Approximate total seeds that an inconclusive difference needs; None if decided, or if no number is enough."""


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its seeds, in the metric's own unit."""

    by_seed: Mapping[int, float]
    mean: float
    """NaN if the value of a seed is not finite."""
    sd: float | None
    """Standard deviation over seeds (ddof=1); None for one seed."""
    difference: PairedDifference | None
    """None for the baseline itself, and if the arm shares no seed with it."""
    assessment: Assessment | None
    """None without a difference, if it is not finite, or if the arm shares no item with the baseline."""


@dataclass(frozen=True)
class ArmSummary:
    """Summary of the trials that differ only in the seed."""

    name: str
    alpha: float | None
    seeds: tuple[int, ...]
    noise_ratio: float | None
    """Noise norm divided by embedding norm at the median length; None if not measured."""
    estimates: Mapping[str, Estimate | None]
    """Metric key to estimate; None if the metric is not defined for the arm."""


@dataclass(frozen=True)
class BestArm:
    """The arm with the best mean of one metric, with its cross-fitted gain: free of selection bias."""

    arm: str
    metric: str
    naive: float
    """Difference to the baseline on the data that selected the arm: biased upward by the selection."""
    gain: PairedComparison
    """Difference to the baseline, selected on one part of seeds and items and measured on the rest, over splits."""
    chosen: Mapping[str, float]
    """Arm to the share of splits that selected it, 0 to 1."""

    @property
    def split(self) -> tuple[str, ...]:
        """Return the names of the factors that were split: `seeds` and `items`, each if there are several."""
        counts = {"seeds": self.gain.seeds, "items": self.gain.clusters}
        return tuple(factor for factor, count in counts.items() if count > 1)


@dataclass(frozen=True)
class StoppedArm:
    """Held-out loss of one arm with early stopping, in nats per completion token."""

    name: str
    last_loss: float
    """Mean after the last epoch."""
    best_loss: float
    """Mean after the best epoch of each seed, selected on one part of the items and measured on the rest."""
    best_epoch: float
    """Selected epoch, mean over seeds and splits."""
    last: Assessment | None
    """The arm after its last epoch minus the baseline at its best epoch. For the baseline: effect of overtraining."""
    best: Assessment | None
    """The arm at its best epoch minus the baseline at its best epoch; None for the baseline itself."""
    epochs: tuple[int, ...] = ()
    """Epochs to select from, if they differ from the baseline's."""


@dataclass(frozen=True)
class EarlyStopping:
    """Comparison of the arms with the early-stopped baseline."""

    epochs: tuple[int, ...]
    """Epochs to select from for the baseline."""
    arms: tuple[StoppedArm, ...]
    """The baseline first."""
    items: int | None = None
    """Held-out items that every epoch measured; None if these are all items of the last epoch."""


@dataclass(frozen=True)
class ClaimResult:
    """One claim of the NEFTune paper, with the result of the paper and of these trials."""

    key: str
    claim: str
    """The claim as a sentence."""
    paper: str
    """Result in the paper, with its location there."""
    here: str
    """Result of these trials with interval; for a claim that was not measured, how to measure it."""
    status: Status
    caveat: str = ""
    """Differences between the paper's setting and this one."""
    comparison: PairedComparison | None = None
    """Difference or slope on which `status` is based; None if it is based on several or on none."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of the arms of comparable trials: the input of tables, plots, advice and the HTML page."""

    sweep: str
    setting: Setting
    baseline: str
    """Name of the arm that differences are relative to."""
    base: Mapping[str, float | None] | None
    """Metric key to value before fine-tuning; None if the base model was not evaluated."""
    arms: tuple[ArmSummary, ...]
    """Trained arms in the order of the sweep, the baseline included."""
    metrics: Mapping[str, Metric]
    """Measured metrics, in the order of the tables."""
    primary: str
    """Key of the metric on which the advice is based."""
    confidence: float
    best: BestArm | None
    """For the primary metric; None with fewer than two arms to select from, or without data to split."""
    early_stopping: EarlyStopping | None
    """None unless losses per example are known after at least two epochs."""
    hypotheses: tuple[ClaimResult, ...]
    apart: str
    """Difference from the other comparisons of the same report; empty if there is none."""
    attestations: tuple[Attestation, ...]
    """Measurements of the noise during the noisy trials."""
    notes: tuple[str, ...]
    """Notes of the trials, without duplicates."""
    unfinished: tuple[str, ...]
    """One sentence for each trial that is missing from the numbers."""
    manifest_digest: str | None

    @property
    def treated(self) -> tuple[ArmSummary, ...]:
        """Return the arms that are compared with the baseline."""
        return tuple(arm for arm in self.arms if arm.name != self.baseline)

    def assessment(self, arm: str, metric: str) -> Assessment | None:
        """Return the assessment of an arm on a metric, or None if there is none."""
        estimate = next(one for one in self.arms if one.name == arm).estimates.get(metric)
        return estimate.assessment if estimate else None
