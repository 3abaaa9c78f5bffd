"""Measurements of the applied noise, taken every `MEASURE_EVERY` calls, and deviations from the expected values."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn

from neftune_cli.config.choices import NoiseScale, NoiseTarget
from neftune_cli.noise.conflicts import noise_sources
from neftune_cli.noise.draws import STANDARD_DEVIATION
from neftune_cli.records import Attestation

MEASURE_EVERY = 10
"""Calls from one measurement to the next."""
TOLERANCE = 0.01
"""Accepted relative deviation of the noise's RMS from the formula's, in addition to chance and rounding."""
CHANCE = 6.0
"""Number of standard deviations of the RMS that are attributed to chance."""
SQUARE_DISPERSION = 2.0
"""Variance of a squared coordinate over the square of its mean, for normal draws; 0.8 for uniform, 0 for Bernoulli."""


@dataclass
class _Sums:
    """Totals over the measured calls: squared norms in squared units of the embeddings, and numbers of tokens."""

    received: float = 0.0
    """Squared norm of the added noise."""
    expected: float = 0.0
    """Squared norm by the formula: alpha**2 / (3 L) for each token of an example of length L."""
    variance: float = 0.0
    """Sampling variance of `received` for normal draws, in its unit squared."""
    rounding: float = 0.0
    """Squared norm that rounding to the embeddings' precision may add or remove."""
    embeddings: float = 0.0
    """Squared norm of the embeddings that got noise."""
    tokens: float = 0.0
    real: float = 0.0
    noised: float = 0.0
    noised_real: float = 0.0


class MeterTotals(TypedDict):
    """Totals of the measurements in a checkpoint; plain numbers."""

    calls: int
    measured_calls: int
    evaluation_calls: int
    hooks: int
    sums: dict[str, float]


