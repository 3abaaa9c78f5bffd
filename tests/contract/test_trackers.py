"""Exported runs, read back by the trackers' own clients."""

from pathlib import Path

import pytest

from neftune_cli.store import SweepFolder
from neftune_cli.trackers import make_tracker
from tests.command_line import Neftune


@pytest.fixture
def sweep(tmp_path: Path, neftune: Neftune) -> SweepFolder:
    """Return a finished sweep of two trainings."""
    small = ["--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "4"]
    assert neftune("sweep", "--alphas", "0,5", "--seeds", "1", "--output", "out", "--no-estimate", *small).code == 0
    return SweepFolder(tmp_path / "out")


def test_tensorboard_shows_curves_and_results(sweep: SweepFolder, neftune: Neftune) -> None:
    pytest.importorskip("tensorboard")
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


def test_mlflow_has_parameters_metrics_and_the_report(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
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
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(Exception, match="Run `pip install wandb`"):
        make_tracker("wandb-offline", Path("runs"))


def test_a_folder_without_sweeps_has_nothing_to_export(tmp_path: Path, neftune: Neftune) -> None:
    assert neftune("export", str(tmp_path), "--to", "tensorboard").code == 3
