"""Micro-batches compared with whole batches and with TRL's own trainer: gradients, losses, draws of the noise."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import BatchSampler
from transformers import TrainerCallback
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.config.choices import IGNORED_LABEL
from neftune_cli.config.spec import TrainSpec
from neftune_cli.data.examples import Example, TokenizedExample
from neftune_cli.evaluation.batches import batches_by_length, padded_tokens
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise import NEFTuneCallback, attach_noise
from neftune_cli.training.micro_batches import MicroBatchTrainer, first_rows, micro_batches
from neftune_cli.training.resumable_trainer import ResumableTrainer
from neftune_cli.training.sft_trainer import build_trainer, sft_config
from tests.small_model import SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

TOLERANCE = 1e-5
"""Largest relative difference of gradients that are summed in another order, in float32."""
SMALLEST_BATCH = 8


def examples(count: int = 12) -> list[TokenizedExample]:
    """Return examples of 4 to 60 tokens, the first of them with one labelled token."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(4, 60, (count,), generator=generator).tolist()
    prompts = [length - 1 if not row else length // 3 for row, length in enumerate(lengths)]
    return [
        TokenizedExample(
            Example(str(row), (), "", "cluster"),
            tuple(torch.randint(5, 1000, (length,), generator=generator).tolist()),
            prompt,
        )
        for row, (length, prompt) in enumerate(zip(lengths, prompts, strict=True))
    ]


class Gradients(TrainerCallback):
    """Copy the gradients of every optimizer step, and the logged losses."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.losses: list[float] = []
        self.tokens: list[float] = []

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        named = model.named_parameters()
        self.steps.append({name: one.grad.clone() for name, one in named if one.grad is not None})

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])
            self.tokens.append(logs["num_tokens"])


def trainer_of(
    work: Path, rows: list[TokenizedExample], callback: TrainerCallback, *, tokens: int, **fields: Any
) -> ResumableTrainer:
    loaded = load_model(find_model(SMALL_MODEL))
    train = TrainSpec(
        epochs=1,
        learning_rate=1e-3,
        batch_size=SMALLEST_BATCH,
        max_length=64,
        micro_batch_tokens=tokens,
        **{"precision": "float32", "max_grad_norm": 1e9, **fields},
    )
    config = sft_config(train, seed=0, device="cpu", work=work)
    return build_trainer(loaded.model, loaded.tokenizer, rows, config, train=train, callbacks=[callback])


def trained(work: Path, *, tokens: int, own_loss: bool = True, alpha: float = 0.0, **fields: Any) -> Gradients:
    recorded = Gradients()
    trainer = trainer_of(work, examples(), recorded, tokens=tokens, **fields)
    if not own_loss:
        trainer.compute_loss = lambda *given, **named: SFTTrainer.compute_loss(trainer, *given, **named)  # type: ignore[method-assign,no-untyped-call]
    with attach_noise(cast(nn.Module, trainer.model), alpha=alpha, seed=3):
        trainer.train()
    return recorded


def assert_same_gradients(found: Gradients, expected: Gradients, tolerance: float = TOLERANCE) -> None:
    assert len(found.steps) == len(expected.steps) > 0
    for one, other in zip(found.steps, expected.steps, strict=True):
        assert one.keys() == other.keys()
        for name in other:
            assert (one[name] - other[name]).norm() <= tolerance * other[name].norm(), name
    assert found.losses == pytest.approx(expected.losses, rel=tolerance)
    assert found.tokens == expected.tokens


@pytest.mark.parametrize("tokens", [0, 64])
def test_the_noise_scale_hf_uses_the_padded_length_of_the_whole_batch(tokens: int, tmp_path: Path) -> None:
    callback = NEFTuneCallback(alpha=5.0, noise="bernoulli", noise_scale="hf")
    rows = examples(SMALLEST_BATCH)
    trainer = trainer_of(tmp_path, rows, callback, tokens=tokens, max_steps=1)
    model = cast(Any, trainer.model)
    clean: list[Tensor] = []
    sizes: list[Tensor] = []
    model.get_input_embeddings().register_forward_hook(lambda _, __, output: clean.append(output.detach()))
    model.model.layers[0].register_forward_pre_hook(
        lambda _, given: sizes.append((given[0].detach() - clean[-1]).abs())
    )

    trainer.train()

    longest = max(len(one.input_ids) for one in rows)
    coordinate = 5.0 / math.sqrt(3 * longest * model.config.hidden_size)
    assert len(sizes) > 1 or not tokens
    for one in sizes:
        torch.testing.assert_close(one, torch.full_like(one, coordinate), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("tokens", [1, 64, 100_000])
def test_micro_batches_have_the_gradient_of_trls_padded_batch(tokens: int, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", tokens=0, max_steps=1)
    assert_same_gradients(trained(tmp_path / "parts", tokens=tokens, max_steps=1), whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"gradient_accumulation_steps": 2},
        {"lora_rank": 4},
        {"gradient_checkpointing": True},
        {"label_smoothing_factor": 0.1},
        {"loss_type": "dft"},
    ],
    ids=str,
)
def test_micro_batches_have_the_same_gradient_with_other_recipes(fields: dict[str, Any], tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", tokens=0, max_steps=1, **fields)
    assert_same_gradients(trained(tmp_path / "parts", tokens=64, max_steps=1, **fields), whole)


def test_trls_loss_of_all_positions_has_the_same_gradient(tmp_path: Path) -> None:
    trls = trained(tmp_path / "trl", tokens=64, own_loss=False, max_steps=1)
    assert_same_gradients(trained(tmp_path / "own", tokens=64, max_steps=1), trls)


def test_micro_batches_in_bfloat16_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """The gradients differ by rounding errors of bfloat16, at most 2**-6 of their norm."""
    whole = trained(tmp_path / "whole", tokens=0, max_steps=1, precision="bfloat16")
    assert_same_gradients(trained(tmp_path / "parts", tokens=64, max_steps=1, precision="bfloat16"), whole, 2**-6)


class Casts(TorchDispatchMode):
    """Count the conversions of each parameter to bfloat16."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self._names = {one.data_ptr(): name for name, one in model.named_parameters()}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if function is torch.ops.aten._to_copy.default and named.get("dtype") is torch.bfloat16:
            self.counts.update(name for name in [self._names.get(args[0].data_ptr())] if name)
        return function(*args, **named)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_weights_in_bfloat16_are_cast_once_for_all_micro_batches(accumulated: int, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"precision": "bfloat16", "gradient_accumulation_steps": accumulated, "max_steps": 1}
    trainer = trainer_of(tmp_path, examples(2 * SMALLEST_BATCH), TrainerCallback(), tokens=64, **recipe)
    forwards: list[object] = []
    model = cast(nn.Module, trainer.model)
    model.register_forward_pre_hook(lambda *_: forwards.append(None))

    with Casts(model) as casts:
        trainer.train()

    assert len(forwards) > 2 * accumulated
    assert casts.counts["model.layers.0.mlp.down_proj.weight"] == accumulated
    assert set(casts.counts.values()) == {accumulated}


def test_arms_with_micro_batches_share_the_draws_of_the_noise(tmp_path: Path) -> None:
    """The change of a weight's gradient is proportional to a small alpha, which holds only if the arms share draws."""
    clean, small, double = (
        trained(tmp_path / str(alpha), tokens=64, alpha=alpha, max_steps=1).steps[0] for alpha in (0.0, 0.01, 0.02)
    )
    name = "model.layers.0.mlp.down_proj.weight"
    first, second = small[name] - clean[name], double[name] - clean[name]
    assert first.norm() > 0
    assert (second - 2 * first).norm() < 0.05 * second.norm()


def test_micro_batches_hold_each_row_once_without_needless_padding() -> None:
    lengths = [5, 1, 9, 9, 2, 7]
    ids = torch.arange(1, 61).view(6, 10)
    mask = (torch.arange(10) < torch.tensor(lengths)[:, None]).long()
    inputs = {"input_ids": ids * mask, "attention_mask": mask, "labels": ids, "position_ids": None}
    parts = list(micro_batches(inputs, 18))
    assert sorted(int(row[0]) for part in parts for row in part["input_ids"]) == [1, 11, 21, 31, 41, 51]
    assert [tuple(part["input_ids"].shape) for part in parts] == [(2, 9), (2, 7), (2, 2)]
    assert all(part["attention_mask"][0].all() for part in parts)
    assert all(part.keys() == {"input_ids", "attention_mask", "labels"} for part in parts)


def test_batches_by_length_are_full_and_hold_each_index_once() -> None:
    lengths = [3, 8, 8, 1, 30, 4]
    batches = list(batches_by_length(lengths, 16))
    assert batches == [[4], [1, 2], [5, 0, 3]]
    assert padded_tokens(lengths, 16) == 30 + 16 + 12
    assert list(batches_by_length([], 16)) == []


def test_packed_batches_are_left_to_trl(tmp_path: Path) -> None:
    loaded = load_model(find_model(SMALL_MODEL))
    train = TrainSpec(epochs=1, max_steps=1, learning_rate=1e-3, batch_size=2, max_length=64, sft={"packing": True})
    config = sft_config(train, seed=0, device="cpu", work=tmp_path)
    trainer = build_trainer(loaded.model, loaded.tokenizer, examples(), config, train=train, callbacks=[])
    assert isinstance(trainer, MicroBatchTrainer)
    inputs = {"input_ids": torch.ones(1, 8), "labels": torch.ones(1, 8), "position_ids": torch.arange(8)[None]}
    assert not trainer._can_divide(inputs)


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(("count", "size", "processes"), [(21, 2, 2), (17, 4, 2), (9, 2, 4), (16, 4, 2), (3, 4, 2)])
def test_processes_train_each_example_once_and_none_of_them_misses_a_batch(
    count: int, size: int, processes: int, accumulated: int
) -> None:
    sampler = BatchSampler(range(count), size, drop_last=False)
    samplers = [BatchSamplerShard(sampler, processes, rank) for rank in range(processes)]
    divided = [_trained_examples(list(one), count, rank, processes, accumulated) for rank, one in enumerate(samplers)]

    assert len({len(batches) for batches in divided}) == 1
    in_order = [[example for batch in batches for example in batch] for batches in zip(*divided, strict=True)]
    whole = size * processes
    assert in_order == [list(range(count))[first : first + whole] for first in range(0, count, whole)]


def _trained_examples(
    batches: list[list[int]], count: int, rank: int, processes: int, accumulated: int
) -> list[list[int]]:
    """Return the examples with labels in each batch of a process. The input of an example is its number."""
    state = SimpleNamespace(end_of_dataloader=False)
    arguments = SimpleNamespace(
        dataloader_drop_last=False,
        train_sampling_strategy="random",
        average_tokens_across_devices=True,
        world_size=1,
        n_gpu=1,
    )
    trainer: Any = object.__new__(MicroBatchTrainer)
    trainer.args, trainer.train_dataset, trainer.model_accepts_loss_kwargs = arguments, range(count), True
    trainer.accelerator = SimpleNamespace(num_processes=processes, process_index=rank, gradient_state=state)
    trainer._get_num_items_in_batch = lambda *_: None

    def read() -> Iterator[dict[str, Tensor]]:
        for number, batch in enumerate(batches, start=1):
            state.end_of_dataloader = number == len(batches)
            rows = torch.tensor(batch)[:, None].expand(-1, 5)
            yield {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows}

    source, found = read(), []
    while step := trainer.get_batch_samples(source, accumulated, torch.device("cpu"))[0]:
        found += step
    return [batch["input_ids"][(batch["labels"] != IGNORED_LABEL).any(1), 0].tolist() for batch in found]


def test_a_process_without_examples_has_no_loss_and_no_gradient(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, examples(), Gradients(), tokens=0)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.training_step(cast(nn.Module, trainer.model), first_rows(batch, 0), torch.tensor(7))
    assert loss.item() == 0
    gradients = [one.grad for one in cast(nn.Module, trainer.model).parameters() if one.grad is not None]
    assert gradients
    assert not any(one.any() for one in gradients)