class NoiseMeter:
    """Measures the noise of one attachment."""

    def __init__(self, model: nn.Module, noise_scale: NoiseScale, target: NoiseTarget) -> None:
        self._model = model
        self._noise_scale = noise_scale
        self._target = target
        self._calls = self._measured = self._evaluation_calls = 0
        self._hooks = 1
        self._sums = _Sums()

    def forget_model(self) -> None:
        """Release the model's memory when the noise is removed; the totals stay."""
        self._model = nn.Module()

    def totals(self) -> MeterTotals:
        """Return the totals so far."""
        return {
            "calls": self._calls,
            "measured_calls": self._measured,
            "evaluation_calls": self._evaluation_calls,
            "hooks": self._hooks,
            "sums": asdict(self._sums),
        }

    def load_totals(self, earlier: MeterTotals) -> None:
        """Continue from earlier totals."""
        self._calls, self._measured = earlier["calls"], earlier["measured_calls"]
        self._evaluation_calls, self._hooks = earlier["evaluation_calls"], earlier["hooks"]
        self._sums = _Sums(**earlier["sums"])

    @property
    def is_due(self) -> bool:
        """Return whether the next noisy call is to be measured."""
        return self._calls % MEASURE_EVERY == 0

    def count_call(self) -> None:
        """Count one more noisy call."""
        self._calls += 1
        self._evaluation_calls += not self._model.training

    def count_hooks(self) -> None:
        """Count the hooks that add noise now; a count other than 1 is kept."""
        if self._hooks == 1:
            self._hooks = sum(1 for _ in noise_sources(self._model))

    def observe(
        self,
        alpha: float,
        *,
        clean: Tensor,  # (batch, length, dim), float32, as the first layer receives it without noise
        noisy: Tensor,  # the same with noise
        inverse_length: Tensor,  # (batch, length), 1 / L at tokens that get noise, else 0
        real: Tensor,  # (batch, length), bool
        precision: float,  # relative spacing of floating-point numbers in the model's dtype
    ) -> None:
        """Add one measurement to the totals."""
        added, norms = (noisy - clean).square().sum(-1), clean.square().sum(-1)
        norm_times_length = (alpha * STANDARD_DEVIATION) ** 2  # squared norm of the noise of a token, times L
        # Noise below the precision of the sum counts as added; it occurs late in a decaying schedule.
        below_precision = (inverse_length > 0) & (norm_times_length * inverse_length < precision**2 * norms)
        noised = (added > 0) | below_precision
        self._add(
            received=added.sum(),
            expected=norm_times_length * inverse_length.sum(),
            variance=norm_times_length**2 * SQUARE_DISPERSION / clean.shape[-1] * inverse_length.square().sum(),
            rounding=precision**2 * norms[noised].sum(),
            embeddings=norms[noised].sum(),
            tokens=torch.tensor(real.numel()),
            real=real.sum(),
            noised=noised.sum(),
            noised_real=(noised & real).sum(),
        )
        self._measured += 1
        self.count_hooks()

    def _add(self, **totals: Tensor) -> None:
        device = totals["received"].device
        values = torch.stack([total.float().to(device) for total in totals.values()]).tolist()  # one synchronization
        for name, value in zip(totals, values, strict=True):
            setattr(self._sums, name, getattr(self._sums, name) + value)

    def attestation(self) -> Attestation:
        """Return the measurements so far."""
        sums = self._sums
        padding, noised_padding = sums.tokens - sums.real, sums.noised - sums.noised_real
        return Attestation(
            calls=self._calls,
            measured_calls=self._measured,
            rms=math.sqrt(sums.received / sums.expected) if sums.expected else None,
            noise_to_embedding=math.sqrt(sums.received / sums.embeddings) if sums.embeddings else None,
            noised_share=sums.noised_real / sums.real if sums.real else None,
            noised_padding=noised_padding / padding if padding else None,
            evaluation_calls=self._evaluation_calls,
            hooks=self._hooks,
        )

    def deviations(self) -> tuple[str, ...]:
        """Return the deviations from the expected measurements, one clause each."""
        return tuple(self._deviations(self.attestation()))

    def _deviations(self, attested: Attestation) -> Iterator[str]:
        if attested.hooks != 1:
            yield f"{attested.hooks} hooks added noise, expected 1"
        if attested.evaluation_calls:
            yield f"{attested.evaluation_calls} evaluation calls had noise"
        if self._measured and attested.rms is None:
            yield f"the noise target '{self._target}' selected none of the measured tokens"
        if attested.rms is not None and abs(attested.rms - 1) > self._tolerance():
            yield f"the RMS of the noise was {attested.rms:.3f} times the expected RMS"
        if self._target == "all" and attested.noised_share is not None and attested.noised_share < 1:
            yield f"only {attested.noised_share:.1%} of the real tokens got noise"
        if self._noise_scale == "paper" and attested.noised_padding:
            yield f"{attested.noised_padding:.1%} of the padding tokens got noise"

    def _tolerance(self) -> float:
        """Return the accepted relative deviation of the RMS."""
        sums = self._sums
        chance = math.sqrt(sums.variance) / sums.expected / 2  # half the relative error of the mean square
        return TOLERANCE + CHANCE * chance + sums.rounding / sums.expected


class OutputTap:
    """Reports the output of a module before and after its hooks, until it is removed.

    Register it after all other hooks: hooks run in the order of registration.

    Args:
        module: returns one tensor.
        report: receives, after each call, the module's output and the output of its hooks, both without gradient.
    """

    def __init__(self, module: nn.Module, report: Callable[[Tensor, Tensor], None]) -> None:
        self._report = report
        self._before_hooks: Tensor | None = None
        self._hooks = (
            module.register_forward_hook(self._keep_output, prepend=True),
            module.register_forward_hook(self._report_outputs),
        )

    def remove(self) -> None:
        """Stop reporting; a second call has no effect."""
        for hook in self._hooks:
            hook.remove()

    def _keep_output(self, _: nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        self._before_hooks = output.detach()

    def _report_outputs(self, _: nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        assert self._before_hooks is not None
        self._report(self._before_hooks, output.detach())
