"""A trial that is stopped and resumed, at any place and any number of times, gives the same results."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.errors import TrialStopped
from neftune_cli.models.loading import LoadedModel
from neftune_cli.store import TrialFolder
from tests.small_model import SMALL_MODEL
from tests.stopped_trials import (
    GENERATING,
    STEPS_PER_EPOCH,
    TRAINED,
    At,
    Attempt,
    base_trial,
    run_with_stops,
    shallow_model,
    trial_files,
    trial_of,
)
from tests.tiny_models import hooks_on

pytestmark = pytest.mark.usefixtures("small_model")

LAST = 2 * STEPS_PER_EPOCH
EVERYWHERE: dict[str, tuple[At, ...]] = {
    "early": (2,),
    "between epochs": (STEPS_PER_EPOCH,),
    "in the second epoch": (STEPS_PER_EPOCH + 2,),
    "at the last step": (LAST,),
    "after training": (TRAINED,),
    "during generation": (GENERATING,),
    "everywhere": (1, 2, 3, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, LAST, TRAINED, GENERATING),
}
TWICE = (2, STEPS_PER_EPOCH + 2)
RECIPES: dict[str, dict[str, Any]] = {
    "no noise": {"noise": {"alpha": 0.0}},
    "decaying noise": {"noise": {"noise_schedule": "cosine"}},
    "accumulation": {"batch_size": 2, "gradient_accumulation_steps": 2},
    "accumulation with a remainder": {"batch_size": 2, "gradient_accumulation_steps": 3, "epochs": 3},
    "packing": {"packing": True, "max_length": 64, "batch_size": 1},
    "padding-free": {"padding_free": True},
    "grouped by length": {"train_sampling_strategy": "group_by_length"},
    "adapters": {"lora_rank": 2},
    "adafactor": {"optim": "adafactor"},
    "momentum": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "warmup": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-5}, "warmup_steps": 4},
    "end within an epoch": {"max_steps": STEPS_PER_EPOCH + 3},
    "gradient checkpointing": {"gradient_checkpointing": True},
}


def slow_except(cases: Mapping[str, Any], *quick: str) -> list[Any]:
    """Return the cases as parameters of a test, all marked slow except the named ones."""
    return [
        pytest.param(case, id=name, marks=() if name in quick else pytest.mark.slow) for name, case in cases.items()
    ]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: more threads do not speed up such small models, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("uninterrupted") / "trial"
    run_with_stops(trial_of(), path)
    return trial_files(path)


@pytest.mark.parametrize("stops", slow_except(EVERYWHERE, "everywhere"))
def test_trial_stopped_anywhere_gives_the_same_results(
    stops: tuple[At, ...], uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    run_with_stops(trial_of(), tmp_path, stops)
    assert trial_files(tmp_path) == uninterrupted


@pytest.mark.parametrize("recipe", slow_except(RECIPES, "accumulation with a remainder", "adapters"))
def test_trial_of_any_recipe_gives_the_same_results(recipe: dict[str, Any], tmp_path: Path) -> None:
    run_with_stops(trial_of(**recipe), tmp_path / "uninterrupted")
    run_with_stops(trial_of(**recipe), tmp_path / "stopped", TWICE)
    assert trial_files(tmp_path / "stopped") == trial_files(tmp_path / "uninterrupted")


def with_dropout() -> LoadedModel:
    loaded = shallow_model()
    for module in loaded.model.modules():
        if hasattr(module, "attention_dropout"):
            setattr(module, "attention_dropout", 0.2)  # noqa: B010
    return loaded


def test_dropout_draws_are_resumed(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    for name, stops in (("uninterrupted", ()), ("stopped", TWICE)):
        run_with_stops(trial_of(), tmp_path / name, stops, make_model=with_dropout)
    assert trial_files(tmp_path / "stopped") == trial_files(tmp_path / "uninterrupted")
    assert trial_files(tmp_path / "uninterrupted") != uninterrupted


@pytest.mark.slow
def test_trial_is_resumed_by_another_process(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=STEPS_PER_EPOCH + 2).run()
    code = (
        "import sys, tests.stopped_trials as t; t.SMALL_MODEL = sys.argv[2]; "
        "t.run_with_stops(t.trial_of(), t.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), SMALL_MODEL], check=True, capture_output=True)
    assert trial_files(tmp_path) == uninterrupted


def test_checkpoints_every_step_do_not_change_results_and_are_deleted(
    uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    run_with_stops(trial_of(), tmp_path, settings=TrialSettings(checkpoint_steps=1, keep_model=True))
    assert trial_files(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()


def test_base_trial_starts_over(tmp_path: Path) -> None:
    run_with_stops(base_trial(), tmp_path / "uninterrupted")
    run_with_stops(base_trial(), tmp_path / "stopped", (TRAINED, GENERATING))
    for name in ("metrics.jsonl", "examples.parquet", "generations.jsonl", "record.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "uninterrupted" / name).read_bytes()


# Unreadable checkpoints


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def without_a_tensor(folder: Path) -> None:
    state = (folder / "state.json").read_text()
    (folder / "state.json").write_text(state.replace('{"tensor": "00003"}', '{"tensor": "99999"}'))


def of_another_model(folder: Path) -> None:
    shutil.copy(folder / "state.safetensors", folder / "weights.safetensors")


DAMAGES = {
    "weights cut": cut("weights.safetensors"),
    "tensors cut": cut("state.safetensors"),
    "state cut": cut("state.json"),
    "trainer state cut": cut("trainer_state.json"),
    "weights missing": without("weights.safetensors"),
    "a tensor missing": without_a_tensor,
    "another model's weights": of_another_model,
}


def add_damaged(folder: TrialFolder, damage: Callable[[Path], None], *, step: int) -> None:
    """Add a checkpoint whose files are listed correctly in its index but have damaged content."""
    place = folder.acquire_lease(lease_seconds=120)
    assert place is not None
    with place:
        newest = place.intact_checkpoints()[0]
        with place.new_checkpoint(step, newest.about) as filling:
            for path in newest.path.iterdir():
                if path.name != "index.json":
                    shutil.copy(path, filling)
            damage(filling)


@pytest.mark.parametrize("damage", slow_except(DAMAGES, "weights cut", "trainer state cut", "a tensor missing"))
def test_damaged_checkpoint_is_skipped(
    damage: Callable[[Path], None], uninterrupted: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = TrialFolder(tmp_path)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), folder, at=STEPS_PER_EPOCH + 2).run()
    add_damaged(folder, damage, step=STEPS_PER_EPOCH + 3)
    progress = Attempt(trial_of(), folder, TrialSettings(keep_model=True)).run()
    assert next(one.step for one in progress if one.phase == "training") == STEPS_PER_EPOCH + 3
    assert trial_files(tmp_path) == uninterrupted
    assert f"The checkpoint step-{STEPS_PER_EPOCH + 3:08} " in capsys.readouterr().err


def test_trial_with_only_damaged_checkpoints_starts_over(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), folder, at=3).run()
    for step in (4, 5):
        add_damaged(folder, cut("state.json"), step=step)
    progress = Attempt(trial_of(), folder, TrialSettings(keep_model=True)).run()
    assert [one.step for one in progress if one.phase == "training"] == [*range(1, LAST + 1)]
    assert trial_files(tmp_path) == uninterrupted


# State after a stop


@pytest.mark.parametrize("at", [3, STEPS_PER_EPOCH, TRAINED, GENERATING])
def test_stop_leaves_no_hook_and_one_checkpoint_without_pickles(at: At, tmp_path: Path) -> None:
    loaded = shallow_model()
    before = hooks_on(loaded.model)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=at, loaded=loaded).run()
    assert hooks_on(loaded.model) == before
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert len({path.parent for path in files}) == 1


def test_only_the_responses_are_generated_again_after_training(tmp_path: Path) -> None:
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=GENERATING).run()
    assert {one.phase for one in Attempt(trial_of(), TrialFolder(tmp_path)).run()} == {"generating"}


# Halved batches


def test_resumed_trial_keeps_its_halved_batches(tmp_path: Path) -> None:
    for name, at in (("uninterrupted", None), ("stopped", STEPS_PER_EPOCH + 2)):
        attempt = Attempt(trial_of(), TrialFolder(tmp_path / name), TrialSettings(keep_model=True), at, halvings=1)
        if at is None:
            attempt.run()
            continue
        with pytest.raises(TrialStopped):
            attempt.run()
    Attempt(trial_of(), TrialFolder(tmp_path / "stopped"), TrialSettings(keep_model=True)).run()
    assert trial_files(tmp_path / "stopped") == trial_files(tmp_path / "uninterrupted")
    record = json.loads((tmp_path / "uninterrupted" / "record.json").read_text())
    assert "arm, seed 0: batches of 4 were computed as 2 x 2 to fit in memory." in record["notes"]


def test_trial_with_more_halvings_starts_over(tmp_path: Path) -> None:
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=3).run()
    progress = Attempt(trial_of(), TrialFolder(tmp_path), halvings=2).run()
    assert [one.step for one in progress if one.phase == "training"] == [*range(1, LAST + 1)]
