"""Results of the analysis, as reporting receives them: arms with estimates and verdicts, and results of claims."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from neftune_cli.analysis.error_sources import ErrorSources
from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.outlook import Outlook
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.config.arm_names import arm_name
from neftune_cli.evidence.measurements import AnalysisPlan, Setting, TrialOrigin
from neftune_cli.metrics import HELD_OUT_LOSS, HELD_OUT_PERPLEXITY, Margin, Metric
from neftune_cli.records import Attestation

Verdict = Literal["better", "worse", "higher", "lower", "equivalent", "inconclusive"]
"""`higher` and `lower` are for metrics where neither direction is an improvement by itself."""
DIFFERENT: tuple[Verdict, ...] = ("better", "worse", "higher", "lower")
"""Verdicts of a difference that is shown."""
DECIDED: tuple[Verdict, ...] = (*DIFFERENT, "equivalent")
"""Verdicts after which an arm gets no further seeds."""
Role = Literal["arm", "primary", "exploratory", "control"]
"""Role of an arm in the tests: one of several arms, the predeclared primary arm, an arm that is tested apart from the
primary one, or a check of the sweep."""
ContrastName = Literal["mean", "trend"]
"""`mean`: mean of the arms with noise minus the baseline. `trend`: change from the smallest to the largest alpha on the
line through the arms with noise."""
Status = Literal["supported", "refuted", "inconclusive", "not measured"]
"""Result for a claim of the paper."""
DepartureKind = Literal[
    "several sweeps",
    "added seeds",
    "missing trials",
    "missing base model",
    "missing baseline",
    "other baseline",
    "metric not measured",
    "other metric",
    "other margin",
    "other level",
    "copied runs",
]
"""Kind of a departure from the declared analysis:

- `several sweeps`: the analysis that each sweep declares does not apply to all of them together.
- `added seeds`, `missing trials`: a test is made repeatedly.
- `missing base model`, `missing baseline`, `metric not measured`: a part of the declared analysis has no result.
- `other ...`: the comparison was made with another choice.
- `copied runs`: runs with different seeds have equal values, so they are probably copies of one run.
"""
SAME_INFORMATION = (HELD_OUT_LOSS, HELD_OUT_PERPLEXITY)
"""Metrics with the same information: each is a function of the other."""


def family_of(arm: str, role: Role) -> tuple[str, ...]:
    """Return a key that the arms share whose tests are adjusted together. Each control has its own."""
    return (role, arm) if role == "control" else (role,)


@dataclass(frozen=True)
class DifferenceBySeed:
    """Differences of an arm from the baseline arm by seed, over the seeds that both have."""

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
class Interval:
    """Confidence interval in the metric's unit. Both ends are NaN if the standard error is unknown."""

    low: float
    high: float

    def clipped(self, low: float, high: float) -> "Interval":
        """Return the interval with its ends moved to these limits where they are beyond them."""
        return Interval(max(low, min(self.low, high)), max(low, min(self.high, high)))


@dataclass(frozen=True)
class Assessment:
    """One difference from the baseline with adjusted tests, simultaneous intervals and a verdict."""

    paired: PairedComparison
    """At the last look of the arm. Its interval and its p-value are unadjusted."""
    p_adjusted: float
    """p-value for the null hypothesis of no difference, adjusted over looks and arms; NaN if the arm was not tested."""
    p_equivalent: float
    """p-value for the null hypothesis of a difference beyond the margin, adjusted in the same way."""
    margin: float
    """Equivalence margin in the metric's unit."""
    verdict: Verdict | None
    """None with fewer than three seeds, if the standard error is unknown, and before the first planned look."""
    interval: Interval
    """Simultaneous interval over arms and looks. Zero is not inside it if a difference is shown: it is
    outside or an end."""
    equivalence_interval: Interval
    """Simultaneous interval at twice the error probability (90% for 95%), by which equivalence is tested."""
    looks_taken: int = 1
    """Number of looks at the arm."""
    role: Role = "arm"


def tests_by_family(assessed: Mapping[str, Assessment]) -> Counter[tuple[str, ...]]:
    """Return the number of tested arms in each family, whose tests are adjusted together."""
    return Counter(family_of(arm, one.role) for arm, one in assessed.items() if math.isfinite(one.p_adjusted))


@dataclass(frozen=True)
class Contrast:
    """A planned combination of the arms with noise, compared with the baseline or with zero."""

    name: ContrastName
    arms: tuple[str, ...]
    assessment: Assessment


