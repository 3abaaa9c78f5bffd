"""NEFTuneCallback with transformers' Trainer: noise during training, removal on every exit, and warnings."""

import copy
import gc
import json
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from neftune_cli.config.noises import SCHEDULES
from neftune_cli.config.spec import NoiseSpec
from neftune_cli.errors import UsageError
from neftune_cli.noise import NEFTuneCallback
from tests.tiny_models import hooks_on, tiny_llama, weights_of

ROWS = [{"input_ids": torch.full((6,), token), "labels": torch.full((6,), token)} for token in range(8)]


def trainer(
    model: Any, folder: Path, *callbacks: TrainerCallback, collate: Any = default_data_collator, **options: Any
) -> Trainer:
    defaults: dict[str, Any] = {
        "use_cpu": True,
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    made: Any = Trainer(
        model,
        TrainingArguments(output_dir=str(folder), **defaults | options),
        data_collator=collate,
        train_dataset=ROWS,
        eval_dataset=ROWS,
        callbacks=list(callbacks),
    )
    made.remove_callback(PrinterCallback)
    return made  # type: ignore[no-any-return]


class Recorder(TrainerCallback):
    """Records alpha and the number of hooks after every step."""

    def __init__(self, noise: NEFTuneCallback) -> None:
        self.noise = noise
        self.alphas: list[float] = []
        self.hooks: list[int] = []

    def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        assert self.noise._noise is not None
        self.alphas.append(self.noise._noise.alpha)
        self.hooks.append(hooks_on(model))


def failing(event: str, error: type[BaseException]) -> TrainerCallback:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return type("Failing", (TrainerCallback,), {event: fail})()  # type: ignore[no-any-return]


def test_noise_is_attached_during_training_and_removed_afterwards(tmp_path: Path) -> None:
    noise, model = NEFTuneCallback(alpha=5.0), tiny_llama()
    recorder = Recorder(noise)
    assert (noise.attestation, noise.deviations, noise.draws) == (None, (), 0)
    trainer(model, tmp_path, noise, recorder).train()
    assert recorder.hooks == [4] * 4
    assert hooks_on(model) == 0
    assert noise.draws == 4
    assert noise.attestation is not None
    assert noise.attestation.calls == 4
    assert noise.deviations == ()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [8, 8, 8, 8]), ("linear", [8, 6, 4, 2]), ("cosine", [8, 6.82842712, 4, 1.17157288])],
)
def test_the_schedule_sets_the_alpha_of_each_step(schedule: Any, expected: list[float], tmp_path: Path) -> None:
    noise = NEFTuneCallback(alpha=8.0, schedule=schedule)
    recorder = Recorder(noise)
    trainer(tiny_llama(), tmp_path, noise, recorder).train()
    assert recorder.alphas == pytest.approx(expected)


def test_each_micro_batch_draws_and_the_schedule_counts_optimizer_steps(tmp_path: Path) -> None:
    noise = NEFTuneCallback(alpha=8.0, schedule="linear")
    recorder = Recorder(noise)
    trainer(tiny_llama(), tmp_path, noise, recorder, gradient_accumulation_steps=2, max_steps=2).train()
    assert noise.draws == 4
    assert recorder.alphas == [8, 4]


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_draws_once_per_step(reentrant: bool, tmp_path: Path) -> None:
    noise, options = NEFTuneCallback(), {"use_reentrant": reentrant}
    plain, checkpointed = tiny_llama(), tiny_llama()
    trainer(plain, tmp_path, NEFTuneCallback()).train()
    trainer(checkpointed, tmp_path, noise, gradient_checkpointing=True, gradient_checkpointing_kwargs=options).train()
    assert noise.draws == 4
    torch.testing.assert_close(weights_of(checkpointed), weights_of(plain))


