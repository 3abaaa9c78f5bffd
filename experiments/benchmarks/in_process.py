"""Measurements of `make bench` inside a process: phases of an arm, speed, cost of noise, and losses beside TRL's."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from unittest.mock import patch

from experiments.benchmarks.measurement import Fields, Figures, MeasurementError, in_new_process, repeated, trial_of
from experiments.benchmarks.sweep_commands import NOISE_ALPHA, sweep_command, trl_fields
from neftune_cli.config.spec import TrialSpec
from neftune_cli.store import SweepFolder

if TYPE_CHECKING:
    from neftune_cli.training.model_cache import ModelCache
    from neftune_cli.training.resumable_trainer import ResumableTrainer

P = ParamSpec("P")
T = TypeVar("T")

MATRIX_SIZES = (512, 1024, 2048)


def phases(fields: Fields, repetitions: int) -> Figures:
    """Measure the phases of an arm and its training speed. Each repetition is a sweep in a new process."""
    return repeated(lambda _: in_new_process(arm_phases, fields), repetitions)


def arm_phases(fields: Fields) -> dict[str, float]:
    """Run a sweep of alpha 0 in this process, and return the shares of the phases and the training speed."""
    from neftune_cli.cli import app
    from neftune_cli.training.model_cache import ModelCache

    cache, timer, peak = ModelCache(), PhaseTimer(), gemm_flops()
    model: Any = cache.shared_model(trial_of(fields, 0.0, cache)).model
    with TemporaryDirectory(prefix="neftune-bench-") as folder, _timed_functions(timer):
        sweep = Path(folder, "sweep")
        command = sweep_command(fields, sweep, "--alphas", "0", "--seeds", "1", "--workers", "0")
        if app(command[command.index("sweep") :], standalone_mode=False):
            raise MeasurementError("A sweep in the main process failed.")
        rate = _trained_tokens(sweep) / timer.seconds["training"]
    peak, arm = max(peak, gemm_flops()), sum(timer.seconds.values())
    return {
        "arm_seconds": arm,
        **{f"{phase}_share": seconds / arm for phase, seconds in timer.seconds.items()},
        "tokens_per_second": rate,
        "gemm_gflops": peak / 1e9,
        "gemm_share": 6 * model.num_parameters() * rate / peak,
    }


class PhaseTimer:
    """Seconds of each phase. A phase inside another one interrupts it."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock, self._since = clock, clock()
        self._phases: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the context as time of a phase. An outermost phase discards all earlier times."""
        if not self._phases:
            self.seconds.clear()
        self._count()
        self._phases.append(name)
        try:
            yield
        finally:
            self._count()
            self._phases.pop()

    def timed(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function whose calls are a phase."""

        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.phase(name):
                return function(*args, **kwargs)

        return run

    def _count(self) -> None:
        now = self._clock()
        if self._phases:
            self.seconds[self._phases[-1]] += now - self._since
        self._since = now


@contextmanager
def _timed_functions(timer: PhaseTimer) -> Iterator[None]:
    """Time the functions of a trial; the times at the end are those of the last trial."""
    from neftune_cli.evaluation.losses import example_losses
    from neftune_cli.evaluation.shared_prompts import LossPass
    from neftune_cli.sweeps.trial_runner import TrialRunner
    from neftune_cli.training.resumable_trainer import ResumableTrainer
    from neftune_cli.training.trial_metrics import measure_losses_and_responses as measure

    with (
        patch.object(TrialRunner, "run", timer.timed("setup", TrialRunner.run)),
        patch.object(ResumableTrainer, "train", timer.timed("training", ResumableTrainer.train)),
        patch("neftune_cli.training.trial_metrics.example_losses", timer.timed("losses", example_losses)),
        patch("neftune_cli.evaluation.shared_prompts.example_losses", timer.timed("losses", example_losses)),
        patch.object(LossPass, "measured", timer.timed("losses", LossPass.measured)),
        patch("neftune_cli.training.trial_run.measure_losses_and_responses", timer.timed("responses", measure)),
    ):
        yield


def gemm_flops(sizes: Sequence[int] = MATRIX_SIZES, repetitions: int = 5) -> float:
    """Return the largest number of float32 operations per second in products of square matrices of several sizes."""
    import torch

    from neftune_cli.training.hardware import device_kind
    from neftune_cli.training.timing import device_clock

    clock, rates = device_clock(device_kind()), []
    for size in sizes:
        matrix = torch.rand(size, size, device=device_kind())
        result = matrix @ matrix
        for _ in range(repetitions):
            begin = clock()
            torch.mm(matrix, matrix, out=result)
            rates.append(2 * size**3 / (clock() - begin))
    return max(rates)


