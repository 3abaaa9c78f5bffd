"""Measurements of one finished trial of a sweep, read from its files."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from neftune_cli.evidence.measurements import REFERENCE_LENGTH, ItemValues, Measurements
from neftune_cli.metrics import (
    HELD_OUT_LOSS,
    HELD_OUT_PERPLEXITY,
    NOISE_OFF_TRAINING_LOSS,
    PROBE_PREFIX,
    response_metrics,
)
from neftune_cli.records import (
    HELD_OUT_SPLIT,
    PROBE_SPLIT,
    Generation,
    TrialRecord,
    TrialStatus,
    perplexity,
    scores_of,
)
from neftune_cli.store import TrialFolder

if TYPE_CHECKING:
    from pyarrow import Table


def read_trial(folder: TrialFolder, record: TrialRecord) -> Measurements:
    """Return the measurements of a finished trial.

    Raises:
        UsageError: a file of the trial is damaged.

    """
    losses = _by_split_and_epoch(folder.example_losses())
    held_out = {epoch: values for (split, epoch), values in losses.items() if split == HELD_OUT_SPLIT}
    return Measurements(
        trial_id=record.trial,
        arm=record.arm,
        alpha=record.alpha,
        seed=record.seed,
        scores=scores_of(record),
        items=dict([*_loss_items(losses), *_response_items(folder.generations())]),
        held_out_by_epoch=held_out,
        curve=tuple(folder.curve()),
        noise_ratio=record.noise.ratio if record.noise else None,
        attestation=record.attestation,
        notes=record.notes,
        seconds=_seconds_of_sweep(folder.status()),
    )


def _seconds_of_sweep(status: TrialStatus | None) -> float | None:
    """Return the time that a trial added to its sweep, if as many trials as could run in parallel did so."""
    if status is None or status.seconds is None:
        return None
    return status.seconds / max(1, status.side_by_side or 1)


_LossesByEpoch = dict[tuple[str, int], ItemValues]
"""(split, epoch) to losses."""


def _by_split_and_epoch(table: "Table | None") -> _LossesByEpoch:
    if table is None:
        return {}
    columns = {name: table.column(name).to_pylist() for name in ("split", "epoch", "example", "cluster")}
    # pyarrow's conversion to numpy imports pandas
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
    if values := losses.get((PROBE_SPLIT, last)):
        yield NOISE_OFF_TRAINING_LOSS, values
    if values := losses.get((HELD_OUT_SPLIT, last)):
        yield HELD_OUT_LOSS, values
        yield HELD_OUT_PERPLEXITY, _perplexities(values)


def _perplexities(losses: ItemValues) -> ItemValues:
    """Return values whose mean is the perplexity, with exp linearized at the trial's mean loss."""
    mean = float(np.average(losses.values, weights=losses.weights))
    return ItemValues(losses.items, losses.clusters, perplexity(mean) * (1 + losses.values - mean), losses.weights)


def _response_items(generations: Sequence[Generation]) -> Iterator[tuple[str, ItemValues]]:
    for split, prefix in ((HELD_OUT_SPLIT, ""), (PROBE_SPLIT, PROBE_PREFIX)):
        responses = [response for response in generations if response.split == split]
        items, clusters = tuple(one.example for one in responses), tuple(one.cluster for one in responses)
        for key, scores in _scores_by_item(responses).items():
            yield prefix + key, ItemValues(items, clusters, np.array(scores, dtype=np.float64), np.ones(len(responses)))


def _scores_by_item(responses: Sequence[Generation]) -> dict[str, list[float]]:
    """Return per-item metric to the score of each response; also REFERENCE_LENGTH, the length of each reference.

    Metrics without a score for every response are left out: the trial ran before they were registered.
    """
    if not responses:
        return {}
    scores = {
        metric.key: [getattr(response, metric.key) for response in responses]
        if metric.stored
        else [metric.scoring_function()(one.response, one.reference) for one in responses]
        for metric in response_metrics()
        if metric.per_item and (not metric.stored or all(hasattr(response, metric.key) for response in responses))
    }
    return {**scores, REFERENCE_LENGTH: [len(response.reference) for response in responses]}