@pytest.mark.parametrize(("seed", "same"), [(None, True), (7, True), (8, False)])
def test_the_default_seed_is_the_trainers(seed: int | None, same: bool, tmp_path: Path) -> None:
    models = tiny_llama(), tiny_llama()
    for model, chosen in zip(models, (7, seed), strict=True):
        trainer(model, tmp_path, NEFTuneCallback(alpha=50.0, seed=chosen), seed=7).train()
    assert torch.equal(weights_of(models[0]), weights_of(models[1])) == same


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_step_end", "on_log", "on_train_end"])
@pytest.mark.parametrize("order", ["noise first", "noise last"])
def test_a_failing_callback_leaves_no_hook(event: str, error: type[BaseException], order: str, tmp_path: Path) -> None:
    model, callbacks = tiny_llama(), [NEFTuneCallback(), failing(event, error)]
    training = trainer(model, tmp_path, *(callbacks if order == "noise first" else callbacks[::-1]))
    with pytest.raises(error):
        training.train()
    assert hooks_on(model) == 0


@pytest.mark.parametrize(
    ("event", "order"),
    [
        ("on_train_begin", "noise first"),
        ("on_train_begin", "noise last"),
        ("on_epoch_begin", "noise first"),
        ("on_epoch_begin", "noise last"),
        ("on_step_begin", "noise last"),
        ("on_step_end", "noise first"),
        ("on_epoch_end", "noise first"),
        ("on_train_end", "noise first"),
        ("on_train_end", "noise last"),
    ],
)
def test_a_failing_callback_leaves_no_hook_if_the_noise_was_added_later(event: str, order: str, tmp_path: Path) -> None:
    model = tiny_llama()
    training = trainer(model, tmp_path)
    callbacks = [NEFTuneCallback(), failing(event, RuntimeError)]
    for callback in callbacks if order == "noise first" else callbacks[::-1]:
        training.add_callback(callback)
    with pytest.raises(RuntimeError):
        training.train()
    assert hooks_on(model) == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("added_later", [False, True])
@pytest.mark.parametrize("place", ["forward", "backward", "collator"])
def test_a_failing_step_leaves_no_hook(
    place: str, added_later: bool, error: type[BaseException], tmp_path: Path
) -> None:
    model, noise = tiny_llama(), NEFTuneCallback()
    calls = iter(range(100))

    def fail_at_second_call(*_: Any) -> None:
        if next(calls) == 1:
            raise error

    def collate(rows: Any) -> Any:
        if place == "collator":
            fail_at_second_call()
        return default_data_collator(rows)

    training = trainer(model, tmp_path, *([] if added_later else [noise]), collate=collate)
    if added_later:
        training.add_callback(noise)
    if place == "forward":
        breaking = model.lm_head.register_forward_hook(fail_at_second_call)
    else:
        breaking = model.lm_head.weight.register_hook(fail_at_second_call if place == "backward" else lambda _: None)
    with pytest.raises(error):
        training.train()
    breaking.remove()
    assert hooks_on(model) == 0
    clean = model.eval()(input_ids=ROWS[3]["input_ids"][None]).logits
    assert torch.equal(model.train()(input_ids=ROWS[3]["input_ids"][None]).logits, clean)


@pytest.mark.parametrize("fails", [False, True])
def test_a_second_training_has_one_noise_source(fails: bool, tmp_path: Path) -> None:
    model, noise = tiny_llama(), NEFTuneCallback()
    recorder = Recorder(noise)
    training = trainer(model, tmp_path, noise, recorder)
    if fails:
        training.add_callback(breaking := failing("on_step_end", RuntimeError))
        with pytest.raises(RuntimeError):
            training.train()
        training.remove_callback(breaking)
    else:
        training.train()
    recorder.hooks.clear()
    training.train()
    assert recorder.hooks == [4] * 4
    assert noise.draws == 4
    assert noise.attestation is not None
    assert noise.attestation.hooks == 1
    assert hooks_on(model) == 0


