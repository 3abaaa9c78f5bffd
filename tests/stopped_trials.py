"""Small trials that are stopped at given points and resumed, each time with a new model object of one layer."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import BASE_ARM, InputSpec, NoiseSpec, ResolvedEvaluation, TrialSpec
from neftune_cli.data.loading import load_data
from neftune_cli.errors import TrialStopped
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import LeasedTrial, TrialFolder
from neftune_cli.training.prepared_data import PreparedData, prepare_data
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import Trial, TrialOutput, TrialProgress, halvings_to_resume
from neftune_cli.training.trial_run import run_trial
from tests.small_model import SMALL_MODEL

STEPS_PER_EPOCH = 4
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 4}
EXAMPLES: dict[str, Any] = {"train_examples": 4 * STEPS_PER_EPOCH, "eval_examples": 6}
GENERATING = "generating"
TRAINED = "trained"

At = int | str
"""Point at which a trial is stopped: a training step, after training, or during generation."""


def trial_of(arm: str = "arm", seed: int = 0, noise: dict[str, Any] | None = None, **train: Any) -> Trial:
    """Return a trial of two epochs on the small model and the bundled data, with alpha 5 by default."""
    spec = TrialSpec(
        model=SMALL_MODEL,
        dataset="bios",
        **EXAMPLES,
        noise=NoiseSpec(**({"alpha": 5.0} | (noise or {}))),
        train=resolve_sweep(None, {"train": SMALL | train}).train,
        evaluation=ResolvedEvaluation(max_length=128, max_new_tokens=24, repetition_penalty=1.0),
        seed=seed,
    )
    return Trial(id="0123456789ab", arm=arm, spec=spec, identity={})


def base_trial() -> Trial:
    return trial_of(BASE_ARM)


@cache
def prepared_data() -> PreparedData:
    source = find_model(SMALL_MODEL)
    return prepare_data(source, load_model(source), load_data(InputSpec(**EXAMPLES)), trial_of().spec, device="cpu")


@dataclass
class Attempt:
    """One attempt at a trial in a folder, with a new model object, and optionally a stop."""

    trial: Trial
    folder: TrialFolder
    settings: TrialSettings = field(default_factory=TrialSettings)
    at: At | None = None
    loaded: LoadedModel | None = None
    halvings: int = 0

    def run(self) -> list[TrialProgress]:
        """Run the trial, and return the reported progress. Raise `TrialStopped` if it was stopped."""
        self.reported: list[TrialProgress] = []
        self.stop = StopRequest()
        place = self.folder.acquire_lease(lease_seconds=120)
        assert place is not None
        with place:
            self.run_in(place)
        return self.reported

    def run_in(self, place: LeasedTrial) -> None:
        place.start(self.trial.spec, TrialStatus(trial=self.trial.id, state=TrialState.RUNNING))
        run_trial(
            self.trial,
            self.loaded or shallow_model(),
            prepared_data(),
            TrialOutput(place, self._watch),
            settings=self.settings,
            stop=self.stop,
            halvings=halvings_to_resume(self.folder, self.halvings),
            tasks=None,
        )

    def _watch(self, progress: TrialProgress) -> None:
        self.reported.append(progress)
        if progress.phase == "training" and progress.step == self.at:
            self.stop.request()
        if progress.phase == "generating" and self.at == TRAINED:
            self.stop.request()
        if progress.phase == "generating" and self.at == GENERATING:
            threading.Thread(target=self._request_during_generation).start()

    def _request_during_generation(self) -> None:
        while not self.stop._interruptible:
            time.sleep(0.001)
        time.sleep(0.01)
        self.stop.request()


def shallow_model() -> LoadedModel:
    """Return the small model with the first of its layers."""
    loaded = load_model(find_model(SMALL_MODEL))
    loaded.model.model.layers = loaded.model.model.layers[:1]
    loaded.model.config.num_hidden_layers = 1
    return loaded


def run_with_stops(
    trial: Trial,
    path: Path,
    stops: Sequence[At] = (),
    settings: TrialSettings | None = None,
    make_model: Callable[[], LoadedModel] = shallow_model,
) -> None:
    """Run a trial until it has a record, with a stop at each of these points, in this order."""
    settings = settings or TrialSettings(keep_model=True)
    for at in stops:
        with pytest.raises(TrialStopped):
            Attempt(trial, TrialFolder(path), settings, at, make_model()).run()
        assert TrialFolder(path).record() is None
    Attempt(trial, TrialFolder(path), settings, loaded=make_model()).run()


RESULTS = ("metrics.jsonl", "generations.jsonl", "examples.parquet", "record.json")


def trial_files(path: Path) -> dict[str, bytes]:
    """Return the results that must not depend on interruptions, including the trained weights."""
    weights = sorted(path.glob("model/*.safetensors"))
    assert weights
    return {one.name: one.read_bytes() for one in (*(path / name for name in RESULTS), *weights)}