def noise_cost(fields: Fields, repetitions: int) -> Figures:
    """Return the training time with noise over that without, in pairs of alternating order."""
    return in_new_process(_noise_pairs, fields, repetitions)


def _noise_pairs(fields: Fields, repetitions: int) -> Figures:
    from neftune_cli.training.model_cache import ModelCache

    cache = ModelCache()
    trials = [trial_of(fields, alpha, cache) for alpha in (0.0, NOISE_ALPHA)]
    train(cache, trials[0])  # fills caches

    def pair(number: int) -> dict[str, float]:
        seconds = {trial.noise.alpha: train(cache, trial)[1] for trial in trials[:: -1 if number % 2 else 1]}
        return {"noise_over_none": seconds[NOISE_ALPHA] / seconds[0.0]}

    return repeated(pair, repetitions)


def train(cache: "ModelCache", trial: TrialSpec) -> tuple["ResumableTrainer", float]:
    """Train a trial without evaluation. Return its trainer and the seconds of the training."""
    from neftune_cli.training.fine_tuning import noise_callback
    from neftune_cli.training.sft_trainer import build_trainer, sft_config

    loaded, prepared = cache.model_copy(trial), cache.prepared_data(trial)
    with TemporaryDirectory(prefix="neftune-bench-") as work:
        config = sft_config(trial.train, seed=trial.stream_seed, device=prepared.device, work=Path(work))
        callbacks: list[Any] = [noise_callback(trial)]
        trainer = build_trainer(
            loaded.model, loaded.tokenizer, prepared.train, config, train=trial.train, callbacks=callbacks
        )
        begin = perf_counter()
        trainer.train()
        return trainer, perf_counter() - begin


def equal_work(fields: Fields) -> Figures:
    """Compare the training losses of alpha 0 with those of TRL's trainer, and the numbers of training tokens.

    The losses are compared on the same tokens. Some chat templates write text after the end of the completion, which
    TRL trains on; the ratio of tokens, each tokenized by its own program, shows how much that is.
    """
    return in_new_process(_equal_work, fields)


def _equal_work(fields: Fields) -> Figures:
    from neftune_cli.data.trl_dataset import trl_dataset
    from neftune_cli.training.model_cache import ModelCache

    cache = ModelCache()
    trial = trial_of(fields, 0.0, cache)
    losses = zip(_losses(train(cache, trial)[0]), trl_losses(cache, trial), strict=True)
    differences = [abs(ours - theirs) / theirs for ours, theirs in losses]
    examples = cache.prepared_data(trial).train
    with trl_trainer(cache, trial, trl_dataset([one.example for one in examples])) as trainer:
        tokens = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    return {
        "loss_difference": [max(differences)],
        "compared_steps": [len(differences)],
        "trl_tokens_over_ours": [tokens / sum(len(one.input_ids) for one in examples)],
    }


def trl_losses(cache: "ModelCache", trial: TrialSpec) -> list[float]:
    """Return the loss of each step of TRL's trainer, which orders the examples itself."""
    from datasets import Dataset

    rows = [{"input_ids": list(one.input_ids), "labels": one.labels} for one in cache.prepared_data(trial).train]
    with trl_trainer(cache, trial, Dataset.from_list(rows), dataset_kwargs={"skip_prepare_dataset": True}) as trainer:
        trainer.train()
    return _losses(trainer)


@contextmanager
def trl_trainer(cache: "ModelCache", trial: TrialSpec, rows: Any, **fields: Any) -> Iterator[Any]:
    """Yield TRL's own trainer for the recipe of a trial, in a temporary folder."""
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    loaded = cache.model_copy(trial)
    with TemporaryDirectory(prefix="neftune-bench-") as work:
        config = SFTConfig(**trl_fields(trial.train, Path(work)), disable_tqdm=True, **fields)
        yield SFTTrainer(model=loaded.model, args=config, train_dataset=rows, processing_class=loaded.tokenizer)


def _losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _trained_tokens(sweep: Path) -> int:
    curves = [folder.curve() for folder, record in SweepFolder(sweep).finished() if record.seed is not None]
    return max(point.tokens or 0 for curve in curves for point in curve)
