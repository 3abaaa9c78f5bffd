"""Facts that only a process with torch can find, and the alphas that follow from them for signal-to-noise ratios.

A worker sends the facts to the main process, which does not import torch.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from neftune_cli.config.accelerate_config import sharding_problems
from neftune_cli.config.arm_names import arm_name
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import ArmSpec, HarnessTasks, ResolvedEvaluation, SweepSpec, TrialSpec
from neftune_cli.data.examples import GenerationDefaults, InstructionData
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.training.data_parallel import batch_problems, check_devices

if TYPE_CHECKING:
    from neftune_cli.models.sources import ModelSource
    from neftune_cli.training.prepared_data import PreparedData

ALPHA_DIGITS = 3
"""Significant digits of an alpha computed from a signal-to-noise ratio, which depends on a median."""


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model."""

    name: str
    fingerprint: str
    has_clock: bool = False
    """Whether the chat template writes the time."""


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set that was loaded and split."""

    name: str
    fingerprint: str
    train_examples: int
    """Number of training examples."""
    held_out_examples: int
    """Number of held-out examples."""
    probe_examples: int
    """Number of probe examples."""
    has_prompts: bool
    """Whether any training example has a prompt."""
    generation: GenerationDefaults
    notes: tuple[str, ...]
    has_held_out_prompts: bool = True
    """Whether any held-out example has a prompt, so that metrics of responses are measured."""
    has_probe_prompts: bool = True
    """Whether any probe example has a prompt, so that metrics of responses to training prompts are measured."""


@dataclass(frozen=True)
class ClusterSlots:
    """Trials that an executor can run in parallel on other machines."""

    number: int
    threads: int
    """Compute threads of each trial."""


@dataclass(frozen=True)
class Inspection:
    """Facts that a plan needs before model and data are prepared."""

    spec: SweepSpec
    """The given spec, with an alpha for each arm that has a signal-to-noise ratio."""
    notes: tuple[str, ...]
    """Notes for the user: on alphas computed from ratios, and on the tasks of lm-evaluation-harness."""
    problems: tuple[Problem, ...]
    """All problems of model, data and recipes."""
    device: str
    """`cuda`, `mps` or `cpu`."""
    gpus: int
    """Number of GPUs."""
    gpu_models: str
    """Number, name and memory of the GPUs; empty if they are not known."""
    environment: dict[str, str]
    """Everything besides spec, data and weights that can change a trial's numbers."""
    lora_environment: dict[str, str]
    """The same for trials that train LoRA adapters."""
    model: ModelFacts | None
    """None if the model has a problem."""
    data: DataFacts | None
    """None if the data have a problem."""
    lm_eval: HarnessTasks | None = None
    """Tasks of lm-evaluation-harness; None if none are given."""
    seconds: float = 0.0
    """Duration of the inspection, with the start of its worker."""
    cluster_slots: ClusterSlots | None = None
    """Trials in parallel on a cluster; None if the cores and the memory of this machine determine them."""

    def for_processes(self, settings: TrialSettings, cores: int) -> "Inspection":
        """Return the facts for trials that several processes train together, with the problems that this adds.

        The noise depends on the number of processes, and in bfloat16 the results on their sharding. The environment
        therefore contains both. One worker uses all GPUs, so they count as one for the number of workers.
        """
        if settings.processes == 1:
            return self
        problems = Problems()
        problems.attempt(lambda: check_devices(settings, gpus=self.gpus, cores=cores))
        recipes = [self.spec.recipe_of(arm) for arm in self.spec.arms]
        problems.add(problem for one in recipes for problem in batch_problems(one, settings))
        # earlier versions filled up the last step of an epoch with repeated examples
        more = {"processes": str(settings.processes), "repeated_examples": "0"}
        if settings.sharding is not None:
            problems.add(sharding_problems(self.spec, settings.sharding, self.environment["precision"]))
            more["fsdp"] = json.dumps(settings.sharding.fsdp, sort_keys=True)
        return replace(
            self,
            problems=(*self.problems, *problems.found),
            gpus=min(self.gpus, 1),
            environment={**self.environment, **more},
            lora_environment={**self.lora_environment, **more},
        )


def model_facts(source: "ModelSource") -> ModelFacts:
    """Return the facts about a model."""
    return ModelFacts(source.name, source.fingerprint, source.has_clock)


def data_facts(data: InstructionData) -> DataFacts:
    """Return the facts about a data set."""
    return DataFacts(
        name=data.name,
        fingerprint=data.fingerprint,
        train_examples=len(data.train),
        held_out_examples=len(data.held_out),
        probe_examples=len(data.probe),
        has_prompts=any(example.has_prompt for example in data.train),
        generation=data.generation,
        notes=data.notes,
        has_held_out_prompts=any(example.has_prompt for example in data.held_out),
        has_probe_prompts=any(example.has_prompt for example in data.probe),
    )


