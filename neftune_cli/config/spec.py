"""Specs: immutable descriptions of a sweep, of its arms and of its trials."""

import hashlib
import math
import re
from enum import Enum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from neftune_cli.config.choices import DecodingName, LearnedTurns, NoiseScale, NoiseTarget, Precision
from neftune_cli.config.field_types import (
    DistributionName,
    JsonValue,
    Number,
    ScheduleName,
    Seed,
    TextList,
    TextOrNumber,
    Time,
    WholeNumber,
)
from neftune_cli.config.noises import DEFAULT_NOISE
from neftune_cli.config.values import LARGEST_ALPHA, MOST_SEEDS, are_increasing, repeated

BUNDLED_MODEL = "tiny"
"""Name of the model that the package contains."""
BUNDLED_DATASET = "bios"
"""Name of the data set that the package contains."""
DEFAULT_MODEL, DEFAULT_DATASET = BUNDLED_MODEL, BUNDLED_DATASET
"""Model and data set of a spec that names none."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""Id of a model or data set on the Hugging Face Hub."""

BASE_ARM = "base"
"""Name of the arm of the base model: one trial without alpha and seed."""


class Spec(BaseModel):
    """Base class of specs: frozen. Unknown fields and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Affects(Enum):
    """Effect of a field of `InputSpec`: on weights, tokens or rows, or on identities if no fingerprint covers it."""

    WEIGHTS, TOKENS, ROWS, IDENTITY = range(4)


class InputSpec(Spec):
    """Model and data of a sweep, and the reading of the data."""

    model: Annotated[str, Affects.WEIGHTS] = DEFAULT_MODEL
    """`tiny`, `smollm2`, a hub id or a local directory."""
    dataset: Annotated[str, Affects.ROWS] = DEFAULT_DATASET
    """`bios`, a hub id, files, a folder or a saved data set."""
    layout: Annotated[str | None, Affects.ROWS] = Field(default=None, alias="format")
    """Layout of the data; null recognizes it by the columns."""
    train_examples: Annotated[WholeNumber | None, Affects.ROWS] = Field(default=None, gt=0, examples=[1000])
    """Maximum number of training examples, chosen by content hash."""
    eval_examples: Annotated[WholeNumber | None, Affects.ROWS] = Field(default=None, gt=0, examples=[200])
    """Number of held-out examples, chosen by content hash; at most this many of a test, validation or eval split."""
    columns: Annotated[dict[str, str], Affects.ROWS] = Field(
        default_factory=dict, examples=[{"prompt": "question", "completion": "answer"}]
    )
    """Columns of the data by their meaning, for example prompt: question."""
    split: Annotated[str | None, Affects.ROWS] = None
    """Split of the data set to train on; null is `train`."""
    eval_dataset: Annotated[str | None, Affects.ROWS] = None
    """Data set of the held-out examples; null holds out a part of the data set."""
    eval_split: Annotated[str | None, Affects.ROWS] = None
    """Split of the held-out examples; null is the test, validation or eval split if there is one."""
    raw: Annotated[bool, Affects.ROWS] = False
    """Whether prompt and completion are used as they are, without a chat template."""
    loss: Annotated[LearnedTurns, Affects.ROWS, Affects.IDENTITY] = "last"
    """Turns that the loss is computed on: the last assistant turn, or all assistant turns."""
    allow_special_tokens: Annotated[bool, Affects.TOKENS, Affects.IDENTITY] = False
    """Whether special tokens in the text of a turn become special tokens."""
    # IDENTITY: it also drops examples that cannot be rendered, after the fingerprint of the data was computed
    skip_bad_rows: Annotated[bool, Affects.ROWS, Affects.IDENTITY] = False
    """Whether rows that cannot be used, and examples that cannot be rendered, are dropped and counted."""
    max_bad_share: Annotated[Number, Affects.ROWS] = Field(default=0.05, ge=0, lt=1)
    """Largest share of rows that `skip_bad_rows` may drop."""
    template_time: Annotated[Time | None, Affects.TOKENS, Affects.IDENTITY] = Field(
        default=None, examples=["'2026-01-31T12:00:00'"]
    )
    """Time that a chat template with a clock sees, in ISO 8601; null until a sweep sets it."""
    load_in_4bit: Annotated[bool, Affects.WEIGHTS, Affects.IDENTITY] = False
    """Whether the frozen weights under LoRA adapters are quantized to 4 bits."""

    model_config = ConfigDict(populate_by_name=True)

    @property
    def inputs(self) -> dict[str, Any]:
        """Return the fields of this class by name."""
        return {name: getattr(self, name) for name in InputSpec.model_fields}

    def inputs_with(self, effect: Affects) -> dict[str, Any]:
        """Return by name the fields of this class that have this effect."""
        return {name: value for name, value in self.inputs.items() if effect in InputSpec.model_fields[name].metadata}


class TrainSpec(Spec):
    """Training recipe. Fields that are not listed here go to TRL's SFTConfig unchanged."""

    epochs: Number = Field(gt=0, examples=[3])
    """Passes over the training examples."""
    max_steps: WholeNumber | None = Field(default=None, gt=0, examples=[100])
    """Number of optimizer steps; replaces `epochs`."""
    learning_rate: Number = Field(gt=0, examples=[2e-5])
    """Peak learning rate of AdamW."""
    batch_size: WholeNumber = Field(gt=0, examples=[8])
    """Number of examples of a batch. The processes of `--nproc` divide the examples of a step."""
    max_length: WholeNumber = Field(gt=1, examples=[512])
    """Maximum length of an example in tokens: the completion of a longer example is cut, and an example whose prompt
    alone has this length or more is dropped."""
    lora_rank: WholeNumber | None = Field(default=None, gt=0, examples=[16])
    """Rank of LoRA adapters; null trains all weights."""
    precision: Precision = "auto"
    """Floating-point precision of training; `auto`: bfloat16 where the hardware has it. Default for `tiny`: float32."""
    micro_batch_tokens: WholeNumber | None = Field(default=None, ge=0, examples=[512])
    """Tokens of a micro-batch, padding included; 0 computes batches whole. Default: 512 on a CPU, 16384 on a GPU."""
    sft: dict[str, JsonValue] = Field(default_factory=dict)
    """Other SFTConfig fields by name."""

    @property
    def gradient_accumulation(self) -> int:
        """Return the number of batches per optimizer step."""
        return int(self.sft.get("gradient_accumulation_steps", 1))

    @property
    def examples_per_step(self) -> int:
        """Return the number of examples of one optimizer step, in all processes together."""
        return self.batch_size * self.gradient_accumulation

    def steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimizer steps of a training run with this number of steps per epoch."""
        return self.max_steps or math.ceil(self.epochs * steps_per_epoch)

    @model_validator(mode="before")
    @classmethod
    def _gather_sft_fields(cls, values: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        others = {name: value for name, value in values.items() if name not in cls.model_fields}
        sft = {} if own.get("sft") is None else own["sft"]
        if not isinstance(sft, dict):
            raise PydanticCustomError("sft_type", "train.sft must be a mapping of fields")
        return {**own, "sft": {**sft, **others}}


class EvaluationSpec(Spec):
    """Settings of the noise-off measurements. By default the data set and the recipe determine them."""

    max_length: WholeNumber | None = Field(default=None, gt=1, examples=[512])
    """Maximum length of a probe or held-out example in tokens, in every arm."""
    max_new_tokens: WholeNumber | None = Field(default=None, gt=0, examples=[128])
    """Maximum length of a generated response in tokens; the model's context can end it earlier."""
    repetition_penalty: Number | None = Field(default=None, gt=0, examples=[1.2])
    """Repetition penalty of greedy generation; 1 is none."""
    decoding: DecodingName = "preallocated"
    """Generation of responses: with a preallocated cache (`preallocated`), or with `transformers`."""
    curve_examples: WholeNumber | None = Field(default=None, gt=0, examples=[50])
    """Number of held-out examples, and of probe examples, of the loss curves; null is all. All examples are used after
    the last epoch and after each epoch with a new lowest loss."""
    probe_examples: WholeNumber | None = Field(default=None, gt=1, examples=[16])
    """Maximum number of probe examples: training examples whose noise-off loss and responses are measured. Null is
    120, which is also the largest number. Responses are measured on at most 64 of them."""
    lm_eval: TextList = Field(default=(), examples=[["hellaswag", "tasks/trivia.yaml"]])
    """Tasks of lm-evaluation-harness for each trained model: names, YAML files, or folders of YAML files."""
    lm_eval_limit: WholeNumber | None = Field(default=None, gt=0, examples=[100])
    """Maximum number of documents of each task of `lm_eval`; null is all."""

    @model_validator(mode="after")
    def _limit_has_tasks(self) -> Self:
        if self.lm_eval_limit and not self.lm_eval:
            message = "a limit of documents needs tasks of lm-evaluation-harness"
            raise PydanticCustomError("limit_without_tasks", message)
        return self


