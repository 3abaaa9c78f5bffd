"""Documented types of the JSON document: the schema that other programs can rely on."""

from typing import Any, Literal

from neftune_cli.analysis.headline import DecisionState
from neftune_cli.analysis.results import Status
from neftune_cli.reporting.columns import ExportedAssessment, ExportedEstimate, ExportedModel

DOCUMENT_VERSION = 5
"""Version of the JSON document. Records and sweeps have a version of their own."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document, with the docstrings of this module as descriptions."""
    return ExportedComparisons.model_json_schema(mode="serialization")


class ExportedSetting(ExportedModel):
    """Model, data and recipe."""

    model: str
    """Name of the model."""
    data: str
    """Name of the data set."""
    recipe: dict[str, Any]
    """Known fields of the training recipe."""


class ExportedHeadline(ExportedModel):
    """State of the decision on the primary metric."""

    word: DecisionState
    """`DECIDED`: every arm (or the primary arm) has a verdict other than inconclusive. `PARTLY DECIDED`: some have, or
    the any-noise test is significant and no arm is decided. `NO VERDICT`: nothing could be tested, or the primary arm
    has no verdict."""
    sentence: str
    """Content of the decision."""


class ExportedContrast(ExportedModel):
    """A planned combination of the arms with noise."""

    name: Literal["mean", "trend"]
    """`mean`: mean of the arms with noise minus the baseline. `trend`: change from the smallest to the largest alpha on
    the line through the arms with noise."""
    arms: tuple[str, ...]
    """Arms with noise that it combines."""
    assessment: ExportedAssessment
    """Its difference from zero; adjusted over the contrasts and the looks."""


class ExportedNoiseTest(ExportedModel):
    """Test of the null hypothesis that no arm with noise differs from the baseline."""

    p_value: float | None
    """Simes' p-value of contrasts and arms, adjusted over the looks. No adjusted p-value of an arm is smaller."""
    contrasts: tuple[ExportedContrast, ...]
    """The mean, and with several alphas the trend."""


class ExportedPlan(ExportedModel):
    """Analysis that the sweep declared before its first trial."""

    metric: str | None
    """Primary metric; null for the default one."""
    primary_arm: str | None
    """Arm of the confirmatory test; null if all arms are tested together."""
    controls: tuple[str, ...]
    """Arms that check the sweep."""
    looks: tuple[int, ...]
    """Numbers of seeds at the planned looks; empty if the number of seeds is fixed."""
    seeds: tuple[int, ...]
    """Planned seeds in their order."""
    taken: int
    """Number of looks that were taken."""


class ExportedOutlook(ExportedModel):
    """Chance of a verdict other than inconclusive with more seeds."""

    seeds: int
    """Total number of seeds."""
    effect: float
    """Assumed true difference, in the metric's unit: 0, or an improvement (an increase without a preferred direction)
    by the margin or by twice the margin."""
    chance: float
    """Chance if the variance between seeds is at the median of its distribution, 0 to 1."""
    low: float
    """Lowest chance over the 80% interval of this variance."""
    high: float
    """Highest chance over this interval."""


class ExportedLearning(ExportedModel):
    """Whether the trials can answer a question about fine-tuning."""

    has_learned: bool | None
    """Whether the baseline improves on the base model; null if the base model was not evaluated."""
    problems: tuple[str, ...]
    """Sentences on what limits the comparison, each with a remedy."""


class ExportedMargin(ExportedModel):
    """Equivalence margin of a metric."""

    size: float | None
    """Largest difference that is treated as no difference, in the metric's unit."""
    rule: str
    """Rule that gave the size, such as a share of the gain of fine-tuning."""


class ExportedBestArm(ExportedModel):
    """Best arm, with its advantage on data that were not used to select it."""

    arm: str
    """Arm with the best mean of those that are compared with the baseline and share three or more seeds with it."""
    metric: str
    """Metric that selects the arm."""
    seeds: int
    """Number of seeds that all arms share, on which the arm is selected and measured."""
    naive: float | None
    """Difference from the baseline on the data that selected the arm: optimistic on average."""
    gain: float | None
    """Advantage of the best arm: its mean difference from the baseline on the seeds and items that were not used to
    select it, over the splits that selected this arm. It is not the gain of fine-tuning. Null if fewer than a quarter
    of the splits selected this arm."""
    ci_low: float | None
    """Lower bound of the interval of `gain`, which is adjusted for planned looks and not for arms."""
    ci_high: float | None
    """Upper bound of the interval."""
    chosen: dict[str, float]
    """Share of splits that selected each arm, 0 to 1."""
    gains: dict[str, float | None]
    """Advantage of each arm that any split selected, as `gain`."""


