"""Measures, every so many calls, what the noise did to a model's embeddings, and says what isn't as it should be."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn

from neftune_cli.noise.batch import NoiseTarget
from neftune_cli.noise.conflicts import noise_on
from neftune_cli.noise.draws import STANDARD_DEVIATION
from neftune_cli.noise.lengths import NoiseScale
from neftune_cli.records import Attestation

EVERY = 10
"""Calls from one measurement to the next."""
TOLERANCE = 0.01
"""Deviation of the noise's RMS from the formula's that is let pass beside what chance and rounding explain."""
CHANCE = 6.0
"""Standard deviations that are put down to chance."""
LARGEST_KURTOSIS = 2.0
"""Variance of a coordinate's square over its squared mean, for normal draws; the other distributions have less."""


@dataclass
class _Sums:
    """Totals over the measured calls; the first five in squared units of the embeddings."""

    received: float = 0.0
    """Squared norm of what was added."""
    expected: float = 0.0
    """The same by the formula: alpha**2 / (3 L) for each token of an example of L, so alpha**2 / 3 for an example."""
    variance: float = 0.0
    """Variance of `received` that chance explains, if the draws are normal."""
    rounding: float = 0.0
    """Squared norm that the embeddings' precision may add or swallow."""
    embeddings: float = 0.0
    """Squared norm of the embeddings that were noised."""
    tokens: float = 0.0
    real: float = 0.0
    noised: float = 0.0
    noised_real: float = 0.0


class MeterState(TypedDict):
    """What a checkpoint keeps of the measurements; plain numbers."""

    calls: int
    measured_calls: int
    evaluation_calls: int
    hooks: int
    sums: dict[str, float]


class NoiseMeter:
    """Keeps the measurements of one attachment."""

    def __init__(self, model: nn.Module, noise_scale: NoiseScale, target: NoiseTarget) -> None:
        self._model = model
        self._noise_scale = noise_scale
        self._target = target
        self._calls = self._measured = self._evaluation_calls = 0
        self._hooks = 1
        self._sums = _Sums()

    def state_dict(self) -> MeterState:
        """Return what was measured so far."""
        return {
            "calls": self._calls,
            "measured_calls": self._measured,
            "evaluation_calls": self._evaluation_calls,
            "hooks": self._hooks,
            "sums": asdict(self._sums),
        }

    def load_state_dict(self, state: MeterState) -> None:
        """Go on measuring where `state` was taken."""
        self._calls, self._measured = state["calls"], state["measured_calls"]
        self._evaluation_calls, self._hooks = state["evaluation_calls"], state["hooks"]
        self._sums = _Sums(**state["sums"])

    @property
    def is_due(self) -> bool:
        """Whether the next noisy call is to be measured."""
        return self._calls % EVERY == 0

    def count_call(self) -> None:
        """Count one more noisy call."""
        self._calls += 1
        self._evaluation_calls += not self._model.training

    def count_hooks(self) -> None:
        """Note how many hooks add noise at this moment; a number other than 1 stays noted."""
        if self._hooks == 1:
            self._hooks = sum(1 for _ in noise_on(self._model))

    def observe(
        self,
        alpha: float,
        *,
        clean: Tensor,  # (batch, length, dim), float32, as the first layer would receive it
        noisy: Tensor,  # the same with noise
        inverse_length: Tensor,  # (batch, length), 1 / L where the formula wants noise, else 0
        real: Tensor,  # (batch, length), bool
        precision: float,  # relative spacing of the numbers that the model adds in
    ) -> None:
        """Take one measurement."""
        added, norms = (noisy - clean).square().sum(-1), clean.square().sum(-1)
        variance = (alpha * STANDARD_DEVIATION) ** 2
        # What the precision of the sum swallows was added all the same: late in a falling schedule, say.
        swallowed = (inverse_length > 0) & (variance * inverse_length < precision**2 * norms)
        noised = (added > 0) | swallowed
        self._add(
            received=added.sum(),
            expected=variance * inverse_length.sum(),
            variance=variance**2 * LARGEST_KURTOSIS / clean.shape[-1] * inverse_length.square().sum(),
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
        values = torch.stack([total.float().to(device) for total in totals.values()]).tolist()  # one synchronisation
        for name, value in zip(totals, values, strict=True):
            setattr(self._sums, name, getattr(self._sums, name) + value)

    def attestation(self) -> Attestation:
        """Return what was measured so far."""
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
        """Return what isn't as it should be, one clause each."""
        return tuple(self._deviations(self.attestation()))

    def _deviations(self, attested: Attestation) -> Iterator[str]:
        if attested.hooks != 1:
            yield f"{attested.hooks} hooks added noise instead of 1"
        if attested.evaluation_calls:
            yield f"{attested.evaluation_calls} calls in evaluation were noisy"
        if self._measured and attested.rms is None:
            yield f"none of the measured tokens is one that the target '{self._target}' names"
        if attested.rms is not None and abs(attested.rms - 1) > self._tolerance():
            yield f"the RMS of the noise was {attested.rms:.3f} of the formula's"
        if self._target == "all" and attested.noised_share is not None and attested.noised_share < 1:
            yield f"only {attested.noised_share:.1%} of the real tokens were noised"
        if self._noise_scale == "paper" and attested.noised_padding:
            yield f"{attested.noised_padding:.1%} of the padding was noised"

    def _tolerance(self) -> float:
        """Return how far the RMS may be from the formula's, as a share of it."""
        sums = self._sums
        chance = math.sqrt(sums.variance) / sums.expected / 2  # of the RMS: half of the mean square's
        return TOLERANCE + CHANCE * chance + sums.rounding / sums.expected
