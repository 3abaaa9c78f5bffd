"""State of a resumable trainer: optimizer precision, generators, shared memory, halved batches, and bad losses."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.errors import TrialError
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from neftune_cli.store import TrialFolder
from neftune_cli.training import fine_tuning
from neftune_cli.training.learning_curve import LearningCurveCallback
from neftune_cli.training.resumable_trainer import generator_states, load_optimizer, restore_generators
from neftune_cli.training.sft_trainer import build_trainer, sft_config
from neftune_cli.training.snapshots import Snapshot, changing_tensors, read_snapshot, write_snapshot
from neftune_cli.training.trial import halved_batch
from tests.small_model import SMALL_MODEL
from tests.stopped_trials import Attempt, prepared_data, trial_of

pytestmark = pytest.mark.usefixtures("small_model")


def draws() -> list[float]:
    return [random.random(), np.random.normal(), torch.rand(()).item(), torch.randn(()).item()]


def test_generators_are_restored() -> None:
    draws()
    states = generator_states()
    expected = draws()
    draws()
    restore_generators(states)
    assert draws() == expected


def test_optimizer_state_keeps_its_precision() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.tensor([1 / 3] * 3, dtype=torch.float64)
    other = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1, momentum=0.9)
    load_optimizer(other, optimizer.state_dict())
    (state,) = other.state.values()
    assert state["momentum_buffer"].dtype == torch.float64
    assert torch.equal(state["momentum_buffer"], optimizer.state[weight]["momentum_buffer"])
    assert state["momentum_buffer"].data_ptr() != optimizer.state[weight]["momentum_buffer"].data_ptr()


def test_tensors_with_shared_memory_and_transposed_strides(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    flat = torch.arange(32.0)
    for at, layer in enumerate(model):
        layer.weight = nn.Parameter(flat[16 * at : 16 * at + 16].view(4, 4).t())
    write_snapshot(Snapshot(changing_tensors(model), TrainerState(global_step=3), {"tokens": 4}), tmp_path)
    read = read_snapshot(tmp_path, model)
    assert (read.trainer.global_step, read.state) == (3, {"tokens": 4})
    for name, tensor in changing_tensors(model).items():
        assert torch.equal(read.weights[name], tensor)


def test_changing_tensors_hold_tied_weights_once_and_no_frozen_weights() -> None:
    model = nn.ModuleDict(
        {"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False), "rest": nn.Linear(3, 3)}
    )
    model["head"].weight = model["embedding"].weight
    model["rest"].requires_grad_(False)
    model["rest"].register_buffer("seen", torch.zeros(2), persistent=False)
    assert sorted(changing_tensors(model)) == ["embedding.weight", "rest.seen"]


def losses(work: Path, *, halvings: int = 0, broken_step: int | None = None, **train: Any) -> list[float | None]:
    """Train in float32 without noise and return each step's loss."""
    spec = trial_of(bf16=False, **train).spec
    logged: list[float | None] = []
    curve = LearningCurveCallback(
        measure=lambda *_: [],
        append=lambda _: None,
        on_step=lambda p, _: logged.append(p.train_loss),
        stop_on_divergence=False,
    )
    setattr(curve, "on_epoch_end", lambda *_, **__: None)  # noqa: B010
    loaded = load_model(find_model(SMALL_MODEL))
    config = sft_config(spec.train, seed=0, device="cpu", work=work, halvings=halvings)
    trainer = build_trainer(
        loaded.model, loaded.tokenizer, prepared_data().train, config, train=spec.train, callbacks=[curve]
    )
    step: Callable[..., torch.Tensor] = trainer.training_step

    def training_step(*arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = step(*arguments, **named)
        return loss * float("nan") if trainer.state.global_step + 1 == broken_step else loss

    setattr(trainer, "training_step", training_step)  # noqa: B010
    trainer.train()
    return logged


@pytest.mark.parametrize(("halvings", "batch_size"), [((1, 2), 4), ((1,), 10)])
def test_halved_batches_give_the_same_losses(halvings: tuple[int, ...], batch_size: int, tmp_path: Path) -> None:
    whole = losses(tmp_path, batch_size=batch_size)
    steps_per_epoch = -(-len(prepared_data().train) // batch_size)
    assert len(whole) == 2 * steps_per_epoch
    for number in halvings:
        assert losses(tmp_path, batch_size=batch_size, halvings=number) == pytest.approx(whole, rel=1e-4)


def test_halvings_multiply_the_configured_gradient_accumulation() -> None:
    assert halved_batch(trial_of(batch_size=8, gradient_accumulation_steps=3).spec.train, 2, processes=1) == (2, 12)


def test_loss_that_is_not_finite_does_not_affect_other_steps(tmp_path: Path) -> None:
    whole, broken = losses(tmp_path), losses(tmp_path, broken_step=3)
    assert broken == [*whole[:2], None, *whole[3:]]


def test_fewer_visible_gpus_restore_the_first_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    restored = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, device)))
    restore_generators({**generator_states(), "cuda": ["first", "second"]})
    assert restored == [("first", 0)]


class _EndsTraining(TrainerCallback):
    """End the training after a step, as the callback of another library may do."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        control.should_training_stop = state.global_step == 3


def test_a_training_that_ends_before_its_last_step_has_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_callback(*arguments: Any, callbacks: list[Any], **named: Any) -> Any:
        return build_trainer(*arguments, callbacks=[*callbacks, _EndsTraining()], **named)

    monkeypatch.setattr(fine_tuning, "build_trainer", with_callback)
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(TrialError, match=r"^The training ended after step 3 of 8, without a request to stop\.$"):
        Attempt(trial_of(), folder).run()
    assert folder.record() is None
    assert not folder.checkpoints.intact()