@dataclass(frozen=True)
class LoadedSizes:
    """Sizes of the loaded model and the tokenized data."""

    notes: tuple[str, ...]
    """Sentences for the user about the model and the lengths of examples."""
    trainable: int
    """Largest number of trained parameters among the trials: all parameters, or those of LoRA adapters."""
    weight_bytes: int
    """Bytes of the weights in memory; tied weights count once."""
    vocabulary: int
    """Number of logits per token."""
    width: int
    """Number of elements of an embedding."""
    layers: int
    longest: int
    """Tokens of the longest training or evaluation example, after truncation."""
    training_examples: dict[str, int] = field(default_factory=dict)
    """Number of training examples that are not too long, by the maximum length (text, as JSON has no other keys)."""


def resolved_evaluation(
    spec: SweepSpec, generation: GenerationDefaults, lm_eval: HarnessTasks | None = None
) -> ResolvedEvaluation:
    """Fill in the unset evaluation fields: the length from the recipe, and the generation settings from the data.

    Args:
        spec: the sweep.
        generation: defaults of the data set.
        lm_eval: the tasks of lm-evaluation-harness that were found.
    """
    chosen = spec.evaluation
    return ResolvedEvaluation(
        max_length=chosen.max_length or spec.train.max_length,
        max_new_tokens=chosen.max_new_tokens or generation.max_new_tokens,
        repetition_penalty=chosen.repetition_penalty or generation.repetition_penalty,
        decoding=chosen.decoding,
        curve_examples=chosen.curve_examples,
        probe_examples=chosen.probe_examples,
        lm_eval=lm_eval,
    )


@dataclass(frozen=True)
class ResolvedAlphas:
    """A spec whose arms have alphas, not signal-to-noise ratios."""

    spec: SweepSpec
    notes: tuple[str, ...] = ()
    """One sentence for each ratio and its alpha."""


def with_alphas(
    spec: SweepSpec, evaluation: ResolvedEvaluation, prepared_data_of: "Callable[[TrialSpec], PreparedData]"
) -> ResolvedAlphas:
    """Return the spec with an alpha in place of each ratio.

    The ratio is the median norm of the training tokens' embeddings over the root mean square of the norm of one token's
    noise, alpha / sqrt(3 L), at the median length L of the training examples.

    Raises:
        UsageError: an arm has both a ratio and an alpha, or uses the noise scale `hf`, or two arms get the same alpha.
    """
    if not any(arm.snr for arm in spec.arms):
        return ResolvedAlphas(spec)
    for arm in spec.arms:
        _check_ratio(spec, arm)
    arms, notes = [], []
    for arm in spec.arms:
        if arm.snr is None:
            arms.append(arm)
            continue
        without_noise = arm.model_copy(update={"alpha": 0.0, "snr": None})  # the data do not depend on the noise
        prepared = prepared_data_of(spec.trial(without_noise, spec.seeds[0], evaluation))
        arms.append(_with_alpha(arm, _alpha(arm.snr, prepared)))
        notes.append(_alpha_note(arm, arms[-1], prepared))
    return ResolvedAlphas(_with_arms(spec, arms), tuple(notes))


def _check_ratio(spec: SweepSpec, arm: ArmSpec) -> None:
    if arm.snr is None:
        return
    if arm.alpha is not None:
        raise UsageError(Problem(f"Arm {arm.name!r} has both alpha and snr.", "Use one of them."))
    if spec.noise_details_of(arm).noise_scale == "hf":
        what = f"Arm {arm.name!r}: with the noise scale hf the noise depends on padding, so there is no single ratio."
        raise UsageError(Problem(what, "Use an alpha, or --noise-scale paper."))


def _alpha(snr: float, prepared: "PreparedData") -> float:
    from neftune_cli.noise.lengths import token_noise_norm

    return float(f"{prepared.embedding_norm / token_noise_norm(1.0, prepared.median_length) / snr:.{ALPHA_DIGITS}g}")


def _with_alpha(arm: ArmSpec, alpha: float) -> ArmSpec:
    by_default = arm.name == arm_name(arm.model_dump())
    found = arm.model_copy(update={"alpha": alpha, "snr": None})
    return found.model_copy(update={"name": arm_name(found.model_dump())}) if by_default else found


def _alpha_note(requested: ArmSpec, found: ArmSpec, prepared: "PreparedData") -> str:
    return (
        f"A signal-to-noise ratio of {requested.snr:g} corresponds to alpha {found.alpha:g}: embedding norm "
        f"{prepared.embedding_norm:.3g} at the median length of {prepared.median_length:g} tokens."
    )


def _with_arms(spec: SweepSpec, arms: list[ArmSpec]) -> SweepSpec:
    """Return the spec with other arms in place of its own, in the same order. The primary arm may have a new name."""
    names = {before.name: arm.name for before, arm in zip(spec.arms, arms, strict=True)}
    fields = spec.model_dump(by_alias=True)
    if primary := spec.analysis.primary_arm:
        fields["analysis"]["primary_arm"] = names.get(primary, primary)
    if all(arm.varies_only_alpha for arm in arms):
        arms = sorted(arms, key=lambda arm: arm.alpha or 0.0)
    try:
        return SweepSpec.model_validate({**fields, "arms": [arm.model_dump() for arm in arms]})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        what = f"After each signal-to-noise ratio is replaced by its alpha, {message}."
        raise UsageError(Problem(what, "Leave out the ratio or the equal alpha.")) from None
