"""What a text is worth: closeness to a reference, and repetition within it; pure functions of strings."""

import math
import re
from collections.abc import Sequence
from statistics import median_high

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

PAPER_CHUNK_WORDS = 50
"""Chunk length of the NEFTune paper for models trained on Alpaca, the shortest it uses (section 5.2)."""
SHORTEST_CHUNK_WORDS = 10
"""Below this nearly no 2-gram has the room to come twice, and a chunk measures nothing."""
LARGEST_LOG_DIVERSITY = 20.0
"""Log-diversity of texts without any repetition, where the formula gives infinity (Kirchenbauer et al.'s value)."""


def exact_match(response: str, reference: str) -> bool:
    """Return whether both are equal but for case and white space; punctuation and word order count."""
    return _folded(response) == _folded(reference)


def rouge_l(response: str, reference: str) -> float:
    """Return the ROUGE-L F-measure, 0 to 1: word-level longest common subsequence (Lin, 2004), no stemming.

    Words are lower-cased runs of letters and digits of any script. On ASCII that is the rouge-score package's own
    tokenization, which would drop every other letter.
    """
    return float(_ROUGE.score(target=reference, prediction=response)["rougeL"].fmeasure)


def corpus_bleu(responses: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus BLEU up to 4-grams, 0 to 100, with sacrebleu's default tokenization and smoothing."""
    # force: no warning about answers that look tokenized, such as "42 ."
    return float(BLEU(force=True).corpus_score(list(responses), [list(references)]).score)


def chunk_length(references: Sequence[str]) -> int:
    """Return the chunk length, in words, at which to measure the repetition in answers to these references.

    The paper chooses lengths "so that at least half of the generations were longer than the cutoff" (section 5.2).
    Here the references decide, because they are the same for every arm and the generations aren't: it is the largest
    length up to PAPER_CHUNK_WORDS that at least half of them reach, and never less than SHORTEST_CHUNK_WORDS. So data
    with answers of a few words is measured on the longer ones among its answers.
    """
    typical = median_high(len(reference.split()) for reference in references)
    return min(PAPER_CHUNK_WORDS, max(SHORTEST_CHUNK_WORDS, typical))


def repetition_2gram(texts: Sequence[str], chunk_words: int = PAPER_CHUNK_WORDS) -> float | None:
    """Return the share of repeated 2-grams, 0 to 100: 100 * (1 - unique / total), None without a long enough text.

    As in the NEFTune paper (arXiv 2310.05914, section 5.2): only the first `chunk_words` white-space-separated words
    of each text count, and shorter texts are left out, because 2-grams recur more often in longer passages. A 2-gram
    repeats if it comes twice in one text; unique and total are summed over the texts.
    """
    chunks = _chunks(texts, chunk_words)
    return 100 * (1 - _unique_share(chunks, 2)) if chunks else None


def log_diversity(texts: Sequence[str], chunk_words: int = PAPER_CHUNK_WORDS) -> float | None:
    """Return -log(1 - diversity), with diversity the product of unique / total n-grams for n = 2, 3, 4.

    Higher is more diverse, LARGEST_LOG_DIVERSITY at most; None without a long enough text. Chunks are those of
    `repetition_2gram`, of 4 words or more. The product over shares summed over texts is Li et al.'s (arXiv 2210.15097),
    the logarithm Kirchenbauer et al.'s (arXiv 2306.04634); the NEFTune paper (section 5.2) cites both. Its numbers (8.4
    to 16.4, table 4) are on another scale, that of Kirchenbauer et al.'s code: it averages the logarithm over texts,
    and divides repetition rates that are shares already by 100.
    """
    chunks = _chunks(texts, chunk_words)
    if not chunks:
        return None
    diversity = math.prod(_unique_share(chunks, n) for n in (2, 3, 4))
    return math.log(1 / max(1 - diversity, math.exp(-LARGEST_LOG_DIVERSITY)))


def repetition_in_chunks(responses: Sequence[str], references: Sequence[str]) -> float | None:
    """Return `repetition_2gram` of the responses, in chunks whose length the references determine."""
    return repetition_2gram(responses, chunk_length(references))


def log_diversity_in_chunks(responses: Sequence[str], references: Sequence[str]) -> float | None:
    """Return `log_diversity` of the responses, in chunks whose length the references determine."""
    return log_diversity(responses, chunk_length(references))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


class _Words:
    """The tokenizer that rouge-score asks for: lower-cased runs of letters and digits of any script."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


_ROUGE = RougeScorer(["rougeL"], tokenizer=_Words())


def _chunks(texts: Sequence[str], chunk_words: int) -> list[list[str]]:
    """Return the first `chunk_words` words of every text that has so many: (chunks, words)."""
    words = (text.split() for text in texts)
    return [some[:chunk_words] for some in words if len(some) >= chunk_words]


def _unique_share(chunks: Sequence[Sequence[str]], n: int) -> float:
    """Return unique / total n-grams, both summed over chunks."""
    ngrams = [list(zip(*(chunk[start:] for start in range(n)), strict=False)) for chunk in chunks]
    return sum(len(set(of_chunk)) for of_chunk in ngrams) / sum(len(of_chunk) for of_chunk in ngrams)
