"""Runs that were exported, and runs of trials that were tracked live, read back by the trackers' own clients."""

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

import neftune_cli.api
from neftune_cli.config.run_settings import LiveTracker
from neftune_cli.errors import UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.runner import SweepOutcome
from neftune_cli.trackers import TrackedRun, make_tracker
from neftune_cli.trackers.wandb import WandbRuns
from tests.command_line import Neftune

SMALL = ["--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "4"]
TWO_ARMS = ["sweep", "--alphas", "0,5", "--seeds", "1", "--no-estimate", *SMALL]
needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None or find_spec("sqlalchemy") is None, reason="mlflow is not installed with sqlalchemy"
)
needs_trackio = pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
"""Marks, and not `importorskip` in the tests, so that no sweep is trained for tests that are skipped."""
RESULTS = ("record.json", "metrics.jsonl", "generations.jsonl")


@pytest.fixture(scope="module")
def kept_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the sweep of `sweep`, which is trained once for all tests."""
    return tmp_path_factory.mktemp("kept") / "out"


@pytest.fixture
def sweep(kept_sweep: Path, tmp_path: Path, neftune: Neftune) -> SweepFolder:
    """Return a finished sweep of two trainings."""
    if not kept_sweep.exists():
        assert neftune(*TWO_ARMS, "--output", "out").code == 0
        shutil.copytree(tmp_path / "out", kept_sweep)
    else:
        shutil.copytree(kept_sweep, tmp_path / "out")
    return SweepFolder(tmp_path / "out")


@needs_tensorboard
def test_tensorboard_shows_curves_and_results(sweep: SweepFolder, neftune: Neftune) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert "4 runs written, 0 written before" in neftune("export", "out", "--to", "tensorboard", "--output", "tb").err
    assert "0 runs written, 4 written before" in neftune("export", "out", "--to", "tensorboard", "--output", "tb").err
    record = next(one for one in sweep.records() if one.arm == "alpha=5")
    (folder,) = Path("tb/out").glob(f"*-{record.trial}")
    events = EventAccumulator(str(folder)).Reload()
    curve = [point.train_loss for trial, one in sweep.finished() if one is not None for point in trial.curve()]
    assert curve
    (final,) = events.Scalars("final/eval_loss")
    assert final.value == pytest.approx(record.loss.eval_loss)
    assert [one.step for one in events.Scalars("learning_rate")] == [1, 2]


@needs_tensorboard
def test_an_export_to_tensorboard_completes_a_run_whose_tracking_ended_early(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    curves = [(1, {"train_loss": 3.0}), (2, {"train_loss": 2.0})]
    run = TrackedRun("alpha=5,seed=0", "abc", {"alpha": 5.0}, curves, {"eval_loss": 2.5})
    folder = tmp_path / "group" / "alpha=5,seed=0-abc"
    live = EventFileWriter(str(folder))
    live.add_event(Event(step=1, summary=Summary(value=[Summary.Value(tag="train/loss", simple_value=3.0)])))
    live.close()
    tracker = make_tracker("tensorboard", tmp_path, "--to")
    assert [tracker.write("group", run), tracker.write("group", run)] == [True, False]
    events = EventAccumulator(str(folder)).Reload()
    assert [(one.step, one.value) for one in events.Scalars("train_loss")] == [(1, 3.0), (2, 2.0)]
    assert [one.value for one in events.Scalars("final/eval_loss")] == [2.5]


@needs_mlflow
def test_mlflow_has_parameters_metrics_and_the_report(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "4 runs written" in neftune("export", "out", "--to", "mlflow", "--output", "ml").err
    assert "0 runs written" in neftune("export", "out", "--to", "mlflow", "--output", "ml").err
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{Path('ml/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("out")
    runs = {run.info.run_name: run.data for run in client.search_runs([experiment.experiment_id])}
    record = next(one for one in sweep.records() if one.arm == "alpha=5")
    (trained,) = [data for name, data in runs.items() if name.startswith("alpha=5")]
    assert (trained.params["alpha"], trained.params["seed"]) == ("5.0", "0")
    assert trained.metrics["final/eval_loss"] == pytest.approx(record.loss.eval_loss)
    (comparison,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'comparison'")
    assert "report.html" in {one.path for one in client.list_artifacts(comparison.info.run_id)}


def test_a_missing_library_is_named_with_its_installation(neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"--to wandb-offline: .* is not installed. Run `pip install wandb`"):
        make_tracker("wandb-offline", Path("runs"), "--to")


def test_a_folder_without_sweeps_has_nothing_to_export(tmp_path: Path, neftune: Neftune) -> None:
    assert neftune("export", str(tmp_path), "--to", "tensorboard").code == 3


@needs_tensorboard
@needs_mlflow
def test_running_trials_are_tracked_and_have_the_same_results(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert neftune(*TWO_ARMS, "--output", "live", "--track", "tensorboard", "--track", "mlflow").code == 0
    live = SweepFolder(Path("live"))
    for (one, record), (other, _) in zip(sweep.finished(), live.finished(), strict=True):
        assert all((one.path / name).read_bytes() == (other.path / name).read_bytes() for name in RESULTS)
        events = EventAccumulator(str(next(Path("tensorboard/live").glob(f"*-{record.trial}")))).Reload()
        assert events.Scalars("final/eval_loss")[0].value == pytest.approx(record.loss.eval_loss)
    folder, record = next((folder, one) for folder, one in sweep.finished() if one.arm == "alpha=5")
    steps = {point.step: point.train_loss for point in folder.curve() if point.train_loss is not None}
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{Path('mlflow/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("live").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == 4  # the base model, two trainings and the comparison
    run = runs[folder.folder_label]
    assert {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")} == pytest.approx(steps)
    assert run.data.metrics["eval_loss"] == pytest.approx(record.loss.eval_loss)
    assert (run.data.params["alpha"], run.data.params["seed"]) == ("5.0", "0")
    files = {one.path for one in client.list_artifacts(runs["comparison"].info.run_id)}
    assert files == {"report.html", "summary.md", "loss.csv", "eval.csv"}
    assert "0 runs written, 4 written before" in neftune("export", "live", "--to", "mlflow").err


class TrackedFiles:
    """Tracker that keeps the contents of the files of runs."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, bytes]] = {}

    def prepare(self, group: str) -> None:
        """Do nothing."""

    def write(self, group: str, run: TrackedRun) -> bool:
        self.runs[run.name] = {file.name: file.read_bytes() for file in run.files}
        return True


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> TrackedFiles:
    """Return the tracker of all sweeps. Its sweeps must have no trial to run."""
    tracker = TrackedFiles()
    monkeypatch.setitem(sys.modules, "tensorboard", MagicMock())  # its library need not be installed
    monkeypatch.setattr("neftune_cli.trackers.make_tracker", lambda *_: tracker)
    monkeypatch.setattr("neftune_cli.trackers.runs.make_tracker", lambda *_: tracker)
    return tracker


