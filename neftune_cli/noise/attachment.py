"""Noise on the input embeddings of any Hugging Face model while it trains: put on by hooks, taken off on every exit."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypedDict

import torch
from torch import Tensor, nn

from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.attestation import MeterState, NoiseMeter
from neftune_cli.noise.batch import NO_LABELS, Batch, NoiseTarget
from neftune_cli.noise.compiled import register, traceable_draw
from neftune_cli.noise.conflicts import UPSTREAM_NOISE, adds_noise, carries_upstream_noise, noise_on
from neftune_cli.noise.draws import Noise, NoiseStream, check_choice
from neftune_cli.noise.lengths import NoiseScale, check_alpha
from neftune_cli.noise.placement import Placement, encodes
from neftune_cli.records import Attestation


def attach_noise(
    model: nn.Module,
    alpha: float = 5.0,
    seed: int = 0,
    *,
    noise: Noise = "uniform",
    noise_scale: NoiseScale = "paper",
    target: NoiseTarget = "all",
    rank: int | None = None,
) -> "AttachedNoise":
    """Add NEFTune noise to the model's input embeddings until the returned handle is left or detached.

        with attach_noise(model, alpha=5.0, seed=0) as noise:
            trainer.train()

    Noise falls on one call of the embeddings in each forward: the first that looks up ids of the shape of `input_ids`,
    which is the encoder's in an encoder-decoder model. It falls only while the embeddings are in training mode and
    gradients are recorded, so that neither evaluation nor `generate`, which some trainers call in training mode, is
    noisy. Each example's length is read from the attention_mask, position_ids or cu_seq_lens_q of the same call;
    placeholders of images and sounds are left out. A forward that is given `inputs_embeds` is left alone. With alpha 0
    nothing is drawn and the embeddings pass through untouched.

    Attach to the model that the trainer calls, PEFT's wrapper for instance, before or after it is compiled or wrapped
    for parallel training. The draws come from the handle's own generator: they depend on seed, rank, the order of the
    calls and the shapes, never on alpha.

    Source: section 2 of arXiv 2310.05914.

    Args:
        model: has input embeddings.
        alpha: the noise magnitude; `AttachedNoise.alpha` changes it later.
        seed: decides the draws.
        noise: distribution of a coordinate, of the same variance for all three.
        noise_scale: `paper` takes each example's own length, `hf` the padded one, as transformers does.
        target: which real tokens get noise: all, or by their labels those of the prompt or of the completion. The
            length stays that of the whole example.
        rank: number of the process among those that train together on different data, which draw different noise;
            torch.distributed's unless given. Processes that share one batch (tensor parallel) need the same.

    Raises:
        UsageError: alpha is negative or not finite, `noise`, `noise_scale` or `target` is unknown, the model has no
            input embeddings, or they are noisy already. In a forward: the lengths can't be told, the target needs
            labels, or the embeddings were not called through this model.

    """
    check_alpha(alpha)
    check_choice("noise scale", noise_scale, NoiseScale)
    check_choice("noise target", target, NoiseTarget)
    stream = NoiseStream(noise, seed, _process_rank() if rank is None else rank)
    placement = Placement.of(model)
    if target != "all" and encodes(model):
        raise UsageError(NO_LABELS)
    for problem in noise_on(model):
        raise UsageError(problem)
    return AttachedNoise(model, placement, stream, alpha, noise_scale, target)


def _process_rank() -> int:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0


class NoiseState(TypedDict):
    """What a checkpoint keeps of the noise; plain numbers, for JSON as well as for `torch.load(weights_only=True)`."""

    draws: int


class AttachedNoise:
    """The handle of noise on a model: leave its `with` block or call `detach` to take the noise off."""

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
        # transformers knows nothing of what comes after the embedding, and `hf` is to do what it does.
        self._divisor = placement.multiplier if noise_scale == "paper" else 1.0
        self._meter = NoiseMeter(model, noise_scale, target)
        self._number = register(self._draw_within_graph)
        self._probe: Probe | None = None
        self._batch: Batch | None = None
        self._noised = False
        self.alpha = alpha
        self._hooks = (
            model.register_forward_pre_hook(self._read_batch, with_kwargs=True),
            placement.embedding.register_forward_hook(self._add_noise),
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
        self._forget_batch()

    @property
    def alpha(self) -> float:
        """The noise magnitude. Set it to another one between steps; raises a UsageError if that is none."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._alpha = check_alpha(alpha)
        # Apart from alpha, which may change with every step: compiled code looks at this alone.
        self._switched_on = alpha > 0

    @property
    def calls(self) -> int:
        """How many forwards got noise so far, those before a resumption included."""
        return self._stream.draws

    @property
    def attestation(self) -> Attestation:
        """What has been measured of the noise so far."""
        return self._meter.attestation()

    @property
    def deviations(self) -> tuple[str, ...]:
        """What of that isn't as it should be, one clause each."""
        return self._meter.deviations()

    def count_hooks(self) -> None:
        """Note how many hooks add noise to the model at this moment; done at every measurement anyway."""
        self._meter.count_hooks()

    def state_dict(self) -> NoiseState:
        """Return what is needed to go on with the same draws."""
        return {"draws": self._stream.draws}

    def load_state_dict(self, state: NoiseState) -> None:
        """Go on with the draws where `state` was taken."""
        self._stream.draws = state["draws"]

    def measurements(self) -> MeterState:
        """Return what `attestation` and `deviations` are made from."""
        return self._meter.state_dict()

    def go_on_measuring(self, state: MeterState) -> None:
        """Let them speak of what was measured before a resumption too."""
        self._meter.load_state_dict(state)

    @property
    def _active(self) -> bool:
        return self._switched_on and self._placement.embedding.training and torch.is_grad_enabled()

    def _read_batch(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model is not self._model:
            raise UsageError(_SEVERAL_DEVICES)
        if carries_upstream_noise(self._placement.embedding):
            raise UsageError(UPSTREAM_NOISE)
        self._batch = Batch.of_call(dict(zip(self._placement.argument_names, args, strict=False)) | kwargs)
        if not torch.compiler.is_compiling() and self._active and self._meter.is_due:
            self._probe = Probe(self._placement.embedding, self._measure)

    @adds_noise
    def _add_noise(self, _: nn.Module, args: tuple[Any, ...], embeddings: Tensor) -> Tensor:
        if not self._active:
            return embeddings
        if self._batch is None:
            raise UsageError(_CALLED_DIRECTLY)
        if self._noised or not self._batch.looks_up(args):
            return embeddings
        self._noised = True
        if torch.compiler.is_compiling():
            return embeddings + traceable_draw(self._number, embeddings, self._batch)
        return embeddings + self._draw(embeddings.detach(), self._batch)

    def _draw(
        self,
        embeddings: Tensor,  # (batch, length, dim), without gradient
        batch: Batch,
    ) -> Tensor:
        """Return the noise of one forward, in the embeddings' dtype: (batch, length, dim)."""
        scale = self._scale(batch, embeddings, self.alpha) / self._divisor
        self._meter.count_call()
        return self._stream.draw_for(embeddings, scale)

    def _draw_within_graph(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """Return the same where hooks are compiled away: then only the sum of the two can be measured."""
        is_due = self._meter.is_due and self._probe is None  # if a part of the model is compiled, the probe still sees
        noise = self._draw(embeddings, batch)
        if is_due:
            self._observe(embeddings, embeddings + noise, batch)
        return noise

    def _measure(self, clean: Tensor, noisy: Tensor) -> None:
        """Take what left the embedding, in the call that was noised."""
        if self._noised and self._probe is not None and self._batch is not None:
            self._take_off_probe()
            self._observe(clean, noisy, self._batch)

    def _observe(self, clean: Tensor, noisy: Tensor, batch: Batch) -> None:
        """Let the meter see what leaves the embedding, rounded as it is, beside the formula's own terms."""
        real = batch.real_tokens(clean, self._noise_scale, self._placement.placeholders)
        per_token = self._scale(batch, clean, 1.0)
        self._meter.observe(
            self.alpha,
            clean=clean.float() * self._divisor,
            noisy=noisy.float() * self._divisor,
            inverse_length=per_token.square() * clean.shape[-1],
            real=real,
            precision=torch.finfo(clean.dtype).eps,
        )

    def _scale(self, batch: Batch, embeddings: Tensor, alpha: float) -> Tensor:
        """Return what the formula gives each token: (batch, length)."""
        return batch.scale(
            embeddings,
            alpha,
            noise_scale=self._noise_scale,
            target=self._target,
            placeholders=self._placement.placeholders,
        )

    def _check_noised(self, *_: object) -> None:
        noised, self._noised = self._noised, False
        if self._active and not noised and self._batch is not None and not self._batch.already_embedded:
            raise UsageError(_LEFT_CLEAN)

    def _forget_batch(self, *_: object) -> None:
        self._batch = None
        self._noised = False
        self._take_off_probe()

    def _take_off_probe(self) -> None:
        if self._probe is not None:
            self._probe.remove()
            self._probe = None


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


class Probe:
    """Watches the calls of a module until it is removed.

    It has to be put on when all other hooks are there, since hooks run in the order in which they came.

    Args:
        module: returns one tensor.
        seen: takes, after each call, what the module returned and what its hooks made of it, both without gradient.

    """

    def __init__(self, module: nn.Module, seen: Callable[[Tensor, Tensor], None]) -> None:
        self._seen = seen
        self._returned: Tensor | None = None
        self._hooks = (
            module.register_forward_hook(self._remember, prepend=True),
            module.register_forward_hook(self._report),
        )

    def remove(self) -> None:
        """Watch no longer; calling it again does nothing."""
        for hook in self._hooks:
            hook.remove()

    def _remember(self, _: nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        self._returned = output.detach()

    def _report(self, _: nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        assert self._returned is not None
        self._seen(self._returned, output.detach())
