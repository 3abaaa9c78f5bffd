"""A trial that is stopped, wherever and however often, and gone on with leaves what it would have left anyway."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neftune_cli.config.running import RunSettings
from neftune_cli.errors import TrialStopped
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.store import TrialFolder
from tests.stopped_trials import (
    GENERATING,
    STEPS_PER_EPOCH,
    TRAINED,
    At,
    Attempt,
    base_trial,
    results,
    run_with_stops,
    trial_of,
)

LAST = 2 * STEPS_PER_EPOCH
EVERYWHERE: dict[str, tuple[At, ...]] = {
    "early": (2,),
    "between epochs": (STEPS_PER_EPOCH,),
    "in the second epoch": (STEPS_PER_EPOCH + 3,),
    "at the last step": (LAST,),
    "when trained": (TRAINED,),
    "among the answers": (GENERATING,),
    "everywhere": (1, 2, 3, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, LAST, TRAINED, GENERATING),
}
HERE_AND_THERE = (2, STEPS_PER_EPOCH + 2)
RECIPES: dict[str, dict[str, Any]] = {
    "no noise": {"noise": {"alpha": 0.0}},
    "falling noise": {"noise": {"noise_schedule": "cosine"}},
    "accumulation": {"batch_size": 2, "gradient_accumulation_steps": 2},
    "accumulation with a rest": {"batch_size": 2, "gradient_accumulation_steps": 3, "epochs": 3},
    "packing": {"packing": True, "max_length": 64, "batch_size": 1},
    "padding-free": {"padding_free": True},
    "by length": {"train_sampling_strategy": "group_by_length"},
    "adapters": {"lora_rank": 2},
    "adafactor": {"optim": "adafactor"},
    "momentum": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "warmup": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-5}, "warmup_steps": 4},
    "in the midst of an epoch": {"max_steps": STEPS_PER_EPOCH + 4},
    "recomputed activations": {"gradient_checkpointing": True},
}


def but_slow_unless(cases: Mapping[str, Any], *quick: str) -> list[Any]:
    """Return the cases as parameters of a test; all but the named ones are slow."""
    return [
        pytest.param(case, id=name, marks=() if name in quick else pytest.mark.slow) for name, case in cases.items()
    ]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models as small as these gain nothing from threads, which wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("whole") / "trial"
    run_with_stops(trial_of(), path)
    return results(path)


@pytest.mark.parametrize("stops", but_slow_unless(EVERYWHERE, "early", "everywhere"))
def test_a_trial_stopped_anywhere_leaves_the_same(
    stops: tuple[At, ...], whole: dict[str, bytes], tmp_path: Path
) -> None:
    run_with_stops(trial_of(), tmp_path, stops)
    assert results(tmp_path) == whole


@pytest.mark.parametrize("recipe", but_slow_unless(RECIPES, "accumulation with a rest", "adapters"))
def test_whatever_the_recipe(recipe: dict[str, Any], tmp_path: Path) -> None:
    run_with_stops(trial_of(**recipe), tmp_path / "whole")
    run_with_stops(trial_of(**recipe), tmp_path / "stopped", HERE_AND_THERE)
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def with_dropout() -> LoadedModel:
    loaded = load_model(find_model("tiny"))
    for module in loaded.model.modules():
        if hasattr(module, "attention_dropout"):
            setattr(module, "attention_dropout", 0.2)  # noqa: B010
    return loaded


def test_dropout_goes_on_with_its_draws(whole: dict[str, bytes], tmp_path: Path) -> None:
    for name, stops in (("whole", ()), ("stopped", HERE_AND_THERE)):
        run_with_stops(trial_of(), tmp_path / name, stops, make_model=with_dropout)
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    assert results(tmp_path / "whole") != whole


@pytest.mark.slow
def test_another_process_goes_on(whole: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=STEPS_PER_EPOCH + 2).run()
    code = "import sys, tests.stopped_trials as t; t.run_with_stops(t.trial_of(), t.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    assert results(tmp_path) == whole


def test_checkpoints_by_steps_change_nothing_and_leave_nothing(whole: dict[str, bytes], tmp_path: Path) -> None:
    run_with_stops(trial_of(), tmp_path, settings=RunSettings(checkpoint_steps=1, keep_model=True))
    assert results(tmp_path) == whole
    assert not (tmp_path / "checkpoints").exists()


def test_the_base_begins_anew(tmp_path: Path) -> None:
    run_with_stops(base_trial(), tmp_path / "whole")
    run_with_stops(base_trial(), tmp_path / "stopped", (TRAINED, GENERATING))
    for name in ("metrics.jsonl", "examples.parquet", "generations.jsonl", "record.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# Checkpoints that can't be read


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
    "trainer's state cut": cut("trainer_state.json"),
    "weights gone": without("weights.safetensors"),
    "a tensor gone": without_a_tensor,
    "another model's weights": of_another_model,
}


def add_damaged(folder: TrialFolder, damage: Callable[[Path], None], *, step: int) -> None:
    """Add a checkpoint that is whole for whoever only looks at its files, and damaged for whoever reads them."""
    place = folder.claim()
    assert place is not None
    with place:
        newest = place.checkpoints()[0]
        with place.new_checkpoint(step, newest.about) as filling:
            for path in newest.path.iterdir():
                if path.name != "index.json":
                    shutil.copy(path, filling)
            damage(filling)


@pytest.mark.parametrize("damage", but_slow_unless(DAMAGES, "weights cut", "trainer's state cut", "a tensor gone"))
def test_a_damaged_checkpoint_is_passed_over(
    damage: Callable[[Path], None], whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = TrialFolder(tmp_path)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), folder, at=STEPS_PER_EPOCH + 2).run()
    add_damaged(folder, damage, step=STEPS_PER_EPOCH + 3)
    told = Attempt(trial_of(), folder, RunSettings(keep_model=True)).run()
    assert next(one.step for one in told if one.phase == "training") == STEPS_PER_EPOCH + 3
    assert results(tmp_path) == whole
    assert f"The checkpoint step-{STEPS_PER_EPOCH + 3:08} " in capsys.readouterr().err


def test_with_damaged_checkpoints_alone_the_trial_begins_anew(whole: dict[str, bytes], tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), folder, at=3).run()
    for step in (4, 5):
        add_damaged(folder, cut("state.json"), step=step)
    told = Attempt(trial_of(), folder, RunSettings(keep_model=True)).run()
    assert [one.step for one in told if one.phase == "training"] == [*range(1, LAST + 1)]
    assert results(tmp_path) == whole


# What a stop leaves


@pytest.mark.parametrize("at", [3, STEPS_PER_EPOCH, TRAINED, GENERATING])
def test_a_stop_leaves_no_hook_and_one_checkpoint_without_pickles(at: At, tmp_path: Path) -> None:
    loaded = load_model(find_model("tiny"))
    before = hooks_on(loaded.model)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=at, loaded=loaded).run()
    assert hooks_on(loaded.model) == before
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert len({path.parent for path in files}) == 1


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_after_the_training_only_the_answers_are_made_again(tmp_path: Path) -> None:
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=GENERATING).run()
    assert {one.phase for one in Attempt(trial_of(), TrialFolder(tmp_path)).run()} == {"generating"}


# Halved batches


def test_a_trial_with_halved_batches_goes_on_with_them(tmp_path: Path) -> None:
    for name, at in (("whole", None), ("stopped", STEPS_PER_EPOCH + 2)):
        attempt = Attempt(trial_of(), TrialFolder(tmp_path / name), RunSettings(keep_model=True), at, halvings=1)
        if at is None:
            attempt.run()
            continue
        with pytest.raises(TrialStopped):
            attempt.run()
    Attempt(trial_of(), TrialFolder(tmp_path / "stopped"), RunSettings(keep_model=True)).run()
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    record = json.loads((tmp_path / "whole" / "record.json").read_text())
    assert "arm, seed 0: batches of 4 were computed as 2 x 2 to fit in memory." in record["notes"]


def test_more_halvings_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), TrialFolder(tmp_path), at=3).run()
    told = Attempt(trial_of(), TrialFolder(tmp_path), halvings=2).run()
    assert [one.step for one in told if one.phase == "training"] == [*range(1, LAST + 1)]
