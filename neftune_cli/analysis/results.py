"""What the analysis hands to the reporting: arms with their estimates, assessments, and the questions answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.evidence.measurements import Setting
from neftune_cli.metrics import Metric
from neftune_cli.records import Attestation

Verdict = Literal["better", "worse", "higher", "lower", "equivalent", "inconclusive"]
"""A verdict. `higher` and `lower` are said of metrics of which neither way is good by itself."""
Status = Literal["supported", "refuted", "inconclusive", "not measured"]
"""What the data say about a claim."""


@dataclass(frozen=True)
class PairedDifference:
    """An arm minus the baseline arm, seed by seed, over the seeds that both have."""

    by_seed: Mapping[int, float]
    mean: float
    """Not a number where a value isn't finite."""
    sd: float | None
    """Standard deviation of the differences (ddof=1); None for one seed."""

    @property
    def seeds(self) -> int:
        """Return how many seeds are paired."""
        return len(self.by_seed)


@dataclass(frozen=True)
class Assessment:
    """What the data say of one difference to the baseline."""

    comparison: PairedComparison
    p_adjusted: float
    """p-value for no difference, after Holm's correction over the arms; not a number where there is none."""
    p_equivalent: float
    """p-value for a difference beyond the margin (two one-sided tests), after the same correction."""
    margin: float
    """Differences up to it are taken for none, in the metric's unit."""
    verdict: Verdict | None
    """None with fewer than three seeds, and where nothing says how sure the difference is."""
    detectable: float
    """Smallest true difference that such a comparison finds four times out of five."""
    seeds_needed: int | None
    """About how many seeds in all would settle an inconclusive difference; None where it is settled or none would."""


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its seeds, in the metric's own unit."""

    by_seed: Mapping[int, float]
    mean: float
    """Not a number where a seed's value isn't finite."""
    sd: float | None
    """Standard deviation over seeds (ddof=1); None for one seed."""
    difference: PairedDifference | None
    """None for the baseline itself, and where no seed is shared with it."""
    assessment: Assessment | None
    """None where there is no difference, or one that isn't finite."""


@dataclass(frozen=True)
class ArmSummary:
    """The trials that share everything but the seed, summarised."""

    name: str
    alpha: float | None
    seeds: tuple[int, ...]
    noise_ratio: float | None
    """Noise norm as a share of the embedding norm at the median length; None where it wasn't measured."""
    estimates: Mapping[str, Estimate | None]
    """Metric key to estimate; None where the metric isn't defined for the arm."""


@dataclass(frozen=True)
class BestArm:
    """The arm with the best mean of one metric, and what such a choice gains on seeds and items not used for it."""

    arm: str
    metric: str
    naive: float
    """Its difference to the baseline over everything it was chosen on: too good on average."""
    gain: PairedComparison
    """Difference to the baseline, chosen on one part of seeds and items and measured on another, over many splits."""
    chosen: Mapping[str, float]
    """Arm to the share of splits in which it was the best, 0 to 1."""

    @property
    def split(self) -> tuple[str, ...]:
        """Return what was split, `seeds` and `items` or one of them: what there was more than one of."""
        counts = {"seeds": self.gain.seeds, "items": self.gain.clusters}
        return tuple(what for what, count in counts.items() if count > 1)


@dataclass(frozen=True)
class StoppedArm:
    """Held-out loss of one arm beside the baseline at the baseline's best epoch, in nats per completion token."""

    name: str
    last_loss: float
    """Mean after the last epoch."""
    best_loss: float
    """Mean after each seed's best epoch, chosen on other items than those it is measured on."""
    best_epoch: float
    """Mean over seeds and splits of the epoch chosen."""
    last: Assessment | None
    """The arm after its last epoch minus the baseline at its best; for the baseline what training on did to it."""
    best: Assessment | None
    """The arm at its best epoch minus the baseline at its best; None for the baseline itself."""
    epochs: tuple[int, ...] = ()
    """To choose from, where they aren't the baseline's."""


@dataclass(frozen=True)
class EarlyStopping:
    """Whether noise is worth more than stopping in time."""

    epochs: tuple[int, ...]
    """The baseline's, to choose from."""
    arms: tuple[StoppedArm, ...]
    """The baseline first."""


@dataclass(frozen=True)
class HypothesisResult:
    """One claim of the NEFTune paper beside what was found here."""

    key: str
    claim: str
    """The claim, as a sentence."""
    paper: str
    """What the paper reports, with its place there."""
    here: str
    """What was found here, with interval; for what wasn't measured, how to measure it."""
    status: Status
    caveat: str = ""
    """Why the two aren't comparable, as far as they aren't."""
    comparison: PairedComparison | None = None
    """The difference or slope that `status` rests on; None where it rests on several or on none."""


@dataclass(frozen=True)
class Comparison:
    """Everything the tables, plots, sentences and the page about comparable trials are made from."""

    sweep: str
    setting: Setting
    baseline: str
    """Name of the arm that the differences are taken to."""
    base: Mapping[str, float | None] | None
    """Metric key to value before fine-tuning; None where the base wasn't evaluated."""
    arms: tuple[ArmSummary, ...]
    """The trained arms in the sweep's order, the baseline among them."""
    metrics: Mapping[str, Metric]
    """What was measured, in the order of the tables."""
    primary: str
    """Key of the metric that the advice is about."""
    confidence: float
    best: BestArm | None
    """For the primary metric; None with a single noisy arm, or where there are no items to split."""
    early_stopping: EarlyStopping | None
    """None where the losses of fewer than two epochs are known."""
    hypotheses: tuple[HypothesisResult, ...]
    apart: str
    """How this differs from what it is shown beside; empty where it doesn't."""
    attestations: tuple[Attestation, ...]
    """What the noisy trials measured of their noise."""
    notes: tuple[str, ...]
    """What the trials noted, each note once."""
    unfinished: tuple[str, ...]
    """One sentence for each trial that is missing from the numbers."""
    manifest_digest: str | None

    @property
    def treated(self) -> tuple[ArmSummary, ...]:
        """Return the arms that are compared with the baseline."""
        return tuple(arm for arm in self.arms if arm.name != self.baseline)

    def assessment(self, arm: str, metric: str) -> Assessment | None:
        """Return what is said of an arm's metric, None where nothing is."""
        estimate = next(one for one in self.arms if one.name == arm).estimates.get(metric)
        return estimate.assessment if estimate else None
