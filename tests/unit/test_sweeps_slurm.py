"""Settings and text of SLURM jobs."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.commands.request import plan_sweep
from neftune_cli.config.run_settings import SweepSettings
from neftune_cli.config.slurm_settings import SLURM_KEYS, parse_slurm
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import UsageError
from neftune_cli.sweeps.inspection import Inspection
from tests.sweep_requests import request_for

pytest.importorskip("submitit", reason="the extra slurm is not installed")

from neftune_cli.sweeps.executors.slurm import SlurmCluster, sbatch_parameters

RECORDED = Path(__file__).parent / "recorded" / "slurm"


def sbatch_text(parameters: Mapping[str, Any], folder: Path, command: str, jobs: int) -> str:
    """Return the text that submitit gives to sbatch; several jobs form a job array."""
    from submitit.slurm.slurm import _make_sbatch_string

    array: dict[str, Any] = {"map_count": jobs} if jobs > 1 else {}
    text: str = _make_sbatch_string(command=command, folder=folder, **parameters, **array)
    return text


def test_text_for_sbatch_is_the_recorded_one() -> None:
    settings = parse_slurm(
        ["partition=gpu", "time=120", "gres=gpu:1", "cpus-per-task=8", "mem=32G", "account=lab", "cluster=slurm"]
    )
    parameters = sbatch_parameters(settings, name="neftune-first", parallel=4)
    text = sbatch_text(parameters, Path("/shared/first/jobs/1"), "run", jobs=12)
    assert text == (RECORDED / "array.sh").read_text()


@pytest.mark.parametrize("key", [key for key in SLURM_KEYS if key != "cluster"])
def test_every_key_reaches_sbatch(key: str) -> None:
    example = SLURM_KEYS[key].example
    text = sbatch_text(sbatch_parameters(parse_slurm([f"{key}={example}"]), name="n", parallel=1), Path("/f"), "run", 1)
    option = "signal" if key == "signal_delay_s" else key.replace("_", "-")
    value = f"USR2@{example}" if key == "signal_delay_s" else shlex.quote(example)
    assert f"#SBATCH --{option}={value}\n" in text


def test_missing_sbatch_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="the command sbatch was not found"):
        SlurmCluster({}).slots()


def refuse_to_inspect(_: SweepSpec) -> Inspection:
    raise AssertionError("A job would be submitted.")


@pytest.mark.parametrize(
    ("results", "cache", "option"), [("50%a", "cache", "--output"), ("50", "10%j", "XDG_CACHE_HOME")]
)
def test_a_path_that_slurm_would_change_is_refused_before_the_first_job(
    results: str, cache: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    request = request_for(tmp_path / results, {"alphas": "0,5"}, settings=SweepSettings(executor="slurm"))
    with pytest.raises(UsageError, match="its path has the character %") as raised:
        plan_sweep(request, refuse_to_inspect)
    assert [one.fix for one in raised.value.problems] == [f"Set {option} to another folder."]
    assert not (tmp_path / results).exists()


def test_other_executors_use_every_path(tmp_path: Path) -> None:
    request = request_for(tmp_path / "50%a", {"alphas": "0,5"})
    with pytest.raises(AssertionError, match="A job would be submitted"):
        plan_sweep(request, refuse_to_inspect)


def test_the_first_line_says_that_a_job_may_wait(tmp_path: Path) -> None:
    said: list[str] = []
    request = request_for(tmp_path / "out", {"alphas": "0,5"}, settings=SweepSettings(executor="slurm"))
    with pytest.raises(AssertionError, match="A job would be submitted"):
        plan_sweep(request, refuse_to_inspect, said.append)
    assert said == ["Reading model and data in a job of the cluster, which may wait for a free node ..."]
