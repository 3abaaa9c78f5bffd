"""Writers of started, finished and failed trials in a results folder, for tests."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import TrialSpec
from neftune_cli.records import (
    CurvePoint,
    EvalMetrics,
    ExampleLoss,
    Generation,
    LossMetrics,
    TrialRecord,
    TrialState,
    TrialStatus,
)
from neftune_cli.store import LeasedTrial, SweepFolder, TrialFolder

EVAL = EvalMetrics(
    exact_match=0.5, rouge_l=0.5, bleu=None, response_chars=9.0, repetition_2gram=1.0, log_diversity=2.0, truncated=0.0
)


class NoSpec(BaseModel):
    """Placeholder for the spec of a trial."""


def trial_record(trial: str, arm: str, seed: int | None, eval_loss: float = 1.0, **changes: Any) -> TrialRecord:
    """Return the record of a finished trial with made-up metrics."""
    loss = LossMetrics(train_loss=None, train_loss_clean=1.0, eval_loss=eval_loss, eval_perplexity=2.0)
    record = TrialRecord(trial=trial, arm=arm, alpha=None, seed=seed, loss=loss, eval=EVAL, identity={})
    return record.model_copy(update=changes)


def start_trial(folder: TrialFolder, trial: str, spec: TrialSpec | None = None, **status: Any) -> LeasedTrial:
    """Acquire the lease of a trial and start it. `status` has further fields of `state.json`."""
    leased = folder.acquire_lease(lease_seconds=120)
    assert leased is not None
    leased.start(spec or NoSpec(), TrialStatus(trial=trial, state=TrialState.RUNNING, **status))
    return leased


def write_trial(
    folder: TrialFolder,
    record: TrialRecord,
    examples: Sequence[ExampleLoss] = (),
    generations: Sequence[Generation] = (),
    curve: Sequence[CurvePoint] = (),
    **status: Any,
) -> None:
    """Write a finished trial. `status` has further fields of `state.json`."""
    with start_trial(folder, record.trial, **status) as leased:
        leased.rewrite_metrics(curve)
        leased.finish(record, examples, generations)


def write_failed_trial(folder: TrialFolder, trial: str, reason: str) -> None:
    """Write a failed trial."""
    with start_trial(folder, trial) as leased:
        leased.end(TrialState.FAILED, reason)


def write_sweep_with_responses(folder: SweepFolder, records: Sequence[TrialRecord], prompts: int = 5) -> None:
    """Write a finished sweep of alphas 0 and 5 and three seeds, with a made-up response to each held-out prompt."""
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}))
    for record in records:
        responses = [_response(record, place) for place in range(prompts)]
        write_trial(folder.trial(record.trial, record.arm, record.seed), record, generations=responses)


def _response(record: TrialRecord, place: int) -> Generation:
    return Generation(
        example=f"e{place}",
        cluster=f"c{place}",
        kind="",
        prompt=f"<user>Question {place}?",
        reference="an answer",
        response="aeiou xyz"[: place + (record.seed or 0) + 2 * (record.arm == "alpha=5")],
        tokens=4,
        truncated=False,
        exact_match=False,
        rouge_l=0.5,
    )
