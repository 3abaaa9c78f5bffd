"""NEFTune noise on the input embeddings of a Hugging Face model, added by hooks and removed on every exit."""

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypedDict
from weakref import WeakMethod

import torch
from torch import Tensor, nn

from neftune_cli.config.choices import NoiseScale, NoiseTarget, check_choice
from neftune_cli.config.values import check_alpha, check_seed
from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.attestation import MeterTotals, NoiseMeter, OutputTap
from neftune_cli.noise.batch import Batch
from neftune_cli.noise.conflicts import UPSTREAM_NOISE, has_upstream_noise, mark_noise_source, require_no_noise
from neftune_cli.noise.draws import NoiseStream
from neftune_cli.noise.placement import Placement, is_encoder_decoder
from neftune_cli.records import Attestation


def attach_noise(
    model: nn.Module,
    alpha: float = 5.0,
    seed: int = 0,
    *,
    noise: str = "uniform",
    noise_scale: NoiseScale = "paper",
    target: NoiseTarget = "all",
    rank: int | None = None,
) -> "AttachedNoise":
    """Add NEFTune noise to the model's input embeddings until the returned handle is detached.

        with attach_noise(model, alpha=5.0, seed=0) as noise:
            trainer.train()

    In each forward, one embedding call gets noise: the first that looks up ids of the shape of `input_ids`. In an
    encoder-decoder model that is the encoder's. The call gets noise only while the embeddings are in training mode and
    gradients are recorded. Evaluation has no noise, and neither has `generate`, which some trainers call in training
    mode. The length of each example is read from the attention_mask, position_ids or cu_seq_lens_q of the same call.
    Placeholders of images and audio get no noise and are not counted. A forward with `inputs_embeds` gets no noise.
    With alpha 0, nothing is drawn and the embeddings are unchanged.

    Attach to the model that the trainer calls, for example PEFT's wrapper, before or after it is compiled or wrapped
    for parallel training. The handle has a separate generator. Its draws depend on seed, rank, the order of the calls
    and the shapes, and not on the size of an alpha above 0.

    Source: section 2 of arXiv 2310.05914.

    Args:
        model: a model with input embeddings.
        alpha: noise size; `AttachedNoise.alpha` changes it later.
        seed: determines the draws.
        noise: name of the distribution of one coordinate; all distributions have the same variance.
        noise_scale: `paper` uses the length of each example, `hf` the padded length, as transformers does.
        target: the real tokens that get noise: all, or by their labels the prompt or the completion. L stays the
            length of the whole example.
        rank: index of the process among those that train together on different data and draw different noise;
            torch.distributed's by default. Processes that share one batch (tensor parallel) need the same rank.

    Raises:
        UsageError: alpha is not a number from 0 to 1e6; `seed` is not a whole number from 0 to 2**32 - 1; `noise`,
            `noise_scale` or `target` is unknown; the model has no input embeddings; or the model already has noise. In
            a forward: the lengths are unknown, the target needs labels, the embeddings were not called through this
            model, or the backward pass repeats the forward.
    """
    check_alpha(alpha)
    check_choice("noise scale", noise_scale, NoiseScale)
    check_choice("noise target", target, NoiseTarget)
    stream = NoiseStream(noise, check_seed(seed), _process_rank() if rank is None else rank)
    placement = Placement.of(model)
    if target != "all" and is_encoder_decoder(model):
        raise UsageError(_TARGET_OF_ENCODER_DECODER)
    require_no_noise(model)
    return AttachedNoise(model, placement, stream, alpha, noise_scale, target)


class NoiseState(TypedDict):
    """The state of the noise in a checkpoint: plain numbers, for JSON and for `torch.load(weights_only=True)`."""

    draws: int


