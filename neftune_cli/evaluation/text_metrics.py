"""Text metrics: similarity of responses to references, and repetition within responses, as functions of strings."""

import math
import re
import unicodedata
from collections.abc import Sequence
from statistics import median_high

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

PAPER_CHUNK_WORDS = 50
"""Chunk length of the NEFTune paper for models trained on Alpaca, the shortest it uses (section 5.2)."""
SHORTEST_CHUNK_WORDS = 10
"""Shortest chunk length. In shorter chunks, repeated 2-grams are too rare to measure."""
LARGEST_LOG_DIVERSITY = 20.0
"""Log-diversity of texts without repetition, for which the formula is infinite (value of Kirchenbauer et al.)."""


def exact_match(response: str, reference: str) -> bool:
    """Return whether both are equal, ignoring case and white space but not punctuation or word order.

    Both are compared in Unicode's normal form C: the tokenizers of some models write no other form.
    """
    return _normalized(response) == _normalized(reference)


def rouge_l(response: str, reference: str) -> float:
    """Return the ROUGE-L F-measure, 0 to 1: word-level longest common subsequence (Lin, 2004), without stemming.

    Words are lower-case sequences of letters and digits of any script. For ASCII texts this equals the tokenization of
    the rouge-score package, which drops all non-ASCII letters.
    """
    return float(_ROUGE.score(target=reference, prediction=response)["rougeL"].fmeasure)


def corpus_bleu(responses: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus BLEU up to 4-grams, 0 to 100, with sacrebleu's default tokenization and smoothing."""
    # force: suppress the warning about responses that look tokenized, such as "42 ."
    return float(BLEU(force=True).corpus_score([*map(_composed, responses)], [[*map(_composed, references)]]).score)


def chunk_length(references: Sequence[str]) -> int:
    """Return the chunk length in words for measuring repetition in responses to prompts with these references.

    The paper chooses lengths "so that at least half of the generations were longer than the cutoff" (section 5.2).
    This function uses the references instead, because they are the same for every arm: it returns the largest length
    that at least half of the references reach, between SHORTEST_CHUNK_WORDS and PAPER_CHUNK_WORDS. If most references
    are shorter than SHORTEST_CHUNK_WORDS, repetition is measured on the longer responses only.
    """
    typical = median_high(len(reference.split()) for reference in references)
    return min(PAPER_CHUNK_WORDS, max(SHORTEST_CHUNK_WORDS, typical))


def repetition_2gram(texts: Sequence[str], chunk_words: int = PAPER_CHUNK_WORDS) -> float | None:
    """Return the percentage of repeated 2-grams, 100 * (1 - unique / total); None if all texts are too short.

    As in the NEFTune paper (arXiv 2310.05914, section 5.2), only the first `chunk_words` white-space-separated words
    of each text are used, and shorter texts are skipped, because 2-grams recur more often in longer passages. A 2-gram
    is repeated if it occurs twice in the same text. Unique and total 2-grams are summed over the texts.
    """
    chunks = _chunks(texts, chunk_words)
    return 100 * (1 - _unique_share(chunks, 2)) if chunks else None


def log_diversity(texts: Sequence[str], chunk_words: int = PAPER_CHUNK_WORDS) -> float | None:
    """Return -log(1 - diversity), with diversity the product of unique / total n-grams for n = 2, 3, 4.

    Higher is more diverse; the largest value is LARGEST_LOG_DIVERSITY. The result is None if all texts are too short.
    Chunks are those of `repetition_2gram`, with 4 words or more. The product of shares with counts summed over texts is
    from Li et al. (arXiv 2210.15097), the logarithm from Kirchenbauer et al. (arXiv 2306.04634); the NEFTune paper
    (section 5.2) cites both. The paper's values (8.4 to 16.4, table 4) are on the scale of Kirchenbauer et al.'s code,
    which averages the logarithm over texts and divides repetition rates between 0 and 1 by 100.
    """
    chunks = _chunks(texts, chunk_words)
    if not chunks:
        return None
    diversity = math.prod(_unique_share(chunks, n) for n in (2, 3, 4))
    return math.log(1 / max(1 - diversity, math.exp(-LARGEST_LOG_DIVERSITY)))


def repetition_in_chunks(responses: Sequence[str], references: Sequence[str]) -> float | None:
    """Return `repetition_2gram` of the responses, with the `chunk_length` of the references."""
    return repetition_2gram(responses, chunk_length(references))


def log_diversity_in_chunks(responses: Sequence[str], references: Sequence[str]) -> float | None:
    """Return `log_diversity` of the responses, with the `chunk_length` of the references."""
    return log_diversity(responses, chunk_length(references))


def _normalized(text: str) -> str:
    return " ".join(_composed(text).casefold().split())


def _composed(text: str) -> str:
    """Return a text in Unicode's normal form C, to which tokenizers such as Qwen's convert every text."""
    return unicodedata.normalize("NFC", text)


class _WordTokenizer:
    """Tokenizer for rouge-score: lower-case sequences of letters and digits of any script."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", _composed(text).lower())


_ROUGE = RougeScorer(["rougeL"], tokenizer=_WordTokenizer())


def _chunks(texts: Sequence[str], chunk_words: int) -> list[list[str]]:
    """Return the first `chunk_words` words of every text with at least this many words: (chunks, words)."""
    words_of_texts = (text.split() for text in texts)
    return [words[:chunk_words] for words in words_of_texts if len(words) >= chunk_words]


def _unique_share(chunks: Sequence[Sequence[str]], n: int) -> float:
    """Return the number of unique n-grams divided by the number of all n-grams, both summed over chunks."""
    ngrams = [list(zip(*(chunk[start:] for start in range(n)), strict=False)) for chunk in chunks]
    return sum(len(set(of_chunk)) for of_chunk in ngrams) / sum(len(of_chunk) for of_chunk in ngrams)
