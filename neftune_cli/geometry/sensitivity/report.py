"""The text, CSV and JSON forms of a sensitivity measurement."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.formatting import PLAIN_WIDTH, counted, listed
from neftune_cli.geometry.sensitivity.measurement import (
    LLAMA_2_7B,
    PAPER_ALPHAS,
    SOURCES,
    AlphaSensitivity,
    EmbeddingScale,
    Sensitivity,
    equivalent_alphas,
)

CSV_COLUMNS = (
    "alpha",
    "l2_change",
    "l2_change_closed_form",
    "cosine",
    "cosine_closed_form",
    "signal_to_noise",
    "signal_to_noise_closed_form",
    "norm_ratio",
    "neighbour_ratio",
    "nearest_token_changed",
    "kl_divergence",
)


def print_sensitivity(console: Console, sensitivity: Sensitivity) -> None:
    """Print both tables, the definitions of their columns, and the alphas equivalent to the paper's."""
    console.print(Text(title(sensitivity), style="bold underline"))
    for heading, table in (
        ("Distortion of the embeddings, measured and by formula", _distortion_table(sensitivity)),
        ("Effect on this model", _model_table(sensitivity)),
    ):
        console.print()
        console.print(Text(heading, style="bold"))
        console.print()
        console.print(table)
    console.print()
    for line in footnotes(sensitivity):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(Text(closing(sensitivity)))


def to_text(sensitivity: Sensitivity) -> str:
    """Return the text that `print_sensitivity` prints on a terminal of PLAIN_WIDTH columns, without colours."""
    text = io.StringIO()
    print_sensitivity(Console(file=text, width=PLAIN_WIDTH, color_system=None, force_terminal=False), sensitivity)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def to_csv(sensitivity: Sensitivity) -> str:
    """Return one row per alpha with `CSV_COLUMNS`, in full precision; without noise, signal to noise is `inf`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_values(row) for row in sensitivity.alphas)
    return text.getvalue()


def summary(sensitivity: Sensitivity) -> dict[str, Any]:
    """Return all measurements as JSON types; infinite values are None."""
    return {
        "model": sensitivity.model,
        "dataset": sensitivity.dataset,
        "noise": sensitivity.noise,
        "seed": sensitivity.seed,
        "examples": sensitivity.examples,
        "tokens": sensitivity.tokens,
        "median_length": sensitivity.scale.length,
        "median_embedding_norm": sensitivity.embedding_norm,
        "mean_vocabulary_norm": sensitivity.scale.mean_vocabulary_norm,
        "median_neighbour_distance": _finite(sensitivity.neighbour_distance),
        "neighbour_tokens": sensitivity.neighbour_tokens,
        "first_turning_alpha": _finite(sensitivity.first_turn),
        "half_turning_alpha": _finite(sensitivity.half_turn),
        "divergence_examples": sensitivity.divergence_examples,
        "divergence_tokens": sensitivity.divergence_tokens,
        "alphas": [{name: _finite(value) for name, value in _values(row).items()} for row in sensitivity.alphas],
        "same_ratio_as_llama_2_7b": [
            {"alpha_there": there, "alpha_here": here, "noise_ratio": LLAMA_2_7B.noise_ratio(there)}
            for there, here in equivalent_alphas(sensitivity.scale).items()
        ],
        "llama_2_7b": {
            "mean_vocabulary_norm": LLAMA_2_7B.mean_vocabulary_norm,
            "median_length": LLAMA_2_7B.length,
            "source": SOURCES,
        },
    }


def title(sensitivity: Sensitivity) -> str:
    """Return the title."""
    return f"Sensitivity of {sensitivity.model} to {sensitivity.noise} noise on {sensitivity.dataset}"


def footnotes(sensitivity: Sensitivity) -> Iterator[str]:
    """Yield the definitions of the columns and their sample."""
    yield (
        f"Measured on {counted(sensitivity.tokens, 'token')} of {counted(sensitivity.examples, 'training example')}, "
        f"median length {sensitivity.scale.length:g}; the same draw (seed {sensitivity.seed}) for every alpha."
    )
    yield (
        "L2 change: root mean square of the noise norm, alpha / sqrt(3 L). Cosine: mean, 1 / sqrt(1 + r^2) for a ratio "
        "r of noise norm to embedding norm. Signal to noise: median of embedding norm / noise norm."
    )
    yield (
        f"Embedding norm: median over these tokens, {sensitivity.embedding_norm:.3g}. Neighbor distance: median "
        f"distance to the nearest other token, {_distance(sensitivity)}."
    )
    yield (
        f"Nearest token changed: share of {counted(sensitivity.neighbour_tokens, 'token')} whose noisy embedding is "
        f"nearest to another token of the vocabulary. {_turns(sensitivity)}"
    )
    yield (
        "KL: D(noise-off || noisy) of the next-token distributions, mean over "
        f"{counted(sensitivity.divergence_tokens, 'token')} of {counted(sensitivity.divergence_examples, 'example')}."
    )
    yield SOURCES


def closing(sensitivity: Sensitivity) -> str:
    """Return the noise ratios of the paper's alphas on LLaMA-2-7B and here, and the alphas with equal ratios here."""
    model, paper = sensitivity.model, _rounded(PAPER_ALPHAS)
    return (
        "The same alpha can be weaker or stronger noise on another model. On LLaMA-2-7B, a model of the paper, the "
        f"norm of a token's noise at alpha {paper} is about {_percents(LLAMA_2_7B)} of the norm of an embedding. On "
        f"{model} with {sensitivity.dataset} it is {_percents(sensitivity.scale)}. Alpha "
        f"{_rounded(equivalent_alphas(sensitivity.scale).values())} give {model} the same percentages as LLaMA-2-7B.\n"
        "The percentages are estimates: the noise norm alpha / sqrt(3 L) in an example of median length L, divided by "
        f"the mean embedding norm of the vocabulary. LLaMA-2-7B: {_scale(LLAMA_2_7B)}. {model}: "
        f"{_scale(sensitivity.scale)}. Only this mean is published for LLaMA-2-7B, so it is used here instead of the "
        "median above."
    )


