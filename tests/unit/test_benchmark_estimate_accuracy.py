"""The benchmark of cost estimates: its help, and sweeps in which a look decides an arm."""

from pathlib import Path

import pytest

from experiments.benchmarks.estimate_accuracy import EstimateCheck, estimate_checks, main
from neftune_cli.store import SweepFolder
from tests.finished_trials import trial_record, write_trial

SECONDS = {"a0": 4.0, "a1": 8.0, "b0": 10.0}
ARMS = {"a0": "alpha=0", "a1": "alpha=0", "b0": "alpha=5", "b1": "alpha=5"}


def test_help_is_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "[OPTIONS OF neftune sweep]" in capsys.readouterr().out


@pytest.mark.parametrize("planned", [tuple(SECONDS), tuple(ARMS)], ids=["all ran", "one did not run"])
def test_means_are_those_of_the_trials_that_ran(tmp_path: Path, planned: tuple[str, ...]) -> None:
    (tmp_path / "trials").mkdir()
    folder = SweepFolder(tmp_path)
    for trial, seconds in SECONDS.items():
        record = trial_record(trial, ARMS[trial], int(trial[1]))
        write_trial(folder.trial(record.trial, record.arm, record.seed), record, seconds=seconds, peak_memory=3 << 20)
    estimate = {"trials": {"a0": 3.0, "a1": 5.0, "b0": 9.0, "b1": 70.0}, "seconds": 20.0, "peak_memory": 2 << 20}
    plan = {"estimate": estimate, "trials": [{"trial": trial, "arm": ARMS[trial]} for trial in planned]}
    sweep = [EstimateCheck("sweep, s", 20.0, 25.0)] if "b1" not in planned else []
    assert estimate_checks(plan, folder, seconds=25.0) == [
        EstimateCheck("alpha=0, s per trial", 4.0, 6.0),
        EstimateCheck("alpha=5, s per trial", 9.0, 10.0),
        *sweep,
        EstimateCheck("peak memory, MiB", 2.0, 3.0),
    ]
