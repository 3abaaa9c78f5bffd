"""Trials that two gloo processes share in shards (FSDP) equal those of DistributedDataParallel, also after resumes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neftune_cli.config.run_settings import Sharding, TrialSettings
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.store import SweepFolder, TrialFolder
from tests.accelerate_files import written
from tests.contract.test_data_parallel import SUM_ORDER
from tests.small_model import SMALL_MODEL
from tests.stopped_trials import TRAINED, run_with_stops, trial_files, trial_of

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@pytest.mark.slow
@two_cores
@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("recipe", "efficient_loading"),
    [
        ({}, True),
        ({"lora_rank": 4}, False),
        ({"sft": {"gradient_checkpointing": True}}, False),
    ],
)
def test_shards_change_no_result(tmp_path: Path, recipe: dict[str, Any], efficient_loading: bool) -> None:
    """Neither does a stop within an epoch, at the end of an epoch, or after training."""
    sharded = _sharded(cpu_ram_efficient_loading=efficient_loading)
    run_with_stops(trial_of(**recipe), tmp_path / "whole", [], TrialSettings(processes=2, keep_model=True), _model)
    run_with_stops(trial_of(**recipe), tmp_path / "sharded", [], sharded, _model)
    run_with_stops(trial_of(**recipe), tmp_path / "resumed", [3, 4, TRAINED], sharded, _model)
    expected = trial_files(tmp_path / "whole")
    assert trial_files(tmp_path / "sharded") == expected
    assert trial_files(tmp_path / "resumed") == expected
    for config in (tmp_path / "whole/model").glob("config.json"):  # adapters have none
        assert (tmp_path / "sharded/model/config.json").read_text() == config.read_text()


@pytest.mark.slow
@two_cores
@pytest.mark.usefixtures("small_model")
def test_gradient_accumulation_sums_in_another_order(tmp_path: Path) -> None:
    """Each process accumulates two batches of one example. The last step ends within an epoch."""
    trial = trial_of(batch_size=1, sft={"gradient_accumulation_steps": 4}, max_steps=7)
    settings = _sharded()
    run_with_stops(trial, tmp_path / "whole", [], TrialSettings(processes=2, keep_model=True), _model)
    run_with_stops(trial, tmp_path / "sharded", [], settings, _model)
    run_with_stops(trial, tmp_path / "resumed", [2, TRAINED], settings, _model)
    whole, sharded = (
        [point.train_loss for point in TrialFolder(tmp_path / name).curve() if point.train_loss is not None]
        for name in ("whole", "sharded")
    )
    assert sharded == pytest.approx(whole, rel=SUM_ORDER)
    assert trial_files(tmp_path / "resumed") == trial_files(tmp_path / "sharded")


@pytest.mark.slow
@two_cores
@pytest.mark.usefixtures("small_model")
def test_shards_in_bfloat16_have_the_noise_of_the_formula(tmp_path: Path) -> None:
    """A trial whose noise deviates from the formula fails."""
    settings = _sharded()
    run_with_stops(trial_of(precision="bfloat16"), tmp_path / "trial", [3], settings, _model)


@pytest.mark.slow
@two_cores
def test_a_sweep_reads_the_file_of_accelerate(tmp_path: Path) -> None:
    sweep = "sweep --alphas 0,5 --seeds 1 --max-steps 4 --no-estimate --train-examples 32 --eval-examples 8 --quiet"
    for name, more in (("whole", ["--nproc", "2"]), ("sharded", ["--accelerate-config", str(written(tmp_path))])):
        command = [sys.executable, "-m", "neftune_cli", *sweep.split(), "--max-new-tokens", "4", "--output", name]
        subprocess.run([*command, *more], check=True, capture_output=True, cwd=tmp_path)
    whole, sharded = (pd.read_csv(tmp_path / name / "loss.csv") for name in ("whole", "sharded"))
    pd.testing.assert_frame_equal(whole, sharded)
    one, other = (
        {record.identity["environment"].get("fsdp") for record in SweepFolder(tmp_path / name).records()}
        for name in ("whole", "sharded")
    )
    assert one == {None}
    assert None not in other


_DEAD_RANK = """
import subprocess, sys, threading
from neftune_cli.training.data_parallel import end_with_others
other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
end_with_others([other], threading.Event(), notice_seconds=0.1)
"""


def test_a_process_that_waits_for_a_dead_rank_ends() -> None:
    result = subprocess.run([sys.executable, "-c", _DEAD_RANK], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Process 1 of the trial ended with exit code 3; its error is above. Rank 0 ends too.\n"


def _sharded(**fsdp: bool) -> TrialSettings:
    return TrialSettings(processes=2, sharding=Sharding(2, fsdp=fsdp), keep_model=True)


def _model() -> LoadedModel:
    return load_model(find_model(SMALL_MODEL))
