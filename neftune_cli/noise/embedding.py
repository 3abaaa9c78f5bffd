"""NEFTune as a module: an embedding that adds noise to its output in training mode."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from neftune_cli.config.values import check_alpha, check_seed
from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.conflicts import mark_noise_source, require_no_noise
from neftune_cli.noise.draws import NoiseStream
from neftune_cli.noise.lengths import token_half_widths


@mark_noise_source
class NEFTuneEmbedding(nn.Module):
    """An embedding with NEFTune noise in training mode and no noise in evaluation mode.

    It wraps an embedding and shares its weight, so gradients and tied heads reach the same parameter. Its state dict
    has the keys of the wrapped module, so a checkpoint fits the model with and without the wrapper.

    A Hugging Face model calls its embedding without a mask. The whole row then counts as one example. `attach_noise`
    reads the mask of the model's call and is correct for padded and packed rows.

    Source: algorithm 1 of arXiv 2310.05914.

    Args:
        embedding: the embedding to wrap.
        alpha: noise size, 0 to 1e6.
        seed: determines the draws.
        noise: name of the distribution of one coordinate.

    Raises:
        UsageError: `embedding` is not an embedding or already has noise, alpha is not a number from 0 to 1e6, `seed` is
            not a whole number from 0 to 2**32 - 1, or `noise` is unknown.
    """

    embedding: nn.Embedding

    def __init__(self, embedding: nn.Embedding, alpha: float = 5.0, *, seed: int = 0, noise: str = "uniform") -> None:
        super().__init__()
        if not isinstance(embedding, nn.Module) or not hasattr(embedding, "embedding_dim"):
            what = f"NEFTuneEmbedding wraps an embedding; {type(embedding).__name__} was given."
            raise UsageError(Problem(what, "Pass an nn.Embedding, for example model.get_input_embeddings()."))
        require_no_noise(embedding)
        self.embedding = embedding
        self._stream = NoiseStream(noise, check_seed(seed))
        self.set_alpha(alpha)
        self.register_state_dict_post_hook(_remove_wrapper_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_wrapper_prefix)  # type: ignore[no-untyped-call]

    def set_alpha(self, alpha: float) -> None:
        """Set the noise size alpha; raises a UsageError if it is not a number from 0 to 1e6."""
        self.alpha = check_alpha(alpha)

    def forward(
        self,
        input_ids: Tensor,  # (batch, length) or (length,)
        attention_mask: Tensor | None = None,  # same shape, nonzero at real tokens
    ) -> Tensor:
        """Return the embeddings, noisy in training mode: (batch, length, dim) or (length, dim).

        Raises:
            UsageError: the mask and the ids have different shapes, or the noise would be drawn again in the backward
                pass.
        """
        embeddings: Tensor = self.embedding(input_ids)
        if not self.training or self.alpha == 0:
            return embeddings
        return embeddings + self._stream.draw_for(embeddings, self._half_widths(input_ids, attention_mask))

    def _half_widths(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            what = f"attention_mask has the shape {tuple(attention_mask.shape)}."
            raise UsageError(Problem(what, f"Pass the shape of the token ids: {tuple(input_ids.shape)}."))
        # (rows, length); a single id without dimensions is a row of length 1
        shape = math.prod(input_ids.shape[:-1]), math.prod(input_ids.shape[-1:])
        mask = None if attention_mask is None else attention_mask.reshape(shape)
        half_widths = token_half_widths(self.alpha, self.embedding_dim, attention_mask=mask, shape=shape)
        return half_widths.to(self.weight.device).view(input_ids.shape)

    @property
    def weight(self) -> Tensor:
        """Return the parameter of the wrapped embedding: (vocabulary, dim)."""
        return self.embedding.weight

    @property
    def num_embeddings(self) -> int:
        """Return the vocabulary size."""
        return self.embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Return the width of an embedding."""
        return self.embedding.embedding_dim

    @property
    def padding_idx(self) -> int | None:
        """Return the id whose embedding gets no gradient, or None."""
        return self.embedding.padding_idx

    def extra_repr(self) -> str:
        """Return the text that `print(model)` shows after the class name."""
        return f"alpha={self.alpha:g}, noise={self._stream.distribution}, seed={self._stream.seed}"


def _remove_wrapper_prefix(_: nn.Module, state: dict[str, Any], prefix: str, __: Mapping[str, Any]) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}embedding.")]:
        state[prefix + key.removeprefix(f"{prefix}embedding.")] = state.pop(key)


def _add_wrapper_prefix(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}embedding.{key.removeprefix(prefix)}"] = state.pop(key)
