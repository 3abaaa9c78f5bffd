"""Arms of a TRL training run differ only in the noise: alpha 0 equals no hook, and the seed sets the data order."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import tokenize
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise import attach_noise
from neftune_cli.training.sft_trainer import build_trainer, sft_config

STEPS = 3


def trained(work: Path, *, alpha: float | None, seed: int = 0) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Train a few steps. Return the weights and the token ids of each batch. With alpha None, no hook is attached."""
    loaded = load_model(find_model("tiny"))
    spec = resolve_sweep(None, {"train": {"max_steps": STEPS, "batch_size": 4}}).train
    config = sft_config(spec, seed=seed, device="cpu", work=work)
    trainer = build_trainer(loaded.model, loaded.tokenizer, examples(), config, train=spec, callbacks=[])
    batches: list[Tensor] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        batches.append(inputs[0].clone())

    hook = loaded.model.get_input_embeddings().register_forward_pre_hook(record)
    if alpha is None:
        trainer.train()
    else:
        with attach_noise(loaded.model, alpha=alpha, seed=seed):
            trainer.train()
    hook.remove()
    return {name: weight.detach().clone() for name, weight in loaded.model.state_dict().items()}, batches


def examples() -> tuple[TokenizedExample, ...]:
    data = load_data(InputSpec(train_examples=32, eval_examples=4))
    return tokenize(data.train, load_model(find_model("tiny")).tokenizer, max_length=128).examples


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[Tensor]]:
    return trained(tmp_path_factory.mktemp("without"), alpha=None)


def test_alpha_0_is_bit_identical_to_no_hook(without: tuple[dict[str, Tensor], list[Tensor]], tmp_path: Path) -> None:
    assert equal(trained(tmp_path, alpha=0.0)[0], without[0])


def test_noise_changes_the_weights_but_not_the_batches(
    without: tuple[dict[str, Tensor], list[Tensor]], tmp_path: Path
) -> None:
    weights, batches = trained(tmp_path, alpha=5.0)
    assert not equal(weights, without[0])
    assert len(batches) == STEPS
    assert all(torch.equal(one, other) for one, other in zip(batches, without[1], strict=True))


def test_seed_determines_weights_and_data_order(tmp_path: Path) -> None:
    first, again, other = (trained(tmp_path, alpha=5.0, seed=seed) for seed in (0, 0, 1))
    assert equal(first[0], again[0])
    assert [batch.tolist() for batch in first[1]] != [batch.tolist() for batch in other[1]]