class AttachedNoise:
    """The handle of noise on a model: leave its `with` block or call `detach` to remove the noise."""

    def __init__(
        self,
        model: nn.Module,
        placement: Placement,
        stream: NoiseStream,
        alpha: float,
        noise_scale: NoiseScale,
        target: NoiseTarget,
    ) -> None:
        self._model = model
        self._placement = placement
        self._stream = stream
        self._noise_scale: NoiseScale = noise_scale
        self._target: NoiseTarget = target
        # transformers ignores a multiplication after the embedding, and `hf` reproduces transformers.
        self._multiplier = placement.multiplier if noise_scale == "paper" else 1.0
        self._meter = NoiseMeter(model, noise_scale, target)
        self._draw_function_number = _register_draw_function(self._draw_within_graph)
        self._tap: OutputTap | None = None
        self._batch: Batch | None = None
        self._noised = False
        self.padded_length: int | None = None
        """Padded length of the current batch, of which a forward may compute a part, for the noise scale `hf`. If None,
        it is the length of the forward's own rows."""
        self.alpha = alpha
        self._hooks = (
            model.register_forward_pre_hook(_Hook(self._read_batch), with_kwargs=True),
            placement.embedding.register_forward_hook(mark_noise_source(_Hook(self._add_noise))),
            model.register_forward_hook(_Hook(self._require_noise)),
            model.register_forward_hook(_Hook(self._clear_batch), always_call=True),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def detach(self) -> None:
        """Remove the noise; a second call has no effect. The handle keeps its measurements, and not the model."""
        for hook in self._hooks:
            hook.remove()
        self._clear_batch()
        self._model = nn.Module()
        self._placement = replace(self._placement, embedding=self._model)
        self._meter.forget_model()

    @property
    def alpha(self) -> float:
        """The noise size alpha; set it between steps. Raises a UsageError if it is not a number from 0 to 1e6."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._alpha = check_alpha(alpha)
        # Separate from alpha, which may change with every step: compiled code reads this flag and not alpha.
        self._switched_on = alpha > 0

    @property
    def draws(self) -> int:
        """Return the number of forwards that got noise, including those before a resume."""
        return self._stream.draws

    @property
    def attestation(self) -> Attestation:
        """Return the measurements of the noise so far."""
        return self._meter.attestation()

    @property
    def deviations(self) -> tuple[str, ...]:
        """Return the deviations from the expected measurements, one clause each."""
        return self._meter.deviations()

    def count_hooks(self) -> None:
        """Count the hooks that add noise to the model now; every measurement also does this."""
        self._meter.count_hooks()

    def state_dict(self) -> NoiseState:
        """Return the state that determines all later draws."""
        return {"draws": self._stream.draws}

    def load_state_dict(self, state: NoiseState) -> None:
        """Continue with the draws after `state`."""
        self._stream.draws = state["draws"]

    def totals(self) -> MeterTotals:
        """Return the totals from which `attestation` and `deviations` are computed."""
        return self._meter.totals()

    def resume_totals(self, earlier: MeterTotals) -> None:
        """Continue the totals of a training run before it was resumed."""
        self._meter.load_totals(earlier)

    @property
    def _active(self) -> bool:
        return self._switched_on and self._placement.embedding.training and torch.is_grad_enabled()

    def _read_batch(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model is not self._model:
            raise UsageError(_SEVERAL_DEVICES)
        if has_upstream_noise(self._placement.embedding):
            raise UsageError(UPSTREAM_NOISE)
        self._batch = Batch.of_call(dict(zip(self._placement.argument_names, args, strict=False)) | kwargs)
        if not torch.compiler.is_compiling() and self._active and self._meter.is_due:
            self._tap = OutputTap(self._placement.embedding, self._measure)

    def _add_noise(self, _: nn.Module, args: tuple[Any, ...], embeddings: Tensor) -> Tensor:
        if not self._active:
            return embeddings
        if self._batch is None:
            raise UsageError(_CALLED_DIRECTLY)
        if self._noised or not self._batch.has_ids_like(args):
            return embeddings
        self._noised = True
        if torch.compiler.is_compiling():
            return embeddings + _traceable_draw(self._draw_function_number, embeddings, self._batch)
        return embeddings + self._draw(embeddings.detach(), self._batch)

    def _require_noise(self, *_: object) -> None:
        noised, self._noised = self._noised, False
        if self._active and not noised and self._batch is not None and not self._batch.already_embedded:
            raise UsageError(_NOT_NOISED)

    def _clear_batch(self, *_: object) -> None:
        self._batch = None
        self._noised = False
        self._remove_tap()

    def _draw(
        self,
        embeddings: Tensor,  # (batch, length, dim), without gradient
        batch: Batch,
    ) -> Tensor:
        """Return the noise of one forward, in the embeddings' dtype: (batch, length, dim)."""
        half_widths = self._half_widths(batch, embeddings, self.alpha) / self._multiplier
        self._meter.count_call()
        return self._stream.draw_for(embeddings, half_widths)

    def _draw_within_graph(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """Return the noise of one forward if hooks are compiled; the sum of embeddings and noise is measured here."""
        # If only a part of the model is compiled, the tap measures the call, which must not be measured twice.
        is_due = self._meter.is_due and self._tap is None
        noise = self._draw(embeddings, batch)
        if is_due:
            self._observe(embeddings, embeddings + noise, batch)
        return noise

    def _half_widths(self, batch: Batch, embeddings: Tensor, alpha: float) -> Tensor:
        """Return the half-width of each token's noise by the formula: (batch, length)."""
        return batch.half_widths(
            embeddings,
            alpha,
            noise_scale=self._noise_scale,
            target=self._target,
            placeholders=self._placement.placeholders,
            padded_length=self.padded_length,
        )

    def _measure(self, clean: Tensor, noisy: Tensor) -> None:
        """Measure one tapped output of the embedding, in the call that got noise."""
        if self._noised and self._tap is not None and self._batch is not None:
            self._remove_tap()
            self._observe(clean, noisy, self._batch)

    def _observe(self, clean: Tensor, noisy: Tensor, batch: Batch) -> None:
        """Pass the embedding's output, in the model's precision, and the terms of the formula to the meter."""
        real = batch.real_tokens(clean, self._noise_scale, self._placement.placeholders)
        at_alpha_1 = self._half_widths(batch, clean, 1.0)
        self._meter.observe(
            self.alpha,
            clean=clean.float() * self._multiplier,
            noisy=noisy.float() * self._multiplier,
            inverse_length=at_alpha_1.square() * clean.shape[-1],
            real=real,
            precision=torch.finfo(clean.dtype).eps,
        )

    def _remove_tap(self) -> None:
        if self._tap is not None:
            self._tap.remove()
            self._tap = None


class _Hook:
    """A hook that has no effect on a copy of its module, also a pickled one: no handle could remove it there."""

    def __init__(self, hook: Callable[..., Tensor | None] | None = None) -> None:
        self._hook = hook

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor | None:
        return self._hook(*args, **kwargs) if self._hook else None

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


def _process_rank() -> int:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0


_SEVERAL_DEVICES = Problem(
    "DataParallel copied the model to several devices in one process, and the copies share one noise generator.",
    "Start one process per device (accelerate launch), or make one device visible (CUDA_VISIBLE_DEVICES=0).",
)
_TARGET_OF_ENCODER_DECODER = Problem(
    "In an encoder-decoder model the labels are those of the decoder: they do not separate prompt and completion in "
    "the input ids.",
    "Use the noise target 'all'.",
)
_CALLED_DIRECTLY = Problem(
    "The embeddings were called in training, but not through the model that the noise is attached to.",
    "Attach the noise to the model that is called, not to a model that contains it.",
)
_NOT_NOISED = Problem(
    "A training forward did not call the input embeddings for its input_ids.",
    "Pass token ids as input_ids, in rows of a length that the model does not pad further (for Longformer, a multiple "
    "of its attention window). If the model looks them up in another way, wrap its embedding in a NEFTuneEmbedding.",
)


# The draw is one opaque operator, which a compiled model calls without a graph break or a recompilation. The compiler
# cannot trace a separate generator and does not keep Python counters current. It does not look inside an operator.

_BatchDraw = Callable[[Tensor, Batch], Tensor]
"""Return the noise of embeddings (batch, length, dim) and their batch, in the shape and dtype of the embeddings."""

_draw_functions: dict[int, WeakMethod[_BatchDraw]] = {}


def _register_draw_function(draw: _BatchDraw) -> int:
    """Return the number under which compiled code calls a bound method while its object is alive."""
    number = max(_draw_functions, default=0) + 1

    def forget(_: object) -> None:
        _draw_functions.pop(number, None)

    _draw_functions[number] = WeakMethod(draw, forget)
    return number


def _traceable_draw(number: int, embeddings: Tensor, batch: Batch) -> Tensor:
    """Return the noise for embeddings through the operator, which is one node of the compiled graph."""
    noise: Tensor = _draw_operator(
        embeddings.detach(),
        number,
        batch.input_ids,
        batch.attention_mask,
        batch.position_ids,
        batch.cu_seq_lens,
        batch.labels,
    )
    return noise


@torch.library.custom_op(
    "neftune::draw",
    mutates_args=(),
    # The compiler must not merge, recompute or replay calls: each call is a new draw.
    tags=(torch.Tag.nondeterministic_seeded, torch.Tag.cudagraph_unsafe),
)
def _draw_operator(
    embeddings: Tensor,
    number: int,
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    cu_seq_lens: Tensor | None,
    labels: Tensor | None,
) -> Tensor:
    draw = _draw_functions[number]()
    assert draw is not None
    batch = Batch(input_ids, attention_mask, position_ids, cu_seq_lens, labels, already_embedded=False)
    return draw(embeddings, batch)


@_draw_operator.register_fake
def _(embeddings: Tensor, *_: object) -> Tensor:
    return torch.empty_like(embeddings)
