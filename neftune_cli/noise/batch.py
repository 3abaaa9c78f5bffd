"""What one call of the model says about its tokens: which are real, which get noise, and how long their example is."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from neftune_cli.config import spec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.lengths import NoiseScale, token_noise_scale

NoiseTarget = spec.NoiseTarget
"""Which real tokens get noise: by their labels, those that are learnt are the completion."""

IGNORED_LABEL = -100
"""Label of a token that the loss leaves out; the rule of torch's cross entropy and of all trainers."""


@dataclass(frozen=True)
class Batch:
    """The arguments of a forward that tell its examples apart."""

    input_ids: Tensor | None  # (batch, length)
    attention_mask: Tensor | None
    position_ids: Tensor | None
    cu_seq_lens: Tensor | None
    labels: Tensor | None
    already_embedded: bool

    @classmethod
    def of_call(cls, arguments: dict[str, Any]) -> Self:
        """Read a call's arguments by the names that transformers gives them."""
        return cls(
            input_ids=arguments.get("input_ids"),
            attention_mask=arguments.get("attention_mask"),
            position_ids=_text_positions(arguments.get("position_ids")),
            cu_seq_lens=arguments.get("cu_seq_lens_q"),
            labels=arguments.get("labels"),
            already_embedded=any(arguments.get(name) is not None for name in ("inputs_embeds", "encoder_outputs")),
        )

    def looks_up(self, args: tuple[Any, ...]) -> bool:
        """Say whether the embeddings were called for the input ids, and not for the decoder's, say."""
        return bool(args) and self.input_ids is not None and args[0].shape == self.input_ids.shape

    def scale(
        self,
        embeddings: Tensor,  # (batch, length, dim)
        alpha: float,
        *,
        noise_scale: NoiseScale = "paper",
        target: NoiseTarget = "all",
        placeholders: tuple[int, ...] = (),
    ) -> Tensor:
        """Return the scale of each token's noise: (batch, length), float32.

        Raises:
            UsageError: the lengths can't be told, or the target needs labels and there are none.

        """
        batch, length, dim = embeddings.shape
        scale = token_noise_scale(
            alpha,
            dim,
            attention_mask=self.attention_mask,
            position_ids=self.position_ids,
            cu_seq_lens=self.cu_seq_lens,
            placeholders=self._placeholders(placeholders),
            shape=(batch, length),
            noise_scale=noise_scale,
        ).to(embeddings.device)
        return scale if target == "all" else scale * self._targeted(target).to(scale.device)

    def real_tokens(
        self,
        embeddings: Tensor,  # (batch, length, dim)
        noise_scale: NoiseScale,
        placeholders: tuple[int, ...],
    ) -> Tensor:
        """Return which tokens are text and no padding: (batch, length), bool.

        Raises:
            UsageError: that can't be told, and the scale depends on it.

        """
        readable = isinstance(self.attention_mask, Tensor) and self.attention_mask.ndim == 2
        if noise_scale == "hf" and self.attention_mask is not None and not readable:
            return torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        return self.scale(embeddings, 1.0, placeholders=placeholders) > 0

    def _placeholders(self, ids: tuple[int, ...]) -> Tensor | None:
        if not ids or self.input_ids is None:
            return None
        found = self.input_ids == ids[0]
        for other in ids[1:]:
            found = found | (self.input_ids == other)
        return found

    def _targeted(self, target: NoiseTarget) -> Tensor:
        """Return which tokens the target names: (batch, length), bool."""
        if self.labels is None or self.input_ids is None or self.labels.shape != self.input_ids.shape:
            raise UsageError(NO_LABELS)
        learnt = self.labels != IGNORED_LABEL
        return learnt if target == "completion" else ~learnt


def _text_positions(position_ids: Any) -> Any:
    """Return the positions that restart with every example: (batch, length), or None where none do.

    Qwen's vision models number their axes apart, as (3, batch, length), in which an image's tokens stand still; with
    the text's own positions before them it is (4, batch, length).
    """
    if not isinstance(position_ids, Tensor) or position_ids.ndim < 3:
        return position_ids
    return position_ids[0] if position_ids.shape[0] == 4 else None


NO_LABELS = Problem(
    "The model was called without a label for each of its input_ids, so prompt and completion can't be told apart.",
    "Use the noise target 'all', or a trainer that passes labels to the model.",
)
