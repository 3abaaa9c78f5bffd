"""Measurements of `make bench` by commands: a sweep beside one `trl sft`, many trials, and two sweeps at once."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import yaml

from experiments.benchmarks.measurement import Fields, Figures, MeasurementError, in_new_process, repeated, trial_of
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import TrainSpec
from neftune_cli.records import TrialStatus
from neftune_cli.store import SweepFolder

ALPHAS = "0,5,10,15"
NOISE_ALPHA = 5.0
MIB = 2**20


def sweep_beside_trl(fields: Fields, repetitions: int) -> Figures:
    """Time a sweep of four alphas, with its evaluations, and one `trl sft`, in alternating order."""
    with TemporaryDirectory(prefix="neftune-bench-") as folder:
        inputs = Path(folder, "inputs")
        in_new_process(write_trl_inputs, fields, inputs)
        return repeated(
            lambda number: _sweep_beside_trl(fields, inputs, Path(folder, str(number)), number), repetitions
        )


def _sweep_beside_trl(fields: Fields, inputs: Path, work: Path, number: int) -> dict[str, float]:
    sweep = work / "sweep"
    commands = [
        ("sweep_seconds", sweep_command(fields, sweep, "--alphas", ALPHAS, "--seeds", "1", "--workers", "auto")),
        ("trl_seconds", trl_command(fields, inputs, work / "trl")),
    ]
    seconds = {name: seconds_of(command, work=work) for name, command in commands[:: -1 if number % 2 else 1]}
    return {
        **seconds,
        "sweep_over_trl": seconds["sweep_seconds"] / seconds["trl_seconds"],
        "trial_peak_mib": max(_peak_mib(status) for status in _statuses(sweep)),
    }


def write_trl_inputs(fields: Fields, folder: Path) -> None:
    """Write the model and the training examples of a recipe, as `trl sft` reads them."""
    from neftune_cli.data.trl_dataset import trl_dataset
    from neftune_cli.training.model_cache import ModelCache

    cache = ModelCache()
    trial = trial_of(fields, 0.0, cache)
    loaded = cache.shared_model(trial)
    loaded.model.save_pretrained(str(folder / "model"))
    loaded.tokenizer.save_pretrained(folder / "model")
    (folder / "data").mkdir()
    examples = [one.example for one in cache.prepared_data(trial).train]
    trl_dataset(examples).to_parquet(folder / "data" / "train.parquet")


def trl_command(fields: Fields, inputs: Path, output: Path) -> list[str]:
    """Return the command that runs the script of `trl sft` with the model, the data and the recipe of a sweep.

    The script itself is called, because `trl sft` spends a few more seconds on its launcher.
    """
    recipe = resolve_sweep(None, fields).train
    options = {
        "model_name_or_path": inputs / "model",
        "dataset_name": inputs / "data",
        "dtype": "float32",
        **trl_fields(recipe, output),
    }
    values = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "trl.scripts.sft", *values]


def trl_fields(recipe: TrainSpec, output: Path) -> dict[str, Any]:
    """Return the SFTConfig fields with which TRL trains a recipe, in float32 and without gradient checkpointing."""
    return {
        "output_dir": str(output),
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "max_length": recipe.max_length,
        "completion_only_loss": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "seed": 0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
    }


def trial_cost(fields: Fields, trials: int, workers: int, repetitions: int) -> Figures:
    """Return the wall time per trial of a sweep, and the time and memory of its trials."""
    return repeated(lambda _: _trial_cost(fields, trials, workers), repetitions)


def _trial_cost(fields: Fields, trials: int, workers: int) -> dict[str, float]:
    with TemporaryDirectory(prefix="neftune-bench-") as folder:
        sweep = Path(folder, "sweep")
        command = sweep_command(fields, sweep, "--alphas", "0", "--seeds", str(trials), "--workers", str(workers))
        seconds, statuses = seconds_of(command, work=Path(folder)), _statuses(sweep)
    return {
        "seconds_per_trial": seconds / trials,
        "median_trial_seconds": median(status.seconds or 0.0 for status in statuses),
        "last_trial_peak_mib": _peak_mib(statuses[-1]),
    }


def neighbour_cost(fields: Fields, repetitions: int) -> Figures:
    """Return the wall time of two sweeps at once over that of one alone."""
    return repeated(lambda _: _neighbour_cost(fields), repetitions)


def _neighbour_cost(fields: Fields) -> dict[str, float]:
    with TemporaryDirectory(prefix="neftune-bench-") as folder:
        options = ("--alphas", f"0,{NOISE_ALPHA:g}", "--seeds", "1")
        # each in a folder of its own, because a sweep copies the results of the base model from one beside it
        one, *two = (sweep_command(fields, Path(folder, name, "sweep"), *options) for name in ("one", "two", "three"))
        alone, both = seconds_of(one, work=Path(folder)), seconds_of(*two, work=Path(folder))
    return {"one_sweep_seconds": alone, "two_sweeps_over_one": both / alone}


def sweep_command(fields: Fields, folder: Path, *options: str) -> list[str]:
    """Write an experiment file beside the folder of a sweep, and return the command that runs it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    experiment = folder.with_suffix(".yaml")
    experiment.write_text(yaml.safe_dump(dict(fields)), encoding="utf-8")
    run = ("--output", str(folder), "--no-estimate", "--quiet")
    return [sys.executable, "-m", "neftune_cli", "sweep", str(experiment), *run, *options]


def seconds_of(*commands: Sequence[str], work: Path) -> float:
    """Run commands side by side, and return the seconds until all have ended.

    Args:
        commands: the commands.
        work: a folder for their output and for the caches of data sets, so that nothing is cached at the start.

    Raises:
        MeasurementError: a command failed.
    """
    log, environment = work / "output.txt", {**os.environ, "HF_DATASETS_CACHE": str(work / "cache")}
    with log.open("w", encoding="utf-8") as output:
        begin = perf_counter()
        running = [subprocess.Popen(one, stdout=output, stderr=output, env=environment) for one in commands]
        try:
            codes = [process.wait() for process in running]
        finally:
            seconds = perf_counter() - begin
            for process in running:  # after an interrupt, they would write to a folder that is removed
                process.terminate()
                process.wait()
    if any(codes):
        raise MeasurementError(f"{' '.join(commands[0])} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return seconds


def _statuses(sweep: Path) -> list[TrialStatus]:
    """Return the statuses of the trials of a sweep in the order of their starts, without that of the base model."""
    finished = [folder for folder, record in SweepFolder(sweep).finished() if record.seed is not None]
    statuses = [status for folder in finished if (status := folder.status())]
    return sorted(statuses, key=lambda status: status.started)


def _peak_mib(status: TrialStatus) -> float:
    return (status.peak_memory or 0) / MIB
