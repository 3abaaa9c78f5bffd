"""From the files of one finished trial to what is judged of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from neftune_cli.evidence.measurements import Floats, ItemValues, Measurements
from neftune_cli.evidence.metrics import METRICS
from neftune_cli.records import EVAL_METRICS, HELD_OUT, LOSS_METRICS, PROBE, Generation, TrialRecord, perplexity
from neftune_cli.store import TrialFolder

if TYPE_CHECKING:
    from pyarrow import Table

PROBE_PREFIX = "probe_"
"""Before the keys of metrics of answers to training prompts."""

_SCORES: Mapping[str, Callable[[Generation], float]] = {
    "exact_match": lambda answer: float(answer.exact_match),
    "rouge_l": lambda answer: answer.rouge_l,
    "response_chars": lambda answer: float(len(answer.response)),
    "truncated": lambda answer: float(answer.truncated),
    "reference_chars": lambda answer: float(len(answer.reference)),
}
"""Scores that an answer has for itself; others, like BLEU, are those of a whole set of answers."""


def read_trial(folder: TrialFolder, record: TrialRecord) -> Measurements:
    """Return what a finished trial measured.

    Raises:
        UsageError: a file beside the record is damaged.
    """
    losses = _by_split_and_epoch(folder.example_losses())
    held_out = {epoch: values for (split, epoch), values in losses.items() if split == HELD_OUT}
    return Measurements(
        trial=record.trial,
        arm=record.arm,
        alpha=record.alpha,
        seed=record.seed,
        scores=scores_of(record),
        items=dict([*_loss_items(losses), *_answer_items(folder.generations())]),
        held_out_by_epoch=held_out,
        curve=tuple(folder.curve()),
        noise_ratio=record.noise.ratio if record.noise else None,
        attestation=record.attestation,
        notes=record.notes,
    )


def scores_of(record: TrialRecord) -> dict[str, float | None]:
    """Return every metric of a record by its key, None where it isn't defined."""
    losses = {key: getattr(record.loss, key) for key in LOSS_METRICS}
    answers = {key: getattr(record.eval, key) for key in EVAL_METRICS}
    probe = {
        f"{PROBE_PREFIX}{key}": getattr(record.probe_eval, key) if record.probe_eval else None for key in EVAL_METRICS
    }
    scores = losses | answers | probe
    return {key: scores[key] for key in METRICS}


_LossesByEpoch = dict[tuple[str, int], ItemValues]
"""(split, epoch) to losses."""


def _by_split_and_epoch(table: "Table | None") -> _LossesByEpoch:
    if table is None:
        return {}
    columns = {name: table.column(name).to_pylist() for name in ("split", "epoch", "example", "cluster")}
    # pyarrow's own way to numpy imports pandas
    losses, tokens = (np.array(table.column(name).to_pylist(), dtype=np.float64) for name in ("loss", "tokens"))
    found: _LossesByEpoch = {}
    start = 0
    for key, rows in groupby(zip(columns["split"], columns["epoch"], strict=True)):
        part = slice(start, start := start + sum(1 for _ in rows))
        items, clusters = tuple(columns["example"][part]), tuple(columns["cluster"][part])
        found[key] = ItemValues(items, clusters, losses[part], tokens[part])
    return found


def _loss_items(losses: _LossesByEpoch) -> Iterator[tuple[str, ItemValues]]:
    last = max((epoch for _, epoch in losses), default=0)
    if values := losses.get((PROBE, last)):
        yield "train_loss_clean", values
    if values := losses.get((HELD_OUT, last)):
        yield "eval_loss", values
        yield "eval_perplexity", _perplexities(values)


def _perplexities(losses: ItemValues) -> ItemValues:
    """Return values with the perplexity as their mean: exp is replaced by its tangent at the trial's mean loss."""
    mean = float(np.average(losses.values, weights=losses.weights))
    return ItemValues(losses.items, losses.clusters, perplexity(mean) * (1 + losses.values - mean), losses.weights)


def _answer_items(generations: Sequence[Generation]) -> Iterator[tuple[str, ItemValues]]:
    for split, prefix in ((HELD_OUT, ""), (PROBE, PROBE_PREFIX)):
        answers = [answer for answer in generations if answer.split == split]
        items, clusters = tuple(one.example for one in answers), tuple(one.cluster for one in answers)
        for key in _SCORES if answers else ():
            yield prefix + key, ItemValues(items, clusters, _values(_SCORES[key], answers), np.ones(len(answers)))


def _values(score: Callable[[Generation], float], answers: Sequence[Generation]) -> Floats:
    return np.array([score(answer) for answer in answers], dtype=np.float64)
