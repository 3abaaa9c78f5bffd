"""Data-parallel training in two processes: different noise, equal weights, reproducible runs.

The processes average their gradients with gloo on the CPU.
"""

from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from neftune_cli.errors import UsageError
from neftune_cli.noise import attach_noise
from tests.bigram import bigram

PROCESSES = 2
STEPS = 2
ALPHA = 5.0
IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

Outcome = dict[str, Any]


def training_process(rank: int, folder: str) -> None:
    """Train three times in one process and save the outcomes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    runs = [trained(attach_inside=inside, seed=seed) for inside, seed in ((True, 0), (False, 0), (True, 1))]
    torch.save(runs, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def trained(*, attach_inside: bool, seed: int) -> Outcome:
    """Train on the same batch in every process, so that the processes differ in the noise only."""
    model = bigram()
    parallel: Any = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    received: list[Tensor] = []
    with attach_noise(model if attach_inside else parallel.module, ALPHA, seed) as noise:
        embedding = model.get_input_embeddings()
        clean = embedding.weight.detach()[IDS].clone()
        hook = embedding.register_forward_hook(lambda _, __, output: received.append(output.detach().clone()))
        for _ in range(STEPS):
            parallel(input_ids=IDS, attention_mask=MASK).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        hook.remove()
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    return {"first noise": received[0] - clean, "weights": weights, "calls": noise.draws}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Outcome]]:
    """Return the outcomes per process and training: seed 0, seed 0 again, seed 1."""
    folder = tmp_path_factory.mktemp("processes")
    set_forkserver_preload([__name__])  # the processes are forks of one with these imports
    start_processes(training_process, (str(folder),), nprocs=PROCESSES, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def test_processes_draw_different_noise_with_the_papers_magnitude(runs: list[list[Outcome]]) -> None:
    first, second = (process[0]["first noise"] for process in runs)
    for noise in (first, second):
        for row, length in enumerate(MASK.sum(1).tolist()):
            assert noise[row].abs().max().item() == pytest.approx(ALPHA / (length * 16) ** 0.5, rel=0.1)
        assert not noise[MASK == 0].any()
    correlation = torch.corrcoef(torch.stack([first[MASK == 1].flatten(), second[MASK == 1].flatten()]))[0, 1]
    assert abs(correlation.item()) < 0.3


def test_weights_are_equal_in_all_processes(runs: list[list[Outcome]]) -> None:
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first["weights"], second["weights"])
        assert first["calls"] == second["calls"] == STEPS


def test_a_seed_reproduces_a_training_in_all_processes(runs: list[list[Outcome]]) -> None:
    for once, again, other_seed in runs:
        assert torch.equal(once["first noise"], again["first noise"])
        assert torch.equal(once["weights"], again["weights"])
        assert not torch.equal(once["weights"], other_seed["weights"])


def test_rank_0_draws_the_noise_of_a_single_process(runs: list[list[Outcome]]) -> None:
    assert torch.equal(runs[0][0]["first noise"], trained_alone(rank=None))
    assert torch.equal(runs[1][0]["first noise"], trained_alone(rank=1))


def trained_alone(rank: int | None) -> Tensor:
    model = bigram()
    received: list[Tensor] = []
    with attach_noise(model, ALPHA, rank=rank):
        model.get_input_embeddings().register_forward_hook(lambda _, __, output: received.append(output.detach()))
        model(input_ids=IDS, attention_mask=MASK)
    return received[0] - model.get_input_embeddings().weight.detach()[IDS]


def test_data_parallel_copies_raise_with_a_fix() -> None:
    model = bigram()
    with attach_noise(model):
        copies = [model._replicate_for_data_parallel() for _ in range(2)]  # type: ignore[no-untyped-call]
        for copy in copies:
            with pytest.raises(
                UsageError, match=r"copied the model to several devices.*accelerate launch.*CUDA_VISIBLE_DEVICES"
            ):
                copy(input_ids=IDS, attention_mask=MASK)
        assert model(input_ids=IDS, attention_mask=MASK).loss.isfinite()


def test_data_parallel_on_one_device_works() -> None:
    model = bigram()
    parallel: Any = nn.DataParallel(model)  # with at most one device, it calls the model directly
    with attach_noise(model) as noise:
        parallel(input_ids=IDS, attention_mask=MASK)
    assert noise.draws == 1