class HarnessTasks(Spec):
    """Tasks of lm-evaluation-harness that were found, and a hash of their content."""

    entries: tuple[str, ...]
    """Names, files and folders as given. They are not part of a trial's identity."""
    names: tuple[str, ...]
    """Sorted names of the tasks and groups."""
    limit: int | None
    """Maximum number of documents of each task."""
    version: str
    """Version of lm-evaluation-harness."""
    content: str
    """Hash of the configurations and documents."""
    metrics: tuple[str, ...] = ()
    """Keys of the metrics. They are not part of a trial's identity, because the content determines them."""


class ResolvedEvaluation(Spec):
    """Settings of the noise-off measurements, with all values given.

    Some have a default nevertheless, because a field that was added later is part of a trial's id only while it differs
    from its default (`neftune_cli.config.identity`). These defaults must not change.
    """

    max_length: int
    max_new_tokens: int
    repetition_penalty: float
    decoding: DecodingName = "preallocated"
    curve_examples: int | None = None
    probe_examples: int | None = None
    lm_eval: HarnessTasks | None = None

    @property
    def wants_preallocated(self) -> bool:
        """Return whether responses are decoded with a preallocated cache if the model allows it."""
        return self.decoding == "preallocated"


class NoiseDetails(Spec):
    """Noise other than its size: distribution, length in the scale, schedule and target tokens."""

    noise: DistributionName = DEFAULT_NOISE
    """Noise distribution."""
    noise_scale: NoiseScale = "paper"
    """Length in the noise formula: tokens of the example (`paper`) or padded length (`hf`)."""
    noise_schedule: ScheduleName = "constant"
    """Schedule of alpha during training."""
    noise_target: NoiseTarget = "all"
    """Tokens that receive noise."""

    @property
    def distribution(self) -> DistributionName:
        """Return the noise distribution, whose field has the name of its option and of its key in files: `noise`."""
        return self.noise