def test_auto_find_batch_size_restarts_the_noise(tmp_path: Path) -> None:
    model, noise = tiny_llama(), NEFTuneCallback()
    sizes: list[int] = []

    def collate(rows: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 2 and len(sizes) > 1:
            raise RuntimeError("CUDA out of memory.")
        return default_data_collator(rows)

    options = {"auto_find_batch_size": True, "per_device_train_batch_size": 4}
    trainer(model, tmp_path, noise, collate=collate, **options).train()
    assert sizes[0] > sizes[-1]
    assert noise.draws == 4
    assert hooks_on(model) == 0


@pytest.mark.parametrize("added_later", [False, True])
def test_neftune_noise_alpha_warns_and_is_removed(added_later: bool, tmp_path: Path) -> None:
    models, noise = (tiny_llama(), tiny_llama()), NEFTuneCallback()
    trainer(models[0], tmp_path, NEFTuneCallback()).train()
    training = trainer(models[1], tmp_path, *([] if added_later else [noise]), neftune_noise_alpha=50.0)
    if added_later:
        training.add_callback(noise)
    with pytest.warns(UserWarning, match="neftune_noise_alpha=50 in the training arguments is ignored"):
        training.train()
    assert noise.deviations == ()
    torch.testing.assert_close(weights_of(models[1]), weights_of(models[0]))
    assert hooks_on(models[1]) == 0
    assert not hasattr(models[1].get_input_embeddings(), "neftune_noise_alpha")


def test_steps_without_noise_are_a_deviation(tmp_path: Path) -> None:
    noise, model = NEFTuneCallback(), tiny_llama()
    # Each step sets the whole model to training mode again.
    model.register_forward_pre_hook(lambda *_: model.get_input_embeddings().eval() and None)
    trainer(model, tmp_path, noise).train()
    assert noise.deviations == ("only 0 calls in 4 steps had noise",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "; -1.0 was given"),
        ({"alpha": float("nan")}, "; nan was given"),
        ({"alpha": float("inf")}, "; inf was given"),
        ({"schedule": "steps"}, "noise schedule 'steps' is unknown"),
        ({"noise": "pink"}, "noise distribution 'pink' is unknown"),
        ({"noise_scale": "x"}, "noise scale 'x' is unknown"),
        ({"target": "x"}, "noise target 'x' is unknown"),
    ],
)
def test_invalid_options_raise(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NEFTuneCallback(**options)


@pytest.mark.parametrize("field", NoiseSpec.model_fields)
def test_every_field_of_the_spec_changes_the_callback(field: str) -> None:
    values = {
        "alpha": 5.0,
        "noise_scale": "hf",
        "noise_target": "prompt",
        "noise": "gaussian",
        "noise_schedule": "linear",
    }
    default = NEFTuneCallback.from_spec(NoiseSpec(), seed=1).state()
    assert NEFTuneCallback.from_spec(NoiseSpec.model_validate({field: values[field]}), seed=1).state() != default


def test_two_callbacks_raise(tmp_path: Path) -> None:
    model = tiny_llama()
    with pytest.raises(UsageError, match="already has noise from attach_noise or a NEFTuneCallback"):
        trainer(model, tmp_path, NEFTuneCallback(), NEFTuneCallback()).train()
    assert hooks_on(model) == 0


@pytest.fixture(autouse=True)
def _no_unexpected_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*NEFTune.*")
        yield


def test_a_deleted_trainer_is_freed(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        model = tiny_llama()
        training = trainer(model, tmp_path, NEFTuneCallback())
        training.train()
        deleted = weakref.ref(training)
        del training
        assert deleted() is None
    finally:
        gc.enable()


def test_a_callback_keeps_its_measurements_and_not_the_model(tmp_path: Path) -> None:
    model, noise = tiny_llama(), NEFTuneCallback()
    training = trainer(model, tmp_path, noise)
    training.train()
    deleted = weakref.ref(model)
    del training, model
    gc.collect()
    assert deleted() is None
    assert noise.attestation is not None
    assert (noise.attestation.calls, noise.attestation.hooks, noise.deviations) == (4, 1, ())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_pickled_callback_trains_the_same_model(schedule: str, tmp_path: Path) -> None:
    models, noise = (tiny_llama(), tiny_llama(), tiny_llama()), NEFTuneCallback(alpha=50.0, schedule=schedule)
    unpickled = pickle.loads(pickle.dumps(noise))
    trainer(models[0], tmp_path, noise).train()
    trainer(models[1], tmp_path, unpickled).train()
    trainer(models[2], tmp_path, pickle.loads(pickle.dumps(noise))).train()
    assert torch.equal(weights_of(models[1]), weights_of(models[0]))
    assert torch.equal(weights_of(models[2]), weights_of(models[0]))


def calling(event: str, action: Callable[[], object]) -> TrainerCallback:
    """Return a callback that runs an action at the first occurrence of an event."""
    actions = iter([action])

    def run(*_: Any, **__: Any) -> None:
        for one in actions:
            one()

    return type("Calling", (TrainerCallback,), {event: run})()  # type: ignore[no-any-return]


@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("event", ["on_epoch_begin", "on_step_begin", "on_step_end"])
def test_a_callback_added_during_training_raises(event: str, trained_before: bool, tmp_path: Path) -> None:
    model, noise = tiny_llama(), NEFTuneCallback()
    if trained_before:
        trainer(tiny_llama(), tmp_path, noise).train()
    training = trainer(model, tmp_path, calling(event, lambda: training.add_callback(noise)))
    with pytest.raises(UsageError, match="was added after the training began"):
        training.train()
    assert hooks_on(model) == 0
    training.train()
    assert noise.draws == 4


def test_a_callback_added_when_training_begins_adds_noise(tmp_path: Path) -> None:
    noise = NEFTuneCallback()
    training = trainer(tiny_llama(), tmp_path, calling("on_train_begin", lambda: training.add_callback(noise)))
    training.train()
    assert (noise.draws, noise.deviations) == (4, ())


@pytest.mark.parametrize("order", ["noise first", "noise last"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_callback_of_a_training_within_a_training_raises(fails: bool, order: str, tmp_path: Path) -> None:
    models, noise = (tiny_llama(), tiny_llama()), NEFTuneCallback()

    def train_another() -> None:
        with suppress(RuntimeError):
            trainer(models[1], tmp_path, noise, *[failing("on_step_end", RuntimeError)] * fails).train()

    callbacks = [noise, calling("on_step_end", train_another)]
    with pytest.raises(UsageError, match="also used in another training"):
        trainer(models[0], tmp_path, *(callbacks if order == "noise first" else callbacks[::-1])).train()
    assert hooks_on(models[0]) == hooks_on(models[1]) == 0


def test_a_training_within_a_training_has_noise_of_its_own(tmp_path: Path) -> None:
    outer, inner = NEFTuneCallback(), NEFTuneCallback()
    train_another = calling("on_step_end", trainer(tiny_llama(), tmp_path, inner).train)
    trainer(tiny_llama(), tmp_path, outer, train_another).train()
    assert (outer.draws, inner.draws) == (4, 4)
    assert outer.deviations == inner.deviations == ()


def test_a_callback_detached_during_training_adds_no_more_noise(tmp_path: Path) -> None:
    noise, model = NEFTuneCallback(), tiny_llama()
    trainer(model, tmp_path, noise, calling("on_step_end", noise.detach)).train()
    assert noise.draws == 1
    assert "only 1 calls in 4 steps had noise" in noise.deviations


@pytest.mark.parametrize("added_later", [False, True])
def test_a_copied_trainer_trains_its_own_model(added_later: bool, tmp_path: Path) -> None:
    original: Any = trainer(tiny_llama(), tmp_path, *([] if added_later else [NEFTuneCallback()]))
    if added_later:
        original.add_callback(NEFTuneCallback())
    before: Any = weights_of(original.model)
    copied: Any = copy.deepcopy(original)
    copied.train()
    noise = next(one for one in copied.callback_handler.callbacks if isinstance(one, NEFTuneCallback))
    assert (original.state.global_step, copied.state.global_step, noise.draws) == (0, 4, 4)
    assert torch.equal(weights_of(original.model), before)
    assert not torch.equal(weights_of(copied.model), before)
    original.train()
    assert torch.equal(weights_of(original.model), weights_of(copied.model))
    assert hooks_on(original.model) == hooks_on(copied.model) == 0


@pytest.mark.parametrize("seed", ["a", -1, 2**32, 1.5, True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(UsageError, match="seed must be a whole number from 0 to 4294967295"):
        NEFTuneCallback(alpha=5, seed=seed)


def test_a_seed_may_be_a_whole_number_of_numpy() -> None:
    seed: Any = np.int64(7)
    state = NEFTuneCallback(alpha=5, seed=seed).state()
    assert json.loads(json.dumps(state)) == NEFTuneCallback(alpha=5, seed=7).state()
