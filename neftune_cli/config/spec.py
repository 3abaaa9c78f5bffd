"""The specs: one immutable description of a sweep, of its arms, and of each trial they mean."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NoiseShape = Literal["uniform", "gaussian", "bernoulli"]
NoiseScale = Literal["paper", "hf"]
NoiseSchedule = Literal["constant", "linear", "cosine"]
NoiseTarget = Literal["all", "prompt", "completion"]
Layout = Literal["alpaca", "prompt-completion", "messages", "text"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

BASE_ARM = "base"
"""Name of the arm that is the model before fine-tuning: one trial without alpha and seed."""


class Spec(BaseModel):
    """Base of all specs: frozen; an unknown field and a number that is infinite or none are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainSpec(Spec):
    """The fine-tuning recipe; a field it doesn't name is passed to TRL's SFTConfig as it is."""

    epochs: float = Field(gt=0)
    max_steps: int | None = Field(default=None, gt=0)
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    max_length: int = Field(gt=1)
    lora_rank: int | None = Field(default=None, gt=0)
    sft: dict[str, Any] = Field(default_factory=dict)
    """Other SFTConfig fields by name."""

    @model_validator(mode="before")
    @classmethod
    def _gather_sft_fields(cls, values: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        others = {name: value for name, value in values.items() if name not in cls.model_fields}
        sft = own.get("sft") or {}
        if not isinstance(sft, dict):
            raise ValueError("sft is not a set of fields")
        return {**own, "sft": {**sft, **others}}


class EvaluationSpec(Spec):
    """How the noise-off measurements are made; None leaves generation to the data set and the length to the recipe."""

    max_length: int | None = Field(default=None, gt=1)
    """Tokens after which a probe or held-out example is cut, in every arm."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    repetition_penalty: float | None = Field(default=None, gt=0)


class ResolvedEvaluation(Spec):
    """How the noise-off measurements are made, with nothing left open."""

    max_length: int
    max_new_tokens: int
    repetition_penalty: float


class NoiseSpec(Spec):
    """The noise of one arm: its size, the shape of its draw, whose length scales it, how it falls, and on what."""

    alpha: float = Field(default=0.0, ge=0)
    noise: NoiseShape = "uniform"
    noise_scale: NoiseScale = "paper"
    noise_schedule: NoiseSchedule = "constant"
    noise_target: NoiseTarget = "all"


NOISE_DETAILS = ("noise", "noise_scale", "noise_schedule", "noise_target")
"""What of the noise an arm can override beside its size."""


class ArmSpec(Spec):
    """A named set of overrides to the sweep's noise and recipe."""

    name: str = ""
    alpha: float | None = Field(default=None, ge=0)
    snr: float | None = Field(default=None, ge=1)
    """Norm of the embeddings over that of the noise at the median length, in place of alpha; a plan has none left."""
    noise: NoiseShape | None = None
    noise_scale: NoiseScale | None = None
    noise_schedule: NoiseSchedule | None = None
    noise_target: NoiseTarget | None = None
    train: dict[str, Any] = Field(default_factory=dict)

    @property
    def varies_only_alpha(self) -> bool:
        """Return whether the arm overrides nothing but alpha."""
        return not (self.train or any(getattr(self, field) for field in NOISE_DETAILS))


class TrialSpec(Spec):
    """One fine-tuning, fully resolved: nothing is left to a default."""

    model: str
    dataset: str
    layout: Layout | None = None
    train_examples: int | None = None
    eval_examples: int | None = None
    noise: NoiseSpec
    train: TrainSpec
    evaluation: ResolvedEvaluation
    seed: Seed


class SweepSpec(Spec):
    """Arms times seeds on one model, data set and recipe."""

    model: str = "tiny"
    dataset: str = "bios"
    layout: Layout | None = Field(default=None, alias="format")
    train_examples: int | None = Field(default=None, gt=0)
    eval_examples: int | None = Field(default=None, gt=0)
    noise: NoiseShape = "uniform"
    noise_scale: NoiseScale = "paper"
    noise_schedule: NoiseSchedule = "constant"
    noise_target: NoiseTarget = "all"
    train: TrainSpec
    evaluation: EvaluationSpec = EvaluationSpec()
    seeds: tuple[Seed, ...] = Field(min_length=1)
    arms: tuple[ArmSpec, ...] = Field(min_length=1)

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="after")
    def _arms_are_distinct(self) -> Self:
        for trials, what in ((self.arms, "arm name"), (self.seeds, "seed")):
            names = [one.name if isinstance(one, ArmSpec) else one for one in trials]
            repeated = {name for name in names if names.count(name) > 1}
            if repeated:
                raise ValueError(f"repeated {what}: {', '.join(map(str, sorted(repeated)))}")
        if any(arm.name == BASE_ARM for arm in self.arms):
            raise ValueError(f"{BASE_ARM!r} is the model before fine-tuning; call the arm something else")
        return self

    def noise_of(self, arm: ArmSpec) -> NoiseSpec:
        """Return an arm's noise with everything it leaves open filled in."""
        return NoiseSpec(
            alpha=arm.alpha or 0.0,
            noise=arm.noise or self.noise,
            noise_scale=arm.noise_scale or self.noise_scale,
            noise_schedule=arm.noise_schedule or self.noise_schedule,
            noise_target=arm.noise_target or self.noise_target,
        )

    def recipe_of(self, arm: ArmSpec) -> TrainSpec:
        """Return an arm's recipe: the sweep's with the arm's overrides."""
        return TrainSpec.model_validate({**self.train.model_dump(exclude={"sft"}), **self.train.sft, **arm.train})

    def trial(self, arm: ArmSpec, seed: int, evaluation: ResolvedEvaluation) -> TrialSpec:
        """Return the trial that an arm and a seed mean."""
        return TrialSpec(
            model=self.model,
            dataset=self.dataset,
            layout=self.layout,
            train_examples=self.train_examples,
            eval_examples=self.eval_examples,
            noise=self.noise_of(arm),
            train=self.recipe_of(arm),
            evaluation=evaluation,
            seed=seed,
        )


TINY = "tiny"

_TINY_RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-3, "batch_size": 16, "max_length": 256}
_RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 2e-5, "batch_size": 8, "max_length": 512}
_LORA_LEARNING_RATE = 2e-4

DEFAULT_ALPHAS = (0.0, 5.0, 10.0, 15.0)
DEFAULT_SEEDS = (0, 1, 2)


def default_recipe(model: str, *, lora: bool) -> dict[str, Any]:
    """Return the training recipe of a model that nobody gave another one.

    `tiny` has its own, calibrated without noise. Others get TRL's learning rate for full fine-tuning (2e-5), and ten
    times as much for LoRA, as TRL's documentation advises.
    """
    if model == TINY:
        return dict(_TINY_RECIPE)
    return {**_RECIPE, "learning_rate": _LORA_LEARNING_RATE} if lora else dict(_RECIPE)