def two_digits(number: float) -> str:
    """Return a number with two significant digits, or rounded to an integer from 10 on."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _distortion_table(sensitivity: Sensitivity) -> Table:
    table = _table("alpha", "L2 change", "formula", "cosine", "formula", "signal to noise", "formula")
    for row in sensitivity.alphas:
        pairs = (row.measured, row.closed_form)
        table.add_row(
            f"{row.alpha:g}",
            *(f"{one.l2_change:.4f}" for one in pairs),
            *(f"{one.cosine:.5f}" for one in pairs),
            *(_ratio(one.signal_to_noise) for one in pairs),
        )
    return table


def _model_table(sensitivity: Sensitivity) -> Table:
    table = _table(
        "alpha", "L2 change /\nembedding norm", "L2 change /\nneighbor distance", "nearest token\nchanged", "KL\nnats"
    )
    for row in sensitivity.alphas:
        shares = (_percent(share) for share in (row.norm_ratio, row.neighbour_ratio, row.changed))
        table.add_row(f"{row.alpha:g}", *shares, f"{row.divergence:.4f}")
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _values(row: AlphaSensitivity) -> Mapping[str, float]:
    measured, formula = row.measured, row.closed_form
    values = (
        row.alpha,
        *(measured.l2_change, formula.l2_change),
        *(measured.cosine, formula.cosine),
        *(measured.signal_to_noise, formula.signal_to_noise),
        *(row.norm_ratio, row.neighbour_ratio, row.changed, row.divergence),
    )
    return dict(zip(CSV_COLUMNS, values, strict=True))


def _turns(sensitivity: Sensitivity) -> str:
    first, half = sensitivity.first_turn, sensitivity.half_turn
    if math.isinf(first):
        return "This happens at no alpha."
    at_half = "" if math.isinf(half) else f", and above alpha {half:.3g} for at least half of them"
    return f"Up to alpha {first:.3g} this happens for none of them{at_half}."


def _distance(sensitivity: Sensitivity) -> str:
    distance = sensitivity.neighbour_distance
    return _ratio(distance) if math.isinf(distance) else f"{distance:.3g}"


def _percents(scale: EmbeddingScale) -> str:
    return f"{_rounded(100 * scale.noise_ratio(alpha) for alpha in PAPER_ALPHAS)}%"


def _scale(scale: EmbeddingScale) -> str:
    return f"L = {scale.length:g} tokens, mean norm {scale.mean_vocabulary_norm:.3f}"


def _rounded(numbers: Iterable[float]) -> str:
    return listed([two_digits(number) for number in numbers])


def _ratio(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
