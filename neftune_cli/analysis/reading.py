"""A comparison in plain words, which say what the numbers are and claim nothing that no test has shown."""

import math
from collections.abc import Sequence

from neftune_cli.analysis.comparison import ArmSummary, Comparison, PairedDifference
from neftune_cli.analysis.metrics import METRICS, Metric

FEWEST_SEEDS = 3
"""With fewer paired seeds nothing is said about the method, only about the trained checkpoints."""

_READ_METRICS = ("eval_loss", "train_loss_clean")
"""The two losses that show the effect (NEFTune paper, figures 4 and 5); the tables have the rest."""


def reading(comparison: Comparison) -> str:
    """Return one short paragraph: how the arms differ from the baseline, over how many seeds, and what that allows."""
    if not comparison.treated:
        return f"{comparison.baseline} is the only arm that has finished: there is nothing to compare it with."
    sentences = [_metric_sentence(comparison, METRICS[key]) for key in _READ_METRICS]
    return " ".join([*sentences, _reach(comparison.treated)])


def noise_sentence(comparison: Comparison) -> str:
    """Return how large each arm's noise is beside the embeddings: the same alpha isn't the same noise everywhere."""
    shares = ", ".join(f"{_noise_share(arm)} ({arm.name})" for arm in comparison.arms)
    return f"Noise norm / embedding norm at the median length: {shares}."


def _metric_sentence(comparison: Comparison, metric: Metric) -> str:
    first, *others = comparison.treated
    clauses = [_clause(first, comparison.baseline, metric, in_full=True)]
    clauses += [_clause(arm, comparison.baseline, metric, in_full=False) for arm in others]
    return f"{metric.name}: {'; '.join(clauses)}."


def _clause(arm: ArmSummary, baseline: str, metric: Metric, *, in_full: bool) -> str:
    """Return what one arm shows; after a clause in full, the words that it has in common with others are left out."""
    difference = _difference(arm, metric.key)
    if difference is None:
        return f"{arm.name} shares no finished seed with {baseline}"
    if not math.isfinite(difference.mean):
        return f"{arm.name} or {baseline} has a value that is not finite"
    than = f" than {baseline}" if in_full else ""
    evidence = _evidence if in_full else _short_evidence
    return f"{arm.name} {_direction(difference, baseline, than, metric)} {evidence(difference, metric)}"


def _difference(arm: ArmSummary, key: str) -> PairedDifference | None:
    estimate = arm.estimates[key]
    return estimate.difference if estimate else None


def _direction(difference: PairedDifference, baseline: str, than: str, metric: Metric) -> str:
    if difference.mean == 0:
        return f"equals {baseline}"
    return f"is {_side(difference)}{than} by {_size(abs(difference.mean), metric)}"


def _evidence(difference: PairedDifference, metric: Metric) -> str:
    if difference.sd is None:
        return "with the one seed both have"
    count = f"{_side(difference)} in {_agreeing(difference)} of {difference.seeds}"
    spread = f"spread of the differences {_size(difference.sd, metric)}"
    return f"on average over {difference.seeds} paired seeds ({count}, {spread})"


def _short_evidence(difference: PairedDifference, metric: Metric) -> str:
    if difference.sd is None:
        return "(1 seed)"
    return f"({_agreeing(difference)} of {difference.seeds}, spread {_size(difference.sd, metric)})"


def _side(difference: PairedDifference) -> str:
    return "lower" if difference.mean < 0 else "higher"


def _agreeing(difference: PairedDifference) -> int:
    """Return in how many pairs the difference lies on the side of its mean."""
    return difference.lower if difference.mean < 0 else difference.higher


def _size(value: float, metric: Metric) -> str:
    smallest = 10.0**-metric.decimals
    return metric.number(value) if value >= smallest / 2 else f"less than {metric.number(smallest)}"


def _reach(arms: Sequence[ArmSummary]) -> str:
    """Return how far the numbers carry: at most to this model, data and recipe, and with few seeds not even there."""
    counts = {arm.name: _paired_seeds(arm) for arm in arms}
    few = {name: count for name, count in counts.items() if count < FEWEST_SEEDS}
    if not few:
        return "Spreads are over the seeds of this one model, data set and recipe; no test has been made."
    seeds = _counted(min(few.values())) if len(set(counts.values())) == 1 else _each_counted(few)
    return f"{seeds}: this describes these runs, not the method; sweep with --seeds 5 to learn about the method."


def _paired_seeds(arm: ArmSummary) -> int:
    difference = _difference(arm, _READ_METRICS[0])
    return difference.seeds if difference else 0


def _each_counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} with {_counted(count)}" for name, count in counts.items())


def _counted(seeds: int) -> str:
    return f"{seeds} paired seed{'' if seeds == 1 else 's'}"


def _noise_share(arm: ArmSummary) -> str:
    if arm.alpha == 0 or arm.noise_ratio == 0:
        return "0%"
    return "not measured" if arm.noise_ratio is None else f"{arm.noise_ratio:.1%}"