@pytest.mark.parametrize("caller", ["command", "program"])
def test_the_comparison_of_a_tracked_sweep_has_its_own_report(
    caller: str, sweep: SweepFolder, neftune: Neftune, tracker: TrackedFiles
) -> None:
    (sweep.path / "report.html").write_text("an earlier report")
    (sweep.path / "summary.md").unlink()
    if caller == "command":
        assert neftune(*TWO_ARMS, "--output", "out", "--track", "tensorboard").code == 0
    else:
        again = neftune_cli.api.sweep(sweep.path / "sweep.yaml", output="out", track=["tensorboard"], progress=False)
        assert again.trials_run == 0
    files = tracker.runs["comparison"]
    assert files.keys() == {"report.html", "summary.md", "loss.csv", "eval.csv"}
    assert files == {name: (sweep.path / name).read_bytes() for name in files}
    assert b"an earlier report" not in files["report.html"]
    assert b"alpha=5" in files["report.html"]


def test_a_sweep_that_was_cut_short_has_no_comparison_in_trackers(
    sweep: SweepFolder, neftune: Neftune, tracker: TrackedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = SweepOutcome(0, 0, 0, {}, left=1, stopped=True)
    monkeypatch.setattr("neftune_cli.commands.execution.run_plan", lambda *_: stopped)
    assert neftune(*TWO_ARMS, "--output", "out", "--track", "tensorboard").code == 0
    assert tracker.runs == {}


def test_offline_runs_of_wandb_are_tracked(tmp_path: Path, neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = ["train", "--alpha", "5", *SMALL, "--track", "wandb", "--output", "out"]
    assert neftune(*command).code == 0
    written = {path.name.rsplit("-", 1)[1] for path in Path("wandb/wandb").glob("offline-run-*")}
    assert {record.trial for record in SweepFolder(tmp_path / "out").records()} <= written


def test_offline_runs_of_wandb_have_copies_of_the_report(sweep: SweepFolder, neftune: Neftune) -> None:
    pytest.importorskip("wandb")
    exported = neftune("export", "out", "--to", "wandb-offline", "--output", "wb")
    assert (exported.code, exported.err) == (0, "out: 4 runs written, 0 written before\n")
    shutil.move("wb", "moved")
    expected = {name: (sweep.path / name).read_bytes() for name in ("report.html", "summary.md", "loss.csv")}
    shutil.rmtree(sweep.path)
    (files,) = Path("moved/wandb").glob("offline-run-*-comparison*/files")
    assert {name: (files / name).read_bytes() for name in expected} == expected


def test_wandb_without_a_login_is_refused_before_the_first_trial(
    tmp_path: Path, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # the library reads the environment once in a process
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    refused = neftune(*TWO_ARMS, "--output", "out", "--track", "wandb")
    assert refused.code == 2
    assert "Run `wandb login`, or set WANDB_MODE=offline" in refused.err
    assert not SweepFolder(tmp_path / "out").records()


@pytest.fixture
def trackio_imported_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget trackio before and after a test, because it reads its folder when it is imported."""
    for name in ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID"):
        monkeypatch.setenv(name, "")  # so that the value of the test is removed after it
        monkeypatch.delenv(name)
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "trackio"}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection fail the test, with a token that would log in to the Hub."""
    import socket

    def refuse(_: socket.socket, address: object) -> None:
        pytest.fail(f"connected to {address}")

    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr("huggingface_hub.whoami", lambda **_: pytest.fail("asked the Hub for the name of the user"))


def logged(folder: str, project: str) -> dict[str, tuple[dict[str, str], list[dict[str, float]]]]:
    """Return the parameters and the logged values of each run, as trackio's own client reads them."""
    trackio: Any = import_module("trackio")
    assert Path(folder).absolute() == trackio.TRACKIO_DIR
    runs = list(trackio.Api().runs(project))
    assert len({run.id for run in runs}) == len(runs)
    return {
        run.name: (run.config or {}, trackio.SQLiteStorage.get_logs(project, run.name, run_id=run.id)) for run in runs
    }


@needs_trackio
@pytest.mark.usefixtures("trackio_imported_anew", "no_network")
@pytest.mark.parametrize("mode", ["sqlite", "jsonl"])
def test_trackio_has_curves_parameters_and_the_report(
    mode: str, sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_STORAGE_MODE", mode)
    exported = neftune("export", "out", "--to", "trackio", "--output", "tr")
    assert (exported.code, exported.out) == (0, "")
    assert "4 runs written, 0 written before" in exported.err
    assert "0 runs written, 4 written before" in neftune("export", "out", "--to", "trackio", "--output", "tr").err
    found = logged("tr", "out")
    for folder, record in sweep.finished():
        parameters, values = found[folder.folder_label]
        final = next(one for one in values if "final/eval_loss" in one)
        assert final["final/eval_loss"] == pytest.approx(record.loss.eval_loss)
        assert (parameters["arm"], parameters.get("seed")) == (record.arm, record.seed)
        curve = {point.step: point.train_loss for point in folder.curve() if point.train_loss is not None}
        assert {one["step"]: one["train_loss"] for one in values if "train_loss" in one} == pytest.approx(curve)
    trackio: Any = import_module("trackio")
    artifacts = {one["name"] for one in trackio.SQLiteStorage.list_artifacts("out")}
    assert artifacts >= {"report.html", "summary.md", "loss.csv"}
    assert found["comparison"][0]["baseline"] == "alpha=0"


@needs_trackio
@pytest.mark.usefixtures("trackio_imported_anew", "no_network")
def test_trackio_tracks_running_trials_without_network(sweep: SweepFolder, neftune: Neftune) -> None:
    done = neftune(*TWO_ARMS, "--output", "live", "--track", "trackio")
    assert done.code == 0
    assert "trackio" not in done.out.lower()
    found = logged("trackio", "live")
    assert len(found) == 4  # the base model, two trainings and the comparison
    trackio: Any = import_module("trackio")
    artifacts = {one["name"] for one in trackio.SQLiteStorage.list_artifacts("live")}
    assert artifacts >= {"report.html", "summary.md", "loss.csv"}
    live = SweepFolder(Path("live"))
    for (one, record), (other, _) in zip(sweep.finished(), live.finished(), strict=True):
        assert all((one.path / name).read_bytes() == (other.path / name).read_bytes() for name in RESULTS)
        assert "--track trackio failed" not in (other.path / "log.txt").read_text()
        final = [values for values in found[one.folder_label][1] if "final/eval_loss" in values]
        assert final[0]["final/eval_loss"] == pytest.approx(record.loss.eval_loss)
    folder, record = next((folder, one) for folder, one in sweep.finished() if one.arm == "alpha=5")
    losses = {point.step: point.train_loss for point in folder.curve() if point.train_loss is not None}
    values = found[folder.folder_label][1]
    assert {one["train/global_step"]: one["train/loss"] for one in values if "train/loss" in one} == pytest.approx(
        losses
    )
    *_, last = (one["eval/loss"] for one in values if "eval/loss" in one)
    assert last == pytest.approx(record.loss.eval_loss)
    assert "0 runs written, 4 written before" in neftune("export", "live", "--to", "trackio").err


@needs_trackio
@pytest.mark.usefixtures("trackio_imported_anew")
def test_a_folder_that_trackio_cannot_use_is_refused_before_the_first_trial(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("TRACKIO_DIR", "file")
    refused = neftune(*TWO_ARMS, "--output", "new", "--track", "trackio")
    assert refused.code == 2
    assert "--track trackio: the runs cannot be written" in refused.err
    assert not SweepFolder(Path("new")).records()
    monkeypatch.setenv("TRACKIO_DIR", "another")
    refused = neftune("export", "out", "--to", "trackio")
    assert refused.code == 2
    assert "this process imported trackio before, with the folder file. Set TRACKIO_DIR to it." in refused.err


@needs_trackio
@pytest.mark.usefixtures("trackio_imported_anew")
def test_a_space_is_refused_because_runs_are_local(
    tmp_path: Path, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")
    refused = neftune(*TWO_ARMS, "--output", "out", "--track", "trackio")
    assert refused.code == 2
    assert "Run `unset TRACKIO_SPACE_ID`" in refused.err
    assert not SweepFolder(tmp_path / "out").records()


@pytest.mark.parametrize("tracker", list(LiveTracker))
def test_report_to_leads_to_track(tracker: str, neftune: Neftune) -> None:
    refused = neftune("sweep", "--set", f"report_to={tracker}")
    assert refused.code == 2
    assert f"Use --track {tracker}." in refused.err


@pytest.fixture
def wandb_without_account(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """Replace wandb by a library that is online, is not logged in, and refuses to open a run."""

    class Error(Exception):  # as `wandb.errors.Error`, which is no OSError
        pass

    wandb = MagicMock()
    wandb.setup().settings.mode = "online"
    wandb.login.return_value = False
    wandb.init.side_effect = Error("No API key configured")
    wandb.errors.Error = Error
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "wandb.errors", wandb.errors)
    return wandb


def test_an_export_to_wandb_without_a_login_is_refused(
    sweep: SweepFolder, neftune: Neftune, wandb_without_account: MagicMock
) -> None:
    refused = neftune("export", sweep.path.name, "--to", "wandb")
    assert (refused.code, refused.err.splitlines()) == (
        2,
        [
            "Error: wandb: you are not logged in to Weights & Biases.",
            "  Run `wandb login`, or set WANDB_MODE=offline.",
        ],
    )
    wandb_without_account.init.assert_not_called()


def test_an_error_of_wandb_is_explained(sweep: SweepFolder, neftune: Neftune, wandb_without_account: MagicMock) -> None:
    refused = neftune("export", sweep.path.name, "--to", "wandb-offline")
    assert refused.code == 2
    assert "--to wandb-offline: the runs of out cannot be written: No API key configured." in refused.err
    wandb_without_account.login.side_effect = wandb_without_account.errors.Error("The server does not answer")
    refused = neftune("export", sweep.path.name, "--to", "wandb")
    assert "--to wandb: the runs of out cannot be written: The server does not answer." in refused.err


def test_an_online_run_of_wandb_is_new_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(folder: Path, _group: str, run: TrackedRun, **_: object) -> MagicMock:
        (folder / "wandb" / f"run-20260101_000000-{run.id}").mkdir(parents=True, exist_ok=True)  # as wandb names it
        return MagicMock()

    monkeypatch.setattr("neftune_cli.trackers.wandb._opened", opened)
    monkeypatch.setitem(sys.modules, "wandb.errors", MagicMock(Error=Exception))
    tracker, run = WandbRuns(tmp_path), TrackedRun(name="alpha=5, seed 0", id="abc", parameters={})
    assert [tracker.write("group", run), tracker.write("group", run)] == [True, False]
