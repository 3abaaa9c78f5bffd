"""Benchmark of `neftune compare` from a cold start, on sweeps of simulated numbers.

    python -m experiments.benchmarks.compare_time

It times complete processes, report included (tables, plots, HTML page), and prints the minimum of a few runs. The
sweeps are 4 alphas x 5 seeds x 500 held-out items, and 4 alphas x 500 seeds x 100 items (2,000 trials).
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import typer

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import SweepSpec
from neftune_cli.records import (
    HELD_OUT_SPLIT,
    PROBE_SPLIT,
    CurvePoint,
    EvalMetrics,
    ExampleLoss,
    Generation,
    LossMetrics,
    NoiseSize,
    TrialRecord,
)
from neftune_cli.store import SweepFolder

ALPHAS = [0.0, 5.0, 10.0, 15.0]
EPOCHS, STEPS, PROBE_ITEMS = 3, 75, 120


def main(repeats: int = 3) -> None:
    """Write both sweeps to temporary folders, compare each, and print the seconds."""
    for seeds, items in ((5, 500), (500, 100)):
        with tempfile.TemporaryDirectory() as folder:
            write_sweep(Path(folder) / "simulated", seeds=seeds, items=items)
            seconds = min(_seconds(Path(folder)) for _ in range(repeats))
        print(f"{len(ALPHAS)} alphas x {seeds} seeds x {items} items: {seconds:.2f} s")


def write_sweep(path: Path, *, seeds: int, items: int) -> None:
    """Write a finished sweep whose arms have the same distribution."""
    spec = resolve_sweep(None, {"alphas": ALPHAS, "seeds": list(range(seeds))})
    folder, draws = SweepFolder(path), np.random.default_rng(0)
    folder.open(spec)
    for number, (arm, alpha, seed) in enumerate(_cells(spec)):
        losses = list(_losses(draws, items))
        answers = [_answer(draws, item) for item in range(items)]
        trial = folder.trial(f"{number:012x}", arm, seed)
        leased = trial.acquire_lease(lease_seconds=120)
        assert leased is not None
        with leased:
            leased.rewrite_metrics(list(_curve(draws)))
            leased.finish(_record(f"{number:012x}", arm, alpha, seed, spec, losses, answers), losses, answers)


def _cells(spec: SweepSpec) -> Iterator[tuple[str, float, int]]:
    return ((arm.name, arm.alpha or 0.0, seed) for seed in spec.seeds for arm in spec.arms)


def _losses(draws: np.random.Generator, items: int) -> Iterator[ExampleLoss]:
    for epoch in range(1, EPOCHS + 1):
        for split, count in ((PROBE_SPLIT, PROBE_ITEMS), (HELD_OUT_SPLIT, items)):
            for item, loss in enumerate(draws.gamma(2, 0.5, count)):
                example, cluster = f"{split} {item}", f"person {item // 2}"
                yield ExampleLoss(
                    split=split, epoch=epoch, example=example, cluster=cluster, loss=float(loss), tokens=10 + item % 7
                )


def _answer(draws: np.random.Generator, item: int) -> Generation:
    right = bool(draws.random() < 0.6)
    return Generation(
        example=f"{HELD_OUT_SPLIT} {item}",
        cluster=f"person {item // 2}",
        kind="question",
        prompt=f"What is the answer to question {item}?",
        reference=f"The answer to question {item} is {item}.",
        response=f"The answer to question {item} is {item if right else 'unknown'}.",
        tokens=12,
        truncated=False,
        exact_match=right,
        rouge_l=1.0 if right else 0.8,
    )


def _curve(draws: np.random.Generator) -> Iterator[CurvePoint]:
    for step in range(1, STEPS + 1):
        yield CurvePoint(step=step, epoch=step * EPOCHS / STEPS, train_loss=float(draws.gamma(2, 0.5)))
        if step % (STEPS // EPOCHS) == 0:
            yield CurvePoint(step=step, epoch=step * EPOCHS / STEPS, eval_loss=1.0, train_loss_clean=0.9)


def _record(
    trial: str,
    arm: str,
    alpha: float,
    seed: int,
    spec: SweepSpec,
    losses: list[ExampleLoss],
    answers: list[Generation],
) -> TrialRecord:
    last = [row for row in losses if row.epoch == EPOCHS]
    held_out, probe = (
        float(np.average([row.loss for row in rows], weights=[row.tokens for row in rows]))
        for rows in ([row for row in last if row.split == split] for split in (HELD_OUT_SPLIT, PROBE_SPLIT))
    )
    return TrialRecord(
        trial=trial,
        arm=arm,
        alpha=alpha,
        seed=seed,
        loss=LossMetrics(
            train_loss=probe, train_loss_clean=probe, eval_loss=held_out, eval_perplexity=float(np.exp(held_out))
        ),
        eval=EvalMetrics(
            exact_match=fmean(answer.exact_match for answer in answers),
            rouge_l=fmean(answer.rouge_l for answer in answers),
            bleu=90.0,
            response_chars=fmean(len(answer.response) for answer in answers),
            repetition_2gram=5.0,
            log_diversity=4.0,
            truncated=0.0,
        ),
        noise=NoiseSize(median_length=30, noise_norm=0.1 * alpha, embedding_norm=5),
        identity={
            "model": "simulated",
            "data": "simulated",
            "noise": {"alpha": alpha} if alpha else None,
            "train": spec.train.model_dump(),
            "seed": seed,
        },
    )


def _seconds(path: Path) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "neftune_cli", "compare", str(path)], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
