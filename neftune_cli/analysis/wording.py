"""Pieces that the verdict and the findings on claims are written from: counts, lists and sizes with their units."""

from collections.abc import Sequence

from neftune_cli.metrics import Metric

_UNITS = ("nats", "characters")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def amount(value: float, metric: Metric) -> str:
    """Return the absolute size of a value with its unit where it has one.

    >>> from neftune_cli.metrics import METRICS
    >>> amount(-0.0123, METRICS["eval_loss"]), amount(0.00001, METRICS["eval_loss"])
    ('0.0123 nats', 'less than 0.0001 nats')
    """
    size, smallest = abs(value), 10.0**-metric.decimals
    number = f"less than {metric.number(smallest)}" if 0 < size < smallest / 2 else metric.number(size)
    return number + unit_words(metric)


def unit_words(metric: Metric) -> str:
    """Return a metric's unit as it follows a number, like ` nats`; empty where it has none."""
    unit = metric.unit.split()[-1] if metric.unit else ""
    return f" {unit}" if unit in _UNITS else ""


def percent(share: float) -> str:
    """Return a share, like a confidence, as a percentage without digits that it doesn't have.

    >>> percent(0.95), percent(1 - 0.95), percent(0.999), percent(0.9999)
    ('95%', '5%', '99.9%', '99.99%')
    """
    return f"{100 * share:.6g}%"
