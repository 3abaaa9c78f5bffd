"""The method as a module: an embedding that adds noise to what it looks up while it trains."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from neftune_cli.noise.draws import Noise, NoiseStream
from neftune_cli.noise.lengths import check_alpha, token_noise_scale


class NEFTuneEmbedding(nn.Module):
    """An embedding with NEFTune noise in training mode and none in evaluation mode.

    It wraps the embedding and shares its weight: gradients and tied heads reach the same parameter. A state dict has
    the keys of the wrapped module, so that a checkpoint fits the model with and without the wrapper.

    A Hugging Face model calls its embedding without a mask, and then a whole row counts as one example; `attach_noise`
    sees the mask of the whole model and is right for padded and packed rows.

    Source: algorithm 1 of arXiv 2310.05914.

    Raises:
        UsageError: alpha is negative or not finite, or `noise` is unknown.

    """

    embedding: nn.Embedding

    def __init__(self, embedding: nn.Embedding, alpha: float = 5.0, *, seed: int = 0, noise: Noise = "uniform") -> None:
        super().__init__()
        self.embedding = embedding
        self._stream = NoiseStream(noise, seed)
        self.set_alpha(alpha)
        self.register_state_dict_post_hook(_hide_wrapper)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_restore_wrapper)  # type: ignore[no-untyped-call]

    def set_alpha(self, alpha: float) -> None:
        """Use this noise magnitude from now on; raises a UsageError if it is negative or not finite."""
        self.alpha = check_alpha(alpha)

    def forward(
        self,
        input_ids: Tensor,  # (batch, length) or (length,)
        attention_mask: Tensor | None = None,  # same shape, nonzero at real tokens
    ) -> Tensor:
        """Return the embeddings, noisy in training mode: (batch, length, dim) or (length, dim).

        Raises:
            UsageError: the mask has another shape than the ids.

        """
        embeddings: Tensor = self.embedding(input_ids)
        if not self.training or self.alpha == 0:
            return embeddings
        scale = self._scale(input_ids, attention_mask)
        return embeddings + self._stream.draw_for(embeddings, scale)

    def _scale(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        rows = math.prod(input_ids.shape[:-1]), input_ids.shape[-1]
        mask = attention_mask if input_ids.ndim == 2 or attention_mask is None else attention_mask.view(rows)
        scale = token_noise_scale(self.alpha, self.embedding_dim, attention_mask=mask, shape=rows)
        return scale.to(self.weight.device).view(input_ids.shape)

    @property
    def weight(self) -> Tensor:
        """The wrapped embedding's own parameter: (vocabulary, dim)."""
        return self.embedding.weight

    @property
    def num_embeddings(self) -> int:
        """How many rows the weight has."""
        return self.embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """How wide an embedding is."""
        return self.embedding.embedding_dim

    @property
    def padding_idx(self) -> int | None:
        """The id whose embedding gets no gradient, if any."""
        return self.embedding.padding_idx

    def extra_repr(self) -> str:
        """Return what `print(model)` shows beside the class name."""
        return f"alpha={self.alpha:g}, noise={self._stream.noise}, seed={self._stream.seed}"


def _hide_wrapper(_: nn.Module, state: dict[str, Any], prefix: str, __: Mapping[str, Any]) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}embedding.")]:
        state[prefix + key.removeprefix(f"{prefix}embedding.")] = state.pop(key)


def _restore_wrapper(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}embedding.{key.removeprefix(prefix)}"] = state.pop(key)
