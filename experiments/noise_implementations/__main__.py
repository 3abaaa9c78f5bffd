"""`python -m experiments.noise_implementations`: measure every row and print the table in Markdown."""

import importlib.metadata
from collections.abc import Iterator, Sequence

import transformers

from experiments.noise_implementations.failure import after_a_failure
from experiments.noise_implementations.finding import Finding
from experiments.noise_implementations.randomness import differences_between_arms, draws, resumes
from experiments.noise_implementations.search import searches
from experiments.noise_implementations.size import clean_forwards, noise_sizes, other_models


def main() -> None:
    """Measure and print the table; takes about 15 seconds on a CPU, without network."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(as_markdown(tuple(findings())))


def findings() -> Iterator[Finding]:
    """Measure and yield every row."""
    yield from noise_sizes()
    yield from other_models()
    yield from clean_forwards()
    yield from draws()
    yield from differences_between_arms()
    yield from resumes()
    yield from after_a_failure()
    yield from searches()


def as_markdown(rows: Sequence[Finding]) -> str:
    """Return the rows as a Markdown table with the versions in its header."""
    ours, upstream = (f"{name} {importlib.metadata.version(name)}" for name in ("neftune", "transformers"))
    head = ("measured", "expected", ours, upstream)
    lines = [head, ("---",) * 4, *((row.measured, row.expected, row.ours, row.upstream) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
