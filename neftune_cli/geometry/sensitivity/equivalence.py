"""What the paper's alphas amount to on another model: the same noise relative to the embeddings.

The same alpha is a different noise on another model: its norm, alpha / sqrt(3 L) at L tokens, doesn't know how long
the embeddings are. What is compared is that norm, at the median length, over the mean norm of the vocabulary's
embeddings: the only norm that is published for LLaMA-2-7B. Running text has other norms: there, frequent tokens have
shorter embeddings (the same report puts the one of " the" at 0.466), so its noise was larger to them than this says.
"""

from dataclasses import dataclass

from neftune_cli.noise.lengths import token_noise_norm

PAPER_ALPHAS = (5.0, 10.0, 15.0)
"""Those that the paper tries."""


@dataclass(frozen=True)
class EmbeddingScale:
    """What noise is compared with: the embedding's width isn't among it, as the noise norm doesn't depend on it."""

    embedding_norm: float
    """Mean L2 norm over the vocabulary."""
    length: float
    """Tokens in the median training example."""

    def noise_ratio(self, alpha: float) -> float:
        """Return noise norm over embedding norm at the median length."""
        return token_noise_norm(alpha, self.length) / self.embedding_norm

    def alpha_for(self, ratio: float) -> float:
        """Return the alpha whose noise has that ratio to the embeddings."""
        return ratio * self.embedding_norm / token_noise_norm(1.0, self.length)


LLAMA_2_7B = EmbeddingScale(embedding_norm=1.080, length=136)
"""The paper's model on Alpaca. An estimate, made of two published figures.

The norm: 1.080 +/- 0.109 over the 32,000 input embeddings of meta-llama/Llama-2-7b-hf
(github.com/cohere-ai/magikarp, results/reports/meta_llama_Llama_2_7b_hf.md).

The length: the median of a published histogram (github.com/tloen/alpaca-lora, lengths.ipynb), interpolated within its
bins. Of the 52,002 examples of Alpaca in the tokenizer of LLaMA, which LLaMA-2 kept, 42,516 have 60 to 184 tokens. All
are counted with the prompt for examples that have an input; the paper takes a shorter one for those that have none.
"""

SOURCES = (
    "LLaMA-2-7B, an estimate from published figures: mean input embedding norm 1.080 (cohere-ai/magikarp, "
    "results/reports/meta_llama_Llama_2_7b_hf.md); median Alpaca example 136 tokens, interpolated in a histogram of "
    "its lengths (tloen/alpaca-lora, lengths.ipynb)."
)
"""The same in one sentence for the user."""


def equivalent_alphas(scale: EmbeddingScale) -> dict[float, float]:
    """Return, for each of the paper's alphas, the alpha that is the same noise relative to these embeddings."""
    return {alpha: scale.alpha_for(LLAMA_2_7B.noise_ratio(alpha)) for alpha in PAPER_ALPHAS}
