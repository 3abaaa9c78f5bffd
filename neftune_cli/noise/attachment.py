"""Noise on the input embeddings of any Hugging Face model while it trains: put on by hooks, taken off on every exit."""

import inspect
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypedDict

import torch
from torch import Tensor, nn

from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.draws import Noise, NoiseStream
from neftune_cli.noise.embedding import NEFTuneEmbedding, with_noise
from neftune_cli.noise.lengths import NoiseScale, check_alpha, check_noise_scale, token_noise_scale


def attach_noise(
    model: nn.Module,
    alpha: float = 5.0,
    seed: int = 0,
    *,
    noise: Noise = "uniform",
    noise_scale: NoiseScale = "paper",
) -> "AttachedNoise":
    """Add NEFTune noise to the model's input embeddings until the returned handle is left or detached.

        with attach_noise(model, alpha=5.0, seed=0) as noise:
            trainer.train()

    Noise falls on one call of the embeddings in each forward: the first that looks up ids of the shape of `input_ids`,
    which is the encoder's in an encoder-decoder model. It falls only while the embeddings are in training mode and
    gradients are recorded, so that neither evaluation nor `generate`, which some trainers call in training mode, is
    noisy. Each example's length is read from the attention_mask, position_ids or cu_seq_lens_q of the same call. A
    forward that is given `inputs_embeds` is left alone. With alpha 0 nothing is drawn and the embeddings pass through
    untouched.

    Attach to the model that the trainer calls, PEFT's wrapper for instance. The draws come from the handle's own
    generator: they depend on the seed, the order of the calls and the shapes, never on alpha. Processes that train
    together on different data need different seeds.

    Source: section 2 of arXiv 2310.05914.

    Raises:
        UsageError: alpha is negative or not finite, `noise` or `noise_scale` is unknown, the model has no input
            embeddings, or they are noisy already. In a forward: the lengths can't be told, or the embeddings were not
            called through this model.

    """
    check_alpha(alpha)
    check_noise_scale(noise_scale)
    stream = NoiseStream(noise, seed)
    embedding = _input_embedding(model)
    _refuse_second(model)
    return AttachedNoise(model, embedding, float(alpha), stream, noise_scale)


class NoiseState(TypedDict):
    """What a checkpoint keeps of the noise; it survives `torch.load(weights_only=True)`."""

    generator: Tensor | None
    """None while nothing has been drawn."""
    calls: int