class NoiseSpec(NoiseDetails):
    """Noise of one arm."""

    alpha: Number = Field(default=0.0, ge=0, le=LARGEST_ALPHA)
    """Noise size; 0 is no noise."""


NOISE_DETAILS = tuple(NoiseDetails.model_fields)
"""Noise fields other than the size, which an arm can override."""


MIN_SEEDS = 3
"""A verdict needs at least this number of seeds."""


class AnalysisSpec(Spec):
    """Analysis that is declared before the first trial."""

    metric: str | None = Field(default=None, examples=["eval_loss"])
    """Primary metric, or `module:function`: the headline reports the result for it. Null is the held-out loss."""
    margin: TextOrNumber | None = Field(default=None, examples=["0.02"])
    """Equivalence margin of the primary metric: a size in its unit, `10%` of the baseline, or `1% of gain`."""
    primary_arm: str | None = Field(default=None, examples=["alpha=5"])
    """Arm of the confirmatory test; the other arms are exploratory. Null: all arms are tested together."""
    looks: tuple[Annotated[WholeNumber, Field(ge=MIN_SEEDS, le=MOST_SEEDS)], ...] = Field(
        default=(), examples=[[5, 8, 12, 20]]
    )
    """Numbers of seeds at the planned looks. An arm that is decided at a look gets no further seeds. Empty: the number
    of seeds is fixed."""

    @property
    def has_planned_looks(self) -> bool:
        """Return whether the number of seeds depends on the results of planned looks."""
        return bool(self.looks)

    @model_validator(mode="after")
    def _looks_rise(self) -> Self:
        if not are_increasing(self.looks):
            raise PydanticCustomError("looks_order", "analysis.looks must increase")
        return self


class ArmSpec(Spec):
    """Arm: a named set of overrides to the noise and the recipe of the sweep."""

    name: str = ""
    """Name in tables; by default the overrides."""
    repeat: WholeNumber = Field(default=0, ge=0)
    """Index of the random streams. An arm with another index has other noise, dropout and data order."""
    alpha: Number | None = Field(default=None, ge=0, le=LARGEST_ALPHA, examples=[5])
    """Noise size; 0 is no noise."""
    snr: Number | None = Field(default=None, ge=1, examples=[10])
    """Embedding norm over noise norm at the median length. Replaces alpha; the plan computes alpha from it."""
    noise: DistributionName | None = None
    """Noise distribution."""
    noise_scale: NoiseScale | None = None
    """Length in the noise formula: tokens of the example (`paper`) or padded length (`hf`)."""
    noise_schedule: ScheduleName | None = None
    """Schedule of alpha during training."""
    noise_target: NoiseTarget | None = None
    """Tokens that receive noise."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Overrides of training fields."""
    control: bool = False
    """Whether the arm checks the sweep itself and is not part of the conclusion."""

    @property
    def varies_only_alpha(self) -> bool:
        """Return whether the arm overrides nothing but alpha."""
        has_details = any(getattr(self, field) is not None for field in NOISE_DETAILS)
        return not (self.train or self.repeat or self.control or has_details)