@dataclass(frozen=True)
class NoiseTest:
    """Test of the null hypothesis that no arm with noise differs from the baseline, before the arms are tested."""

    p_value: float
    """Simes' p-value of the contrasts and of all arms with noise, adjusted over the looks. Looks after an arm was
    decided have the contrasts of the other arms."""
    contrasts: tuple[Contrast, ...]
    """The mean, and with several alphas the trend, of the arms at the last look with the most arms."""
    arms: tuple[str, ...]
    """The arms of all looks. Their differences are tested only after this test."""


@dataclass(frozen=True)
class MetricAssessment:
    """Assessments of all arms on one metric."""

    arms: Mapping[str, Assessment]
    noise_test: NoiseTest | None


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its seeds, in the metric's own unit."""

    by_seed: Mapping[int, float]
    mean: float
    """NaN if the value of a seed is not finite."""
    sd: float | None
    """Standard deviation over seeds (ddof=1); None for one seed."""
    difference: DifferenceBySeed | None
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

    @property
    def is_named_by_alpha(self) -> bool:
        """Return whether the name is that of an arm which differs from the others in alpha only, such as `alpha=5`."""
        return self.alpha is not None and self.name == arm_name({"alpha": self.alpha})


@dataclass(frozen=True)
class BestArm:
    """Best of the arms compared with the baseline, by the mean of one metric; its advantage is on other data."""

    arm: str
    metric: str
    naive: float
    """Difference from the baseline on the data that selected the arm: biased toward an improvement by the selection."""
    advantage: PairedComparison
    """Difference of this arm from the baseline, measured on the rest of the seeds and items of the splits that selected
    it. If no arm is better than the others, about a third to a half of the bias of `naive` remains. NaN if fewer than a
    quarter of the splits selected the arm."""
    chosen: Mapping[str, float]
    """Arm to the share of splits that selected it, 0 to 1."""
    advantages: Mapping[str, float] = field(default_factory=dict)
    """Arm to its difference on the rest of the splits that selected it; without arms that were never selected."""

    @property
    def split(self) -> tuple[str, ...]:
        """Return the names of the factors that were split: `seeds` and `items`, each if there are several."""
        counts = {"seeds": self.advantage.seeds, "items": self.advantage.clusters}
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
    """Selected epoch, mean over splits and over the seeds with a finite loss; NaN if there is none."""
    last: Assessment | None
    """The arm after its last epoch minus the baseline at its best epoch; for the baseline itself, the effect of
    overtraining, tested for a rise only. None before the first planned look, and if a loss is not finite."""
    best: Assessment | None
    """The arm at its best epoch minus the baseline at its best epoch; None for the baseline itself, and like `last`."""
    epochs: tuple[int, ...] = ()
    """Epochs from which the best one is selected, if they differ from the baseline's."""


@dataclass(frozen=True)
class EarlyStopping:
    """Comparison of the arms with the early-stopped baseline."""

    epochs: tuple[int, ...]
    """Epochs from which the best one of the baseline is selected."""
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
    paired: PairedComparison | None = None
    """Difference or slope on which `status` is based; None if it is based on several or on none."""


