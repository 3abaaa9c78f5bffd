"""`neftune status` on sweeps in every state: output, exit codes, and imported modules."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from neftune_cli.commands.compare import compare
from neftune_cli.commands.status import status
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.records import TrialRecord, TrialStatus
from neftune_cli.store import SweepFolder
from tests.finished_trials import write_sweep_with_responses
from tests.sweep_in_progress import COMMAND, FakeSweep, sweep_in_every_state, trial_id

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys, typer\n"
    "from neftune_cli.commands.status import status\n"
    "app = typer.Typer(); app.command()(status)\n"
    "try:\n    app()\nfinally:\n    assert 'torch' not in sys.modules"
)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[FakeSweep]:
    with sweep_in_every_state(tmp_path / "results" / "bios") as one:
        yield one


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[FakeSweep]:
    with FakeSweep(tmp_path / "results" / "fresh", ["alpha=0"], 1) as one:
        yield one


def _status(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(status)
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_pipe_gets_plain_lines_and_a_failure_exits_with_1(sweep: FakeSweep) -> None:
    result = _status(sweep.folder.path)

    assert result.exit_code == 1
    assert result.stdout.startswith("bios  3 of 10 done, 2 running, 1 failed, 1 stopped, 1 stalled, 2 waiting\n")
    assert "alpha=0   1.5012            40/120 █▇▆▅▄▃▂▁   stalled 12/120" in result.stdout
    assert "\x1b" not in result.stdout
    assert "resume with" not in result.stdout  # two trials run


def test_a_damaged_spec_is_a_problem_beside_the_status(sweep: FakeSweep) -> None:
    (sweep.folder.path / "sweep.yaml").write_text("model: [")
    with pytest.raises(UsageError, match="or remove it and run the command of the sweep again: finished trials are"):
        status([sweep.folder.path])


def test_a_lost_spec_is_reported_and_not_overlooked(sweep: FakeSweep, fresh: FakeSweep) -> None:
    (sweep.folder.path / "sweep.yaml").unlink()
    result = _status(fresh.folder.path.parent)
    assert "fresh  0 of 2 done" in result.stdout
    assert "bios  3 of 10 done" in result.stdout
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).startswith(f"{sweep.folder.path} has trials, but no sweep.yaml. Restore the file")


def test_a_spec_that_does_not_fit_the_trials_is_a_problem_beside_the_status(
    tmp_path: Path, hand_made_records: list[TrialRecord]
) -> None:
    folder = SweepFolder(tmp_path / "edited")
    write_sweep_with_responses(folder, hand_made_records)
    file = folder.path / "sweep.yaml"
    file.write_text(file.read_text().replace("epochs: 3.0", "epochs: 4.0"))
    result = _status(folder.path)
    assert result.stdout.startswith("edited  7 of 7 done\n")
    assert isinstance(result.exception, UsageError)
    assert "train.epochs is 4.0 in the file and 3.0 in the trials. Restore these values." in str(result.exception)


def test_a_sweep_without_trials_has_the_command_that_runs_them(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("alphas: [0]")
    with pytest.raises(NothingToCompareError, match=r"but no trials\. To run them, use `neftune sweep "):
        status([tmp_path])


def test_long_reasons_are_not_cut(fresh: FakeSweep) -> None:
    reason = " ".join(f"word{number}" for number in range(60))
    fresh.fail("alpha=0", 0, reason)

    assert reason in " ".join(_status(fresh.folder.path).stdout.split())


def test_a_stopped_sweep_prints_the_command_that_resumes(fresh: FakeSweep) -> None:
    fresh.stop("alpha=0", 0, 60)
    result = _status(fresh.folder.path)

    assert result.exit_code == 0
    assert shlex.split(result.stdout.splitlines()[-1]) == list(COMMAND)
    assert "No trial is running. Unless a sweep has just been started, resume with" in result.stdout


def test_submitted_jobs_are_named_with_the_command_that_collects_them(fresh: FakeSweep) -> None:
    folder = fresh.folder.new_job_folder()
    fresh.folder.write_jobs(folder, {trial_id(arm, seed): "17" for arm, seed in fresh.planned})
    fresh.finish("base", None, 4.0)
    result = _status(fresh.folder.path)

    assert "No trial is running. 1 submitted job may still wait; with SLURM, `squeue --me` lists them." in result.stdout
    assert shlex.split(result.stdout.splitlines()[-1]) == list(COMMAND)


def test_failures_print_the_command_that_retries(fresh: FakeSweep) -> None:
    fresh.finish("base", None, 4.0)
    fresh.fail("alpha=0", 0, "out of memory")
    result = _status(fresh.folder.path)

    assert shlex.split(result.stdout.splitlines()[-1]) == [*COMMAND, "--retry", "failed"]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("command", "added"),
    [
        (["neftune", "sweep", "--dataset", "mine", "--split", "train"], ["--retry", "failed"]),
        (["python", "-m", "neftune_cli", "sweep", "--output", "train"], ["--retry", "failed"]),
        (["neftune", "sweep", "--retry=failed"], []),
        (["neftune", "train"], []),
        (["python", "-m", "neftune_cli", "train"], []),
    ],
)
def test_only_commands_that_do_not_retry_get_the_option(fresh: FakeSweep, command: list[str], added: list[str]) -> None:
    fresh.folder.write_manifest(fresh.folder.manifest().model_copy(update={"command": tuple(command)}))
    fresh.finish("base", None, 4.0)
    fresh.fail("alpha=0", 0, "out of memory")

    assert shlex.split(_status(fresh.folder.path).stdout.splitlines()[-1]) == [*command, *added]


def test_a_finished_sweep_prints_no_command(fresh: FakeSweep) -> None:
    fresh.finish("base", None, 4.0)
    fresh.finish("alpha=0", 0, 1.5)
    result = _status(fresh.folder.path)

    assert result.stdout.splitlines()[0] == "fresh  2 of 2 done"
    assert "left" not in result.stdout
    assert "neftune" not in result.stdout
    assert result.exit_code == 0


def test_a_folder_of_sweeps_shows_all(sweep: FakeSweep, fresh: FakeSweep) -> None:
    printed = _status(sweep.folder.path.parent).stdout

    assert printed.index("bios  3 of 10 done") < printed.index("fresh  0 of 2 done")


def test_json_has_all_states_and_times(sweep: FakeSweep) -> None:
    result = _status(sweep.folder.path, "--json")
    (shown,) = json.loads(result.stdout)["sweeps"]
    trials = {trial["label"]: trial for trial in shown["trials"]}

    assert result.exit_code == 1
    assert shown["counts"] == {"done": 3, "running": 2, "failed": 1, "stopped": 1, "stalled": 1, "waiting": 2}
    assert shown["command"] == list(COMMAND)
    assert shown["seconds_left"] == pytest.approx(16 + 21 + 24)
    assert shown["age_seconds"] > 0
    assert trials["alpha=5, seed 0"]["eval_loss"] == 1.4987
    assert trials["alpha=0, seed 1"]["state"] == "running"
    assert trials["alpha=0, seed 1"]["step"] == 40
    assert 0 <= trials["alpha=0, seed 1"]["age_seconds"] < 60
    assert trials["alpha=5, seed 2"]["age_seconds"] is None


def test_json_has_every_field_of_the_file_of_a_trial(fresh: FakeSweep) -> None:
    fresh.run("alpha=0", 0, 3, seconds_in_all=9.5, side_by_side=2, parameters=30, trained_parameters=20)
    (file,) = fresh.folder.path.glob("trials/alpha=0*/state.json")
    recorded = json.loads(file.read_text())

    (shown,) = json.loads(_status(fresh.folder.path, "--json").stdout)["sweeps"]

    (trial,) = (one for one in shown["trials"] if one["label"] == "alpha=0, seed 0")
    assert set(TrialStatus.model_fields) == set(recorded)
    del recorded["schema_version"]
    assert {name: trial[name] for name in recorded} == recorded


def test_all_wrong_paths_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as error:
        _raising(tmp_path / "nowhere", tmp_path / "file")

    assert [problem.what for problem in error.value.problems] == [
        f"{tmp_path / 'nowhere'} does not exist.",
        f"{tmp_path / 'file'} is a file, not a folder.",
    ]


def test_a_folder_without_sweeps_exits_with_3(tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError, match="There is no sweep in") as error:
        _raising(tmp_path)

    assert error.value.exit_code == 3


def test_watch_needs_a_terminal(sweep: FakeSweep) -> None:
    with pytest.raises(UsageError, match="--watch needs a terminal"):
        _raising(sweep.folder.path, "--watch")
    with pytest.raises(UsageError, match="--watch and --json cannot be combined"):
        _raising(sweep.folder.path, "--watch", "--json")


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_variables_that_force_colors_do_not_make_a_file_a_terminal(
    variable: str, fresh: FakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.finish("base", None, 4.0)
    fresh.finish("alpha=0", 0, 1.5)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(UsageError, match="--watch needs a terminal"):
        _raising(fresh.folder.path, "--watch")


def _raising(*arguments: str | Path) -> None:
    error = _status(*arguments).exception
    assert error is not None
    raise error


def test_status_imports_no_numerical_libraries(sweep: FakeSweep) -> None:
    command = [sys.executable, "-X", "importtime", "-c", PROGRAM, str(sweep.folder.path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}

    assert ended.returncode == 1, ended.stderr[-500:]
    assert "3 of 10 done" in ended.stdout
    assert "rich.table" in imported
    assert not imported & {"torch", "pandas", "numpy", "transformers", "pyarrow", "scipy"}


def test_watch_ends_when_all_trials_are_done(fresh: FakeSweep) -> None:
    fresh.finish("base", None, 4.0)
    with _Watch(fresh.folder.path) as watching:
        running = fresh.run("alpha=0", 0, 30, seconds=5.0)
        watching.wait_for("1 of 2 done, 1 running")
        running.release()
        watching.wait_for("1 stalled")
        fresh.finish("alpha=0", 0, 1.25)
        watching.wait_for("2 of 2 done")

        assert watching.process.wait(20) == 0
        assert "1.2500" in watching.text


def test_watch_ends_although_an_old_sweep_is_unfinished(fresh: FakeSweep, tmp_path: Path) -> None:
    fresh.finish("base", None, 4.0)
    with FakeSweep(tmp_path / "results" / "old", ["alpha=0"], 1) as old:
        old.stop("alpha=0", 0, 60)
        running = fresh.run("alpha=0", 0, 30, seconds=5.0)
        with _Watch(tmp_path / "results", waiting=0.0) as watching:
            watching.wait_for("  0 of 2 done, 1 stopped, 1 waiting")
            running.release()
            fresh.finish("alpha=0", 0, 1.25)
            watching.wait_for("resume with")

            assert watching.process.wait(20) == 0
            assert "No trial is running" in watching.text.partition("2 of 2 done")[2]


def test_ctrl_c_ends_the_display(fresh: FakeSweep) -> None:
    with _Watch(fresh.folder.path) as watching:
        watching.wait_for("Ctrl-C ends this display, not the sweep")
        watching.process.send_signal(signal.SIGINT)
        watching.wait_for("No trial is running")

        assert watching.process.wait(20) == 0
        assert "Traceback" not in watching.text


class _Watch:
    """`neftune status --watch` on a pseudo-terminal.

    Args:
        folder: results folder.
        waiting: seconds to wait for a trial to start.
    """

    def __init__(self, folder: Path, *, waiting: float = 15.0) -> None:
        self._main, other = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        program = f"from neftune_cli.sweeps.progress import live\nlive.START_SECONDS = {waiting}\n{PROGRAM}"
        command = [sys.executable, "-c", program, str(folder), "--watch"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True
        )
        os.close(other)
        os.set_blocking(self._main, False)
        self.text = ""

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)

    def wait_for(self, text: str) -> None:
        """Read the terminal until it shows a text."""
        until = time.monotonic() + 20
        while text not in self.text:
            assert time.monotonic() < until, self.text[-2000:]
            try:
                self.text += os.read(self._main, 65536).decode(errors="replace")
            except OSError:  # no new output, or the process has ended
                time.sleep(0.05)


def test_a_moved_sweep_resumes_from_its_own_file(fresh: FakeSweep, tmp_path: Path) -> None:
    fresh.stop("alpha=0", 0, 10)
    fresh.folder.write_manifest(fresh.folder.manifest().model_copy(update={"folder": str(tmp_path / "old")}))
    last = _status(fresh.folder.path).stdout.splitlines()[-1]
    folder = str(fresh.folder.path)
    assert shlex.split(last) == ["neftune", "sweep", f"{folder}/sweep.yaml", "--output", folder]


def test_a_damaged_record_is_reported(fresh: FakeSweep) -> None:
    fresh.finish("alpha=0", 0, 1.5)
    next(fresh.folder.path.glob("trials/alpha=0*/record.json")).write_text("{")
    assert "alpha=0, seed 0 cannot be used: its record.json is damaged" in _status(fresh.folder.path).stdout


def test_a_damaged_manifest_does_not_hide_the_trials_of_any_sweep(sweep: FakeSweep, fresh: FakeSweep) -> None:
    fresh.finish("alpha=0", 0, 1.5)
    manifest = fresh.folder.path / "manifest.json"
    manifest.write_text('{"looks": [3')
    result = _status(sweep.folder.path.parent)
    of_bios, of_fresh = result.stdout.split("\nfresh  ")

    assert of_bios.startswith("bios  3 of 10 done")
    assert of_fresh.startswith("1 of 1 done\n")
    assert "alpha=0  1.5000" in of_fresh
    assert "resume with" not in of_fresh
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2
    assert str(result.exception) == (
        f"{manifest} is damaged. Restore it from a backup. If seeds were never added to the sweep, it can be removed "
        "instead."
    )


def _plan_a_look(sweep: FakeSweep) -> Path:
    """Plan a look at three seeds, and return the path of the manifest."""
    options = {"alphas": [0.0, 5.0], "seeds": [0, 1, 2], "until_decided": True, "looks": (3,)}
    sweep.folder.open(resolve_sweep(None, options), replaces=sweep.folder.spec())
    return sweep.folder.path / "manifest.json"


def test_a_missing_manifest_of_planned_looks_is_reported(fresh: FakeSweep) -> None:
    manifest = _plan_a_look(fresh)
    manifest.unlink()
    assert _status(fresh.folder.path).exit_code == 0  # a sweep that was killed at its start
    fresh.finish("alpha=0", 0, 1.5)

    result = _status(fresh.folder.path)

    assert "alpha=0  1.5000" in result.stdout
    assert "looks" not in result.stdout
    expected = (
        f"{manifest} is missing. Restore it from a backup. Without one, run the sweep command again, which takes the "
        "looks again and writes the file."
    )
    assert str(result.exception) == expected


def test_a_missing_manifest_of_planned_looks_is_not_compared(fresh: FakeSweep) -> None:
    manifest = _plan_a_look(fresh)
    fresh.finish("alpha=0", 0, 1.5)
    manifest.unlink()

    with pytest.raises(UsageError) as error:
        compare([fresh.folder.path])
    assert str(error.value).startswith(
        f"{manifest} is missing. Restore it from a backup. Without one, run the sweep command again"
    )


def test_json_has_the_trials_of_a_sweep_with_a_damaged_manifest(fresh: FakeSweep) -> None:
    fresh.stop("alpha=0", 0, 10)
    (fresh.folder.path / "manifest.json").write_text("[]")
    result = _status(fresh.folder.path, "--json")
    (shown,) = json.loads(result.stdout)["sweeps"]

    assert isinstance(result.exception, UsageError)
    assert [(trial["label"], trial["state"]) for trial in shown["trials"]] == [("alpha=0, seed 0", "stopped")]
    assert shown["command"] == []


def test_a_manifest_without_its_fields_is_reported_as_damaged(fresh: FakeSweep) -> None:
    (fresh.folder.path / "manifest.json").write_text("{}")

    error = _status(fresh.folder.path).exception

    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert "manifest.json is damaged" in str(error)