class TrialSpec(InputSpec):
    """Trial: one fine-tuning, with all values given."""

    noise: NoiseSpec
    train: TrainSpec
    evaluation: ResolvedEvaluation
    seed: Seed
    repeat: int = 0
    """Index of the random streams, as in `ArmSpec`."""

    @property
    def stream_seed(self) -> int:
        """Return the seed of noise, dropout and data order."""
        if not self.repeat:
            return self.seed
        digest = hashlib.sha256(f"seed {self.seed}, repeat {self.repeat}".encode()).digest()
        return int.from_bytes(digest[:4])


class SweepSpec(NoiseDetails, InputSpec):
    """Sweep: arms and seeds on one model, one data set and one recipe."""

    train: TrainSpec
    """Training recipe; defaults depend on the model."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Settings of the measurements."""
    seeds: tuple[Seed, ...] = Field(min_length=1, examples=[3])
    """List of seeds, or the number of seeds; default 3."""
    arms: tuple[ArmSpec, ...] = Field(min_length=1)
    """Arms; the first one is the baseline."""
    analysis: AnalysisSpec = AnalysisSpec()
    """Analysis that is declared before the first trial."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if repeated_names := repeated(arm.name for arm in self.arms):
            shown = ", ".join(map(repr, repeated_names))
            raise PydanticCustomError("repeated_arm_name", "two arms have the same name: {names}", {"names": shown})
        if any(arm.name == BASE_ARM for arm in self.arms):
            message = "the arm name {name} is reserved for the base model"
            raise PydanticCustomError("reserved_arm_name", message, {"name": repr(BASE_ARM)})
        return self

    @model_validator(mode="after")
    def _seeds_are_valid(self) -> Self:
        if repeated_seeds := repeated(self.seeds):
            shown = ", ".join(map(str, repeated_seeds))
            raise PydanticCustomError("repeated_seed", "these seeds are repeated: {seeds}", {"seeds": shown})
        if self.analysis.has_planned_looks and len(self.seeds) != self.analysis.looks[-1]:
            counts = {"seeds": str(len(self.seeds)), "last": str(self.analysis.looks[-1])}
            message = "the planned looks need {last} seeds, and there are {seeds}"
            raise PydanticCustomError("seeds_of_looks", message, counts)
        return self

    def noise_of(self, arm: ArmSpec) -> NoiseSpec:
        """Return the noise of an arm, with the sweep's values for fields that the arm does not override.

        Raises:
            ValueError: the arm still has a signal-to-noise ratio, which `with_alphas` replaces by an alpha.
        """
        if arm.snr is not None:
            raise ValueError(f"the alpha of arm {arm.name!r}, which has a signal-to-noise ratio, is not known yet")
        return NoiseSpec(alpha=arm.alpha or 0.0, **dict(self.noise_details_of(arm)))

    def noise_details_of(self, arm: ArmSpec) -> NoiseDetails:
        """Return the noise of an arm without its size, which an arm with a signal-to-noise ratio does not have yet."""
        given = {field: value for field in NOISE_DETAILS if (value := getattr(arm, field)) is not None}
        return NoiseDetails.model_construct(**{field: getattr(self, field) for field in NOISE_DETAILS} | given)

    def recipe_of(self, arm: ArmSpec) -> TrainSpec:
        """Return the recipe of an arm: the sweep's recipe with the arm's overrides."""
        return TrainSpec.model_validate({**self.train.model_dump(exclude={"sft"}), **self.train.sft, **arm.train})

    def trial(self, arm: ArmSpec, seed: int, evaluation: ResolvedEvaluation) -> TrialSpec:
        """Return the trial of an arm and a seed."""
        return TrialSpec(
            **self.inputs,
            noise=self.noise_of(arm),
            train=self.recipe_of(arm),
            evaluation=evaluation,
            seed=seed,
            repeat=arm.repeat,
        )


DEFAULT_ALPHAS = (0.0, 5.0, 10.0, 15.0)
DEFAULT_SEEDS = (0, 1, 2)
DEFAULT_LOOKS = (5, 8, 12, 20)
"""Numbers of seeds at the planned looks."""
