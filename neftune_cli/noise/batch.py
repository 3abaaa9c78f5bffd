"""The token layout of one model call: real tokens, tokens that get noise, and the length of each token's example."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from neftune_cli.config.choices import IGNORED_LABEL, NoiseScale, NoiseTarget
from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.lengths import token_half_widths

_MISSING_LABELS = Problem(
    "The model was called without labels of the shape of input_ids. The labels separate the prompt from the "
    "completion.",
    "Use the noise target 'all', or a trainer that passes labels to the model.",
)


@dataclass(frozen=True)
class Batch:
    """The arguments of a forward that delimit its examples."""

    input_ids: Tensor | None  # (batch, length)
    attention_mask: Tensor | None
    position_ids: Tensor | None
    cu_seq_lens: Tensor | None
    labels: Tensor | None
    already_embedded: bool

    @classmethod
    def of_call(cls, arguments: dict[str, Any]) -> Self:
        """Read the arguments of a call by their names in transformers."""
        return cls(
            input_ids=arguments.get("input_ids"),
            attention_mask=arguments.get("attention_mask"),
            position_ids=_text_positions(arguments.get("position_ids")),
            cu_seq_lens=arguments.get("cu_seq_lens_q"),
            labels=arguments.get("labels"),
            already_embedded=any(arguments.get(name) is not None for name in ("inputs_embeds", "encoder_outputs")),
        )

    def has_ids_like(self, args: tuple[Any, ...]) -> bool:
        """Return whether an embedding call with these arguments looks up the input ids and not the decoder's ids."""
        return bool(args) and self.input_ids is not None and args[0].shape == self.input_ids.shape

    def half_widths(
        self,
        embeddings: Tensor,  # (batch, length, dim)
        alpha: float,
        *,
        noise_scale: NoiseScale = "paper",
        target: NoiseTarget = "all",
        placeholders: tuple[int, ...] = (),
        padded_length: int | None = None,
    ) -> Tensor:
        """Return the half-width of each token's noise: (batch, length), float32.

        Args:
            embeddings: output of the embedding.
            alpha: noise size.
            noise_scale: choice of the length in the formula.
            target: the tokens that get noise.
            placeholders: ids of images and audio, which get no noise.
            padded_length: length of the rows of the whole batch, of which this may be a part, for the noise scale
                `hf`; None is the length of these rows.

        Raises:
            UsageError: the arguments do not determine the example lengths, or the target needs labels and there are
                none.
        """
        batch, length, dim = embeddings.shape
        half_widths = token_half_widths(
            alpha,
            dim,
            attention_mask=self.attention_mask,
            position_ids=self.position_ids,
            cu_seq_lens=self.cu_seq_lens,
            placeholders=self._placeholders(placeholders),
            shape=(batch, padded_length if padded_length and noise_scale == "hf" else length),
            noise_scale=noise_scale,
        )
        half_widths = half_widths[:, :length].to(embeddings.device)
        return half_widths if target == "all" else half_widths * self._targeted(target).to(half_widths.device)

    def real_tokens(
        self,
        embeddings: Tensor,  # (batch, length, dim)
        noise_scale: NoiseScale,
        placeholders: tuple[int, ...],
    ) -> Tensor:
        """Return the mask of text tokens, without padding and placeholders: (batch, length), bool.

        With the noise scale `hf` and a mask that cannot be read, all tokens count: the padded length sets that scale.

        Raises:
            UsageError: the noise scale depends on the padding, and the arguments do not determine it.
        """
        readable = isinstance(self.attention_mask, Tensor) and self.attention_mask.ndim == 2
        if noise_scale == "hf" and self.attention_mask is not None and not readable:
            return torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        return self.half_widths(embeddings, 1.0, placeholders=placeholders) > 0

    def _placeholders(self, ids: tuple[int, ...]) -> Tensor | None:
        if not ids or self.input_ids is None:
            return None
        found = self.input_ids == ids[0]
        for other in ids[1:]:
            found = found | (self.input_ids == other)
        return found

    def _targeted(self, target: NoiseTarget) -> Tensor:
        """Return the mask of the tokens that the target selects: (batch, length), bool."""
        if self.labels is None or self.input_ids is None or self.labels.shape != self.input_ids.shape:
            raise UsageError(_MISSING_LABELS)
        in_loss = self.labels != IGNORED_LABEL
        return in_loss if target == "completion" else ~in_loss


def _text_positions(position_ids: Any) -> Any:
    """Return the positions that restart with every example: (batch, length), or None if there are none.

    Qwen's vision models pass one set of positions per axis, (3, batch, length), which do not increase within an image.
    In the form (4, batch, length), the text positions come first.
    """
    if not isinstance(position_ids, Tensor) or position_ids.ndim < 3:
        return position_ids
    return position_ids[0] if position_ids.shape[0] == 4 else None
