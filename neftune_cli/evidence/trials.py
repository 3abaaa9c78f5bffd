"""Finished trials of sweeps, read from their files: the measurements of a trial, and its responses."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from neftune_cli.config.arm_names import trial_key
from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.folders import trial_folders
from neftune_cli.evidence.measurements import (
    MOST_NAMES,
    REFERENCE_LENGTH,
    Evidence,
    ItemValues,
    Measurements,
    RespondedItems,
)
from neftune_cli.formatting import listed_at_most
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
from neftune_cli.store import SweepFolder, TrialFolder

if TYPE_CHECKING:
    from pyarrow import Table


def read_trial(folder: TrialFolder, record: TrialRecord) -> Measurements:
    """Return the measurements of a finished trial.

    Raises:
        UsageError: a file of the trial is damaged.
    """
    losses = _by_split_and_epoch(folder.example_losses())
    generations = folder.generations()
    held_out = {epoch: values for (split, epoch), values in losses.items() if split == HELD_OUT_SPLIT}
    return Measurements(
        trial_id=record.trial,
        arm=record.arm,
        alpha=record.alpha,
        seed=record.seed,
        scores=scores_of(record),
        items=dict([*_loss_items(losses), *_response_items(generations)]),
        held_out_by_epoch=held_out,
        responses=_responded(held_out_responses(generations)),
        curve=tuple(folder.curve()),
        noise_ratio=record.noise.ratio if record.noise else None,
        attestation=record.attestation,
        notes=record.notes,
        seconds=_seconds_of_sweep(folder.status()),
    )


def _responded(responses: Sequence[Generation]) -> RespondedItems | None:
    found = RespondedItems(tuple(one.example for one in responses), tuple(one.cluster for one in responses))
    return found if responses else None


def _seconds_of_sweep(status: TrialStatus | None) -> float | None:
    """Return the time that a trial added to its sweep, if as many trials as could run in parallel did so."""
    if status is None or status.seconds is None:
        return None
    return status.seconds / max(1, status.side_by_side or 1)


@dataclass(frozen=True)
class TrialResponses:
    """Responses of one trial to the held-out prompts."""

    trial_id: str
    arm: str
    seed: int | None
    """None for the base model only."""
    responses: tuple[Generation, ...]

    @property
    def name(self) -> str:
        """Return the name of the trial, which AlpacaEval calls the generator."""
        return trial_key(self.arm, self.seed)


def held_out_responses(responses: Sequence[Generation]) -> tuple[Generation, ...]:
    """Return the responses to held-out prompts."""
    return tuple(one for one in responses if one.split == HELD_OUT_SPLIT)


def stored_responses(evidence: Evidence) -> list[TrialResponses]:
    """Return the responses of every trial of a sweep, in the order of the evidence."""
    folders = trial_folders(evidence)
    return [
        TrialResponses(one.trial_id, one.arm, one.seed, held_out_responses(folders[one.trial_id].generations()))
        for one in evidence.trials
    ]


def finished_responses(folder: SweepFolder) -> Iterator[TrialResponses]:
    """Yield the responses of every finished trial of a sweep, except of damaged trials, which are not compared."""
    for trial, record in folder.finished():
        with suppress(UsageError):
            yield TrialResponses(record.trial, record.arm, record.seed, held_out_responses(trial.generations()))


def only_sweep(evidence: Sequence[Evidence], option: str) -> Evidence:
    """Return the evidence that an option on the responses of one sweep is about.

    Raises:
        UsageError: there is no sweep with responses, or there are several.
    """
    sweeps = [one for one in evidence if one.origin.is_sweep and one.trials]
    if len(sweeps) == 1:
        return sweeps[0]
    found = listed_at_most([one.name for one in sweeps], MOST_NAMES) if sweeps else "none"
    what = f"{option} is about the responses of one sweep. Sweeps with finished trials: {found}."
    raise UsageError(Problem(what, "Give one results folder."))


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
    with np.errstate(over="ignore", invalid="ignore"):  # of a diverged trial, which is compared as not finite
        values = perplexity(mean) * (1 + losses.values - mean)
    return ItemValues(losses.items, losses.clusters, values, losses.weights)


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
