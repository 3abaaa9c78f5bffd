"""The JSON document of a comparison as documented types: what other programs may rely on."""

from typing import Any, Literal

from pydantic import ConfigDict

from neftune_cli.analysis.results import Status, Word
from neftune_cli.records import SCHEMA_VERSION, Record


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document, the texts below as its descriptions."""
    return ExportedComparisons.model_json_schema(mode="serialization")


class _Exported(Record):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ExportedJudgement(_Exported):
    """A difference and what the data say of it; null where a number is undefined or not finite."""

    difference: float | None
    """Arm minus baseline, in the metric's unit, over the seeds and items that both have."""
    ci_low: float | None
    """Lower end of the interval of the difference, not corrected for the number of arms."""
    ci_high: float | None
    """Upper end of the interval."""
    p_value: float | None
    """Two-sided, for no difference; not corrected."""
    p_adjusted: float | None
    """`p_value` after Holm's correction over the arms, apart from the equivalences'."""
    p_equivalent: float | None
    """For a difference beyond the margin: two one-sided tests, after a correction of their own."""
    margin: float | None
    """Differences up to it count as none, in the metric's unit; a share of the mean is that of the paired baseline."""
    verdict: Word | None
    """The word; null with fewer than three paired seeds, or where differences don't vary and prove nothing."""
    about: Literal["method", "checkpoints"] | None
    """What interval and verdict speak about: `checkpoints` with fewer than three paired seeds."""
    detectable: float | None
    """Smallest true difference that such a comparison finds four times out of five."""
    seeds_needed: int | None
    """About how many seeds in all would settle an inconclusive difference; null where none would or it is settled."""
    items: int | None
    """Items that the difference is over; 1 for a score that has none."""


class ExportedEstimate(ExportedJudgement):
    """One metric of one arm: the fields of a judgement, null for the baseline itself, and these."""

    mean: float | None
    """Mean over seeds."""
    sd: float | None
    """Standard deviation over seeds (ddof=1); null for one seed."""
    difference_sd: float | None
    """Standard deviation of the paired differences over seeds (ddof=1)."""
    seeds: tuple[int, ...]
    """Seeds that the mean is over."""


class ExportedSetting(_Exported):
    """Model, data and recipe."""

    model: str
    """Name of the model."""
    data: str
    """Name of the data set."""
    recipe: dict[str, Any]
    """Fields of the training recipe, as far as they are known."""


class ExportedBestArm(_Exported):
    """What choosing the best arm gains."""

    arm: str
    """The arm with the best mean, of those that share three seeds or more with the baseline."""
    metric: str
    """The metric that the arm is best by."""
    naive: float | None
    """Its difference to the baseline on everything it was chosen on: too good on average."""
    gain: float | None
    """Difference to the baseline, chosen on one part of seeds and items and measured on the other, over many splits."""
    ci_low: float | None
    """Lower end of the interval of the gain."""
    ci_high: float | None
    """Upper end of the interval."""
    chosen: dict[str, float]
    """Arm to the share of splits in which it was the best, 0 to 1."""


class ExportedStoppedArm(_Exported):
    """Held-out loss of one arm, in nats per completion token, beside the baseline at its best epoch."""

    arm: str
    """Name of the arm."""
    epochs: tuple[int, ...]
    """Its own to choose from."""
    last_loss: float | None
    """Mean after the last epoch."""
    best_loss: float | None
    """Mean after each seed's best epoch, chosen on other items than those it is measured on."""
    best_epoch: float
    """Mean of the epoch chosen."""
    last: ExportedJudgement | None
    """The arm after its last epoch minus the baseline at its best."""
    best: ExportedJudgement | None
    """The arm at its best epoch minus the baseline at its best; null for the baseline itself."""


class ExportedEarlyStopping(_Exported):
    """Whether noise is worth more than stopping in time."""

    epochs: tuple[int, ...]
    """The baseline's, to choose from."""
    arms: tuple[ExportedStoppedArm, ...]
    """The baseline first."""


class ExportedHypothesis(_Exported):
    """One claim of the NEFTune paper."""

    key: str
    """Short name of the claim."""
    claim: str
    """The claim, as a sentence."""
    status: Status
    """What these data say about it."""
    paper: str
    """What the paper reports, with its place there."""
    here: str
    """What was found here; for what wasn't measured, how to measure it."""
    caveat: str
    """Why the two aren't comparable, as far as they aren't."""


class ExportedComparison(_Exported):
    """One sweep: losses in nats per completion token, metrics named and scaled as in the trials' records."""

    sweep: str
    """Name of the sweep."""
    setting: ExportedSetting
    """What all trials have in common."""
    baseline: str
    """Name of the arm that the differences are taken to."""
    base: dict[str, float | None] | None
    """Metric to value before fine-tuning; null where that wasn't measured."""
    noise_ratio: dict[str, float | None]
    """Arm to noise norm as a share of the embedding norm at the median length."""
    primary: str
    """The metric that the advice is about."""
    confidence: float
    """Of the intervals; verdicts are made at 1 minus it."""
    metrics: dict[str, dict[str, ExportedEstimate | None]]
    """Metric to arm to estimate; null where the arm has no value."""
    best_arm: ExportedBestArm | None
    """Null where fewer than two arms can be chosen among, neither way is good, or there is nothing to split."""
    early_stopping: ExportedEarlyStopping | None
    """Null where losses of single examples after two epochs or more are not known."""
    hypotheses: tuple[ExportedHypothesis, ...]
    """The paper's claims beside what was found here."""
    advice: str
    """The paragraph over the tables."""
    notes: tuple[str, ...]
    """What the trials noted."""
    unfinished: tuple[str, ...]
    """One sentence for each trial that is missing from the numbers."""
    apart: str
    """How this differs from what it is shown beside; empty where it doesn't."""
    manifest_digest: str | None
    """SHA-256 of the sweep's manifest.json, or of several one after another, in hex; null where there is none."""


class ExportedComparisons(_Exported):
    """The whole document."""

    schema_version: int = SCHEMA_VERSION
    """Rises when a field changes its meaning or goes."""
    comparisons: tuple[ExportedComparison, ...]
    """One for each set of comparable trials."""