class AttachedNoise:
    """The handle of noise on a model: leave its `with` block or call `detach` to take the noise off."""

    alpha: float
    """The noise magnitude."""
    calls: int
    """How many forwards got noise so far."""

    def __init__(
        self, model: nn.Module, embedding: nn.Module, alpha: float, stream: NoiseStream, noise_scale: NoiseScale
    ) -> None:
        self.alpha = alpha
        self.calls = 0
        self._model = model
        self._embedding = embedding
        self._stream = stream
        self._noise_scale = noise_scale
        self._argument_names = _positional_names(model)
        self._batch: _Batch | None = None
        self._noised = False
        self._hooks = (
            model.register_forward_pre_hook(self._read_batch, with_kwargs=True),
            embedding.register_forward_hook(self._add_noise),
            model.register_forward_hook(self._check_noised),
            model.register_forward_hook(self._forget_batch, always_call=True),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def detach(self) -> None:
        """Take the noise off; calling it again does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._batch = None

    def state_dict(self) -> NoiseState:
        """Return what is needed to go on with the same draws."""
        return {"generator": self._stream.state, "calls": self.calls}

    def load_state_dict(self, state: NoiseState) -> None:
        """Go on with the draws where `state` was taken, on the same kind of device."""
        self._stream.state = state["generator"]
        self.calls = state["calls"]

    @property
    def _active(self) -> bool:
        return self.alpha > 0 and self._embedding.training and torch.is_grad_enabled()

    def _read_batch(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model is not self._model:
            raise UsageError(_SEVERAL_DEVICES)
        if hasattr(self._embedding, _UPSTREAM_ATTRIBUTE):
            raise UsageError(_UPSTREAM_NOISE)
        self._batch = _Batch.of_call(dict(zip(self._argument_names, args, strict=False)) | kwargs)
        self._noised = False

    def _add_noise(self, _: nn.Module, args: tuple[Any, ...], embeddings: Tensor) -> Tensor:
        if not self._active:
            return embeddings
        if self._batch is None:
            raise UsageError(_CALLED_DIRECTLY)
        if self._noised or not self._batch.looks_up(args):
            return embeddings
        scale = self._batch.scale(self.alpha, embeddings, self._noise_scale)
        self._noised = True
        self.calls += 1
        return with_noise(embeddings, self._stream.draw(embeddings.shape, embeddings.device), scale)

    def _check_noised(self, *_: object) -> None:
        if self._active and not self._noised and self._batch is not None and not self._batch.already_embedded:
            raise UsageError(_LEFT_CLEAN)

    def _forget_batch(self, *_: object) -> None:
        self._batch = None


@dataclass(frozen=True)
class _Batch:
    """What one call of the model says about its tokens."""

    input_ids: Tensor | None  # (batch, length)
    attention_mask: Tensor | None
    position_ids: Tensor | None
    cu_seq_lens: Tensor | None
    already_embedded: bool

    @classmethod
    def of_call(cls, arguments: dict[str, Any]) -> Self:
        return cls(
            input_ids=arguments.get("input_ids"),
            attention_mask=arguments.get("attention_mask"),
            position_ids=arguments.get("position_ids"),
            cu_seq_lens=arguments.get("cu_seq_lens_q"),
            already_embedded=any(arguments.get(name) is not None for name in ("inputs_embeds", "encoder_outputs")),
        )

    def looks_up(self, args: tuple[Any, ...]) -> bool:
        """Say whether the embeddings were called for the input ids, and not for the decoder's, say."""
        return bool(args) and self.input_ids is not None and args[0].shape == self.input_ids.shape

    def scale(self, alpha: float, embeddings: Tensor, noise_scale: NoiseScale) -> Tensor:
        """Return the scale of each token's noise: (batch, length)."""
        batch, length, dim = embeddings.shape
        return token_noise_scale(
            alpha,
            dim,
            attention_mask=self.attention_mask,
            position_ids=self.position_ids,
            cu_seq_lens=self.cu_seq_lens,
            shape=(batch, length),
            noise_scale=noise_scale,
            device=embeddings.device,
        )


def _input_embedding(model: nn.Module) -> nn.Module:
    """Return the module that looks up `input_ids`."""
    try:
        embedding = _owner_of_input_embedding(model).get_input_embeddings()
    except (AttributeError, NotImplementedError):
        embedding = None
    if not isinstance(embedding, nn.Module):
        raise UsageError(
            Problem(
                f"{type(model).__name__} has no input embeddings to add noise to.",
                "Use a Hugging Face language model, or one whose get_input_embeddings() returns its embedding.",
            )
        )
    return embedding


def _owner_of_input_embedding(model: Any) -> Any:
    # T5 and BART name a shared embedding that their forward never calls: the encoder has its own, tied to it.
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return model.get_encoder() if encodes else model


def _positional_names(model: nn.Module) -> tuple[str, ...]:
    """Return what the positional arguments of a call are named."""
    # The class's forward and not the instance's: trainers put wrappers of type (*args, **kwargs) over the latter.
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    passes_on = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if passes_on and hasattr(model, "get_base_model"):
        return _positional_names(model.get_base_model())  # type: ignore[operator]
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD)


def _refuse_second(model: nn.Module) -> None:
    for module in model.modules():
        if problem := _noise_on(module):
            raise UsageError(problem)


def _noise_on(module: nn.Module) -> Problem | None:
    hooks = module._forward_hooks.values()
    if any(isinstance(getattr(hook, "__self__", None), AttachedNoise) for hook in hooks):
        return _OWN_NOISE
    if isinstance(module, NEFTuneEmbedding):
        return _NOISY_EMBEDDING
    if hasattr(module, _UPSTREAM_ATTRIBUTE) or any(getattr(h, "__name__", "") == _UPSTREAM_HOOK for h in hooks):
        return _UPSTREAM_NOISE
    return None


_UPSTREAM_ATTRIBUTE = "neftune_noise_alpha"
_UPSTREAM_HOOK = "neftune_post_forward_hook"

_OWN_NOISE = Problem(
    "The model carries noise from attach_noise already.",
    "Leave its `with` block first, or call detach() on its handle.",
)
_NOISY_EMBEDDING = Problem(
    "The model holds a NEFTuneEmbedding already.",
    "Put the plain one back: model.set_input_embeddings(model.get_input_embeddings().embedding).",
)
_UPSTREAM_NOISE = Problem(
    "The model carries transformers' own NEFTune hook, which would add noise twice.",
    "Leave neftune_noise_alpha out of the training arguments; if an earlier training failed and left the hook behind, "
    "load the model again.",
)
_SEVERAL_DEVICES = Problem(
    "The model was copied to several devices in one process (DataParallel), which share one noise generator.",
    "Start a process for each device (accelerate launch), or show it only one (CUDA_VISIBLE_DEVICES=0).",
)
_CALLED_DIRECTLY = Problem(
    "The embeddings were called in training, but not through the model that carries the noise.",
    "Attach the noise to the model that is called, not to one around it.",
)
_LEFT_CLEAN = Problem(
    "A training forward went by without calling the input embeddings for its input_ids.",
    "Pass token ids as input_ids; if the model looks them up by other means, wrap its embedding in a NEFTuneEmbedding.",
)