class ExportedStoppedArm(ExportedModel):
    """Held-out loss of one arm in nats per completion token, compared with the baseline at its best epoch."""

    arm: str
    """Name of the arm."""
    epochs: tuple[int, ...]
    """Epochs from which the best epoch of the arm is selected."""
    last_loss: float | None
    """Mean after the last epoch."""
    best_loss: float | None
    """Mean after each seed's best epoch, selected on one part of the items and measured on the rest."""
    best_epoch: float | None
    """Mean of the selected epochs; null if no seed has an epoch whose losses are finite."""
    last: ExportedAssessment | None
    """The arm after its last epoch minus the baseline at its best epoch. The baseline is tested for a rise only."""
    best: ExportedAssessment | None
    """The arm at its best epoch minus the baseline at its best epoch; null for the baseline itself."""


class ExportedEarlyStopping(ExportedModel):
    """Noise compared with early stopping of the baseline."""

    epochs: tuple[int, ...]
    """Epochs from which the best epoch of the baseline is selected."""
    arms: tuple[ExportedStoppedArm, ...]
    """The baseline first."""


class ExportedClaim(ExportedModel):
    """One claim of the NEFTune paper."""

    key: str
    """Short name of the claim."""
    claim: str
    """The claim as a sentence."""
    status: Status
    """Result of these trials."""
    paper: str
    """Result in the paper, with its location there."""
    here: str
    """Result of these trials; for a claim that was not measured, how to measure it."""
    caveat: str
    """Differences between the paper's setting and this one, and limits of these trials, such as responses that were cut
    at the token limit; empty where there are none."""


class ExportedComparison(ExportedModel):
    """One sweep: losses in nats per completion token, metrics named and scaled as in the trials' records."""

    sweep: str
    """Name of the sweep."""
    setting: ExportedSetting
    """Properties that all trials share."""
    baseline: str
    """Name of the arm that differences are relative to."""
    base: dict[str, float | None] | None
    """Value of each metric before fine-tuning; null where the base was not evaluated."""
    noise_ratio: dict[str, float | None]
    """Noise norm of each arm divided by the embedding norm, at the median sequence length."""
    primary: str
    """Primary metric: the headline reports the result for it."""
    confidence: float
    """Confidence level of the intervals; the tests of the verdicts use the level 1 - `confidence`."""
    headline: ExportedHeadline
    """Decision on the primary metric."""
    learning: ExportedLearning
    """Checks before a verdict."""
    plan: ExportedPlan | None
    """Null if the sweep declared no analysis and has no controls, if several sweeps are compared together, and for
    runs of other tools."""
    margins: dict[str, ExportedMargin]
    """Equivalence margins by metric."""
    noise_tests: dict[str, ExportedNoiseTest]
    """Any-noise tests by metric. Empty if a primary arm is declared, if the baseline has noise, or if the other arms
    (without controls) are fewer than two or differ from it in more than their noise."""
    outlooks: dict[str, tuple[ExportedOutlook, ...]]
    """Chances of a decision on the primary metric, for undecided arms. Empty if neither the sweep nor the offered next
    sweep adds seeds to these arms, or if `confidence` is not 0.95."""
    metrics: dict[str, dict[str, ExportedEstimate | None]]
    """Estimates by metric and arm; null where the arm has no value."""
    best_arm: ExportedBestArm | None
    """Null with fewer than two arms to select from, with fewer than three seeds that these and the baseline share, or
    without a preferred direction."""
    early_stopping: ExportedEarlyStopping | None
    """Null unless losses per example are known after at least two epochs."""
    hypotheses: tuple[ExportedClaim, ...]
    """Claims of the paper, and two further hypotheses, with the results of these trials."""
    advice: str
    """Paragraph above the tables."""
    notes: tuple[str, ...]
    """Notes of the trials."""
    unfinished: tuple[str, ...]
    """One sentence for each trial that is missing from the numbers."""
    apart: str
    """Differences from the first comparison in the document; empty for the first one."""
    manifest_digest: str | None
    """SHA-256 of the sweep's manifest.json (of several, concatenated) in hex; null without a manifest."""


class ExportedComparisons(ExportedModel):
    """The whole document."""

    schema_version: int = DOCUMENT_VERSION
    """Increases when a field changes its meaning or is removed."""
    comparisons: tuple[ExportedComparison, ...]
    """One for each set of comparable trials."""
