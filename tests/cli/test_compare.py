"""`neftune compare` on sweeps that the store wrote: what goes where, which files appear, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from neftune_cli.commands.compare import compare
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.records import SCHEMA_VERSION, CurvePoint, TrialRecord, TrialState, TrialStatus
from neftune_cli.store import SweepFolder

Records = list[TrialRecord]


@pytest.fixture
def results(tmp_path: Path, hand_made_records: Records) -> Path:
    _write_sweep(tmp_path / "results" / "bios", hand_made_records)
    return tmp_path / "results"


def test_a_pipe_gets_plain_tables(results: Path) -> None:
    result = _compare(results)

    assert result.exit_code == 0
    assert result.stdout.startswith("bios, compared with alpha=0\n\nLoss\n")
    assert "\x1b" not in result.stdout
    assert "1.5070 ± 0.0101  \N{MINUS SIGN}0.0030 ± 0.0017" in result.stdout
    assert result.stdout.endswith("no test has been made.\n")


def test_the_report_lies_beside_the_trials(results: Path) -> None:
    result = _compare(results)

    folder = results / "bios"
    assert result.stderr == f"Wrote summary.md and plots/ to {folder}\n"
    assert (folder / "summary.md").read_text().startswith("# bios, compared with alpha=0\n")
    assert {path.name for path in (folder / "plots").iterdir()} == {"loss.png", "eval.png"}


def test_json_goes_to_stdout_and_nothing_else_is_written(results: Path) -> None:
    result = _compare(results, "--format", "json", "--baseline", "5")

    (exported,) = json.loads(result.stdout)["comparisons"]
    assert exported["baseline"] == "alpha=5"
    assert exported["metrics"]["eval_loss"]["alpha=0"]["difference"] == pytest.approx(0.003)
    assert not (results / "bios" / "summary.md").exists()


@pytest.mark.parametrize("format_", ["table", "json", "csv", "md"])
def test_output_gets_what_stdout_would_have(results: Path, tmp_path: Path, format_: str) -> None:
    printed = _compare(results, "--format", format_)
    written = _compare(results, "--format", format_, "--output", str(tmp_path / "out"))

    assert written.stdout == ""
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed.stdout


def test_several_sweeps_follow_one_another(results: Path, hand_made_records: Records) -> None:
    _write_sweep(results / "again", hand_made_records[1:])

    titles = [line for line in _compare(results).stdout.splitlines() if "compared with" in line]

    assert titles == ["again, compared with alpha=0", "bios, compared with alpha=0"]


def test_an_unfinished_sweep_is_left_out_with_a_word(results: Path, hand_made_records: Records) -> None:
    _write_sweep(results / "young", hand_made_records[:1])

    result = _compare(results, "--format", "csv")

    assert result.exit_code == 0
    assert "young" not in result.stdout
    assert result.stderr.startswith("No trained trial of sweep 'young' has finished.")


def test_nothing_finished_is_nothing_to_compare(tmp_path: Path, hand_made_records: Records) -> None:
    _write_sweep(tmp_path / "young", hand_made_records[:1])

    assert isinstance(_compare(tmp_path).exception, NothingToCompareError)


def test_a_failed_trial_is_named_under_the_tables(results: Path) -> None:
    failed = TrialStatus(trial="f", state=TrialState.FAILED, reason="out of memory")
    folder = SweepFolder(results / "bios").trial("f", "alpha=5", 3)
    folder.path.mkdir()
    folder.set_status(failed)

    assert "\nNot in these numbers: alpha=5,seed=3 failed: out of memory\n" in _compare(results).stdout


def test_an_output_that_can_not_be_written_is_refused(results: Path, tmp_path: Path) -> None:
    result = _compare(results, "--output", str(tmp_path / "missing" / "out.txt"))

    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == (
        f"--output {tmp_path}/missing/out.txt can't be written: No such file or directory. "
        "Name a file in a folder that exists and that you can write to."
    )


def test_results_that_can_not_be_written_are_still_compared(results: Path) -> None:
    (results / "bios" / "plots").write_text("in the way")

    result = _compare(results)

    assert result.exit_code == 0
    assert result.stdout.startswith("bios, compared with alpha=0\n")
    assert result.stderr == f"{results}/bios got no summary.md and plots: File exists.\n"


def test_a_format_that_does_not_exist_is_refused(results: Path) -> None:
    assert _compare(results, "--format", "latex").exit_code == 2


def test_comparing_imports_no_training_code(results: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neftune_cli.commands.compare import compare, Format\n"
        f"compare([Path({str(results)!r})], None, Format.JSON, None)\n"
        "print(*{'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )

    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)

    assert done.stderr == "\n"
    assert json.loads(done.stdout)["schema_version"] == SCHEMA_VERSION


def _compare(*arguments: Path | str) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _write_sweep(path: Path, records: Records) -> None:
    folder = SweepFolder(path)
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}))
    for number, record in enumerate(records):
        named = record.model_copy(update={"trial": f"{number:012d}"})
        trial = folder.trial(named.trial, named.arm, named.seed)
        trial.start(named.trial, {"seed": named.seed})
        trial.append_metrics(CurvePoint(step=1, epoch=1, train_loss=named.loss.train_loss, eval_loss=2.0))
        trial.finish(named, examples=[], generations=[])