@dataclass(frozen=True)
class Departure:
    """Reason why the comparison is not the declared one, or why its verdicts hold with a restriction."""

    kind: DepartureKind
    """Kind, for programs."""
    sentence: str
    """The same for the user."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of the arms of comparable trials: the input of tables, plots, advice and the HTML page."""

    sweep: str
    setting: Setting
    declared_arms: tuple[str, ...]
    """Arms that the sweep declares, without controls, whether or not they have a finished trial. The first one is the
    baseline unless another one is chosen. For runs of other tools, the arms with trials."""
    baseline: str
    """Name of the arm that differences are relative to."""
    base_scores: Mapping[str, float | None] | None
    """Metric key to value before fine-tuning; None if the base model was not evaluated."""
    arms: tuple[ArmSummary, ...]
    """Trained arms in the order of the sweep, the baseline included."""
    metrics: Mapping[str, Metric]
    """Measured metrics, in the order of the tables."""
    primary: str
    """Key of the metric on which the advice is based."""
    about_noise: bool
    """Whether the baseline has no noise, and all other arms but controls have noise and the same recipe."""
    confidence: float
    margins: Mapping[str, Margin]
    """Metric key to equivalence margin in the metric's unit, with its rule."""
    items: int | None
    """Number of items on which the primary metric was measured; None for a metric without per-item values."""
    noise_tests: Mapping[str, NoiseTest]
    """Metric key to the test whether any arm with noise differs; empty unless all arms have noise and the baseline has
    none."""
    plan: AnalysisPlan | None
    """Analysis that the sweep declared before its first trial; None if it declared none."""
    learning: Learning
    best: BestArm | None
    """For the primary metric; None with fewer than two arms to select from, with fewer than three seeds that these and
    the baseline share, and without a preferred direction."""
    early_stopping: EarlyStopping | None
    """None unless losses per example are known after at least two epochs."""
    claims: tuple[ClaimResult, ...]
    """Claims of the paper. The JSON document and `--hypotheses` call them hypotheses."""
    difference_from_first: str
    """Difference from the first comparison of the same report; empty for the first one."""
    attestations: tuple[Attestation, ...]
    """Measurements of the noise during the noisy trials."""
    notes: tuple[str, ...]
    """Notes of the trials, without duplicates."""
    unfinished: tuple[str, ...]
    """One sentence for each trial that is missing from the numbers."""
    manifest_digest: str | None
    origin: TrialOrigin
    error_sources: ErrorSources | None = None
    """Sources of the standard errors of the primary metric; None if none has one over seeds."""
    departures: tuple[Departure, ...] = ()
    """Differences from the declared analysis. Their sentences are notes, too."""
    outlooks: Mapping[str, tuple[Outlook, ...]] = field(default_factory=dict)
    """Arm without a decision on the primary metric to its chances of a decision. Empty if no further seeds follow."""
    declared_seeds: tuple[int, ...] = ()
    """Seeds that the sweep declares for every arm; empty for runs of other tools."""
    chosen_margin: Margin | None = None
    """Equivalence margin of the primary metric that was chosen for this comparison; None for the declared or the
    default one."""
    shared_controls: tuple[str, ...] = ()
    """Controls of several sweeps, which have no common plan."""
    chosen_options: tuple[str, ...] = ()
    """Options of `neftune compare` that give this comparison of its folders, each with its value."""

    @property
    def equivalence_confidence(self) -> float:
        """Return the confidence level of the intervals by which equivalence is tested: 90% for 95%."""
        return 2 * self.confidence - 1

    @property
    def metric(self) -> Metric:
        """Return the primary metric."""
        return self.metrics[self.primary]

    @property
    def other_metrics(self) -> tuple[Metric, ...]:
        """Return the metrics with other information than the primary one. Perplexity is the loss on another scale."""
        same = SAME_INFORMATION if self.primary in SAME_INFORMATION else (self.primary,)
        return tuple(metric for key, metric in self.metrics.items() if key not in same)

    @property
    def declared(self) -> AnalysisPlan:
        """Return the declared analysis, one of controls alone if there is none."""
        return self.plan or AnalysisPlan(controls=self.shared_controls)

    @property
    def default_baseline(self) -> str:
        """Return the baseline unless another arm is chosen, which may have no finished trial."""
        return self.declared_arms[0]

    @property
    def arms_without_trials(self) -> tuple[str, ...]:
        """Return the declared arms without a finished trial."""
        finished = {arm.name for arm in self.arms}
        return tuple(arm for arm in self.declared_arms if arm not in finished)

    @property
    def declared_primary_arm(self) -> str | None:
        """Return the arm that was declared as the primary one, which may have no trial; None if none was declared."""
        return self.declared.primary_arm

    @property
    def primary_early_stopping(self) -> EarlyStopping | None:
        """Return the comparison with early stopping if it is about the primary metric, which is held-out loss then."""
        return self.early_stopping if self.primary == HELD_OUT_LOSS else None

    @property
    def treated(self) -> tuple[ArmSummary, ...]:
        """Return the arms that are compared with the baseline."""
        return tuple(arm for arm in self.arms if arm.name != self.baseline)

    @property
    def studied(self) -> tuple[ArmSummary, ...]:
        """Return the arms that the question is about: the treated ones without the controls."""
        return tuple(arm for arm in self.treated if arm.name not in self.declared.controls)

    def arm(self, name: str) -> ArmSummary:
        """Return the arm with this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def assessment(self, arm: str, metric: str) -> Assessment | None:
        """Return the assessment of an arm on a metric, or None if there is none."""
        estimate = self.arm(arm).estimates.get(metric)
        return estimate.assessment if estimate else None

    def assessments(self, metric: str) -> dict[str, Assessment]:
        """Return the assessments of a metric by treated arm, without arms that have none."""
        found = {arm.name: self.assessment(arm.name, metric) for arm in self.treated}
        return {arm: assessment for arm, assessment in found.items() if assessment is not None}
