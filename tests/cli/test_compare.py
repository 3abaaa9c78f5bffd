"""`neftune compare` on folders of sweeps: output, written files, and error messages."""

# ruff: noqa: RUF001  (the screen has typographic minus signs)

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from neftune_cli.commands.compare import compare
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.records import CurvePoint, TrialRecord
from neftune_cli.reporting.output_formats import OutputFormat
from neftune_cli.store import SweepFolder
from tests.finished_trials import write_failed_trial, write_trial
from tests.lm_eval_logs import TIME, sample, write_samples
from tests.lm_eval_logs import write as write_lm_eval

Records = list[TrialRecord]


@pytest.fixture
def results_to_draw(tmp_path: Path, hand_made_records: Records) -> Path:
    _write_sweep(tmp_path / "results" / "bios", hand_made_records)
    return tmp_path / "results"


@pytest.fixture
def results(results_to_draw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return results whose comparisons draw no plots, because drawing takes most of the time of a comparison."""
    monkeypatch.setattr("neftune_cli.reporting.reports.draw_plots", lambda _: {})
    return results_to_draw


def test_a_pipe_gets_a_plain_screen(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(results.parent)
    result = _compare(results.name)

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert result.stdout == SCREEN


SCREEN = """\
bios  tiny on bios · 3 epochs · lr 0.001 · seeds 0-2

DECIDED  In held-out loss, compared with alpha 0, alpha 5 is equivalent within
         0.0269 nats.

Held-out loss (nats per completion token, lower is better)   base model 4.2000
                                                      adj.              exact
alpha        mean ± sd     vs 0        95% interval      p  verdict     match
    0  1.5100 ± 0.0100                                      baseline    0.420
    5  1.5070 ± 0.0101  −0.0030  [−0.0059, −0.0001]  0.095  equivalent  0.430
Noise ratio    0: 0%, 5: 9.7%
Equivalent     within 0.0269 nats, 1% of the gain of fine-tuning; 90% interval
Other metrics  noise-off training loss higher with alpha 5; response length
               higher with alpha 5 (not adjusted for the number of metrics)

Details  neftune compare results/bios --full
         further options: --metric KEY, --hypotheses
Report   results/bios/report.html
"""
"""Differences of -0.002, -0.005 and -0.002: -0.003 +- 2.9200 * 0.0017321 / sqrt(3). The margin is 1% of 4.2 - 1.51."""


def test_the_command_for_details_prints_the_same_comparison(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # without it, --full is wider
    options = ("--metric", "rouge_l", "--baseline", "5", "--confidence", "0.9", "--margin", "rouge_l=1% of gain")
    first = _compare(results, *options, "--margin", "response_chars=10%").stdout

    words = shlex.split(first.partition("\nDetails")[2].partition("further options")[0].replace("\\\n", ""))

    assert words[:2] == ["neftune", "compare"]
    assert words[-1] == "--full"
    assert _compare(*words[2:]).stdout.startswith(first)
    assert {"rouge_l=1% of gain", "response_chars=10%"} <= set(words)


def test_full_has_all_tables(results: Path) -> None:
    short, full = _compare(results).stdout, _compare(results, "--full").stdout

    assert full.startswith(short.partition("\n")[0])
    assert "\nAdvice\n\nLeave the noise off. Compared with alpha 0" in full
    assert "alpha=5  1.5070 ± 0.0101     −0.0030  [−0.0059, −0.0001]  equivalent" in full
    assert len(short.splitlines()) <= 25


@pytest.mark.parametrize("width", [60, 97, 200])
def test_a_pipe_is_as_wide_as_the_variable_says(results: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for options in ([], ["--full"], ["--hypotheses"]):
        lines = _compare(results, *options, "--metric", "exact_match").stdout.splitlines()
        widest = max(len(line) for line in lines if str(results) not in line)
        assert min(width, 120) - 25 < widest <= width


def test_without_the_variable_the_screen_has_80_columns_and_the_tables_have_120(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    widths = [
        max(len(line) for line in _compare(results, *options).stdout.splitlines() if str(results) not in line)
        for options in ([], ["--full"])
    ]
    assert 60 < widths[0] <= 80 < widths[1] <= 120


def test_the_report_is_written_into_the_folder_of_the_sweep(results_to_draw: Path) -> None:
    result = _compare(results_to_draw)

    folder = results_to_draw / "bios"
    assert result.stderr == f"Wrote summary.md, report.html and plots/ to {folder}\n"
    assert (folder / "summary.md").read_text().startswith("# bios, compared with alpha=0\n\n    bios  tiny on bios")
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "learning-curves.svg",
        "metric-by-arm.svg",
        "paired-differences.svg",
    }


def test_the_same_results_give_the_same_bytes(results_to_draw: Path) -> None:
    def report() -> dict[Path, bytes]:
        _compare(results_to_draw)
        return {path: path.read_bytes() for path in (results_to_draw / "bios").rglob("*") if path.is_file()}

    assert report() == report()


def test_hypotheses_appends_the_claims_of_the_paper(results: Path) -> None:
    plain, longer = _compare(results).stdout, _compare(results, "--hypotheses").stdout

    assert longer.startswith(plain)
    assert "Claims of the NEFTune paper" in longer.removeprefix(plain)


def test_options_change_the_verdict_and_prevent_a_report(results: Path) -> None:
    result = _compare(results, "--margin", "eval_loss=0.001", "--confidence", "0.51", "--format", "json")

    assessed = json.loads(result.stdout)["comparisons"][0]["metrics"]["eval_loss"]["alpha=5"]
    assert (assessed["margin"], assessed["verdict"]) == (0.001, "better")
    assert not (results / "bios" / "report.html").exists()


@pytest.fixture
def trainer_runs(tmp_path: Path) -> Path:
    """Return a folder with the states of three trainings without noise and three with it, without a base model."""
    for alpha, loss in ((0, 2.0), (5, 1.9)):
        for seed in range(3):
            run = tmp_path / "runs" / f"alpha={alpha},seed={seed}"
            run.mkdir(parents=True)
            log = [
                {"step": 1, "epoch": 1.0, "loss": loss + seed / 10},
                {"step": 1, "epoch": 1.0, "eval_loss": loss + seed},
            ]
            state = {"global_step": 1, "max_steps": 1, "num_train_epochs": 1, "epoch": 1.0, "log_history": log}
            (run / "trainer_state.json").write_text(json.dumps(state))
    return tmp_path / "runs"


def _joined_screen(*paths: Path) -> str:
    """Return the screen of a comparison without spaces and line breaks, also those of commands."""
    return "".join(_compare(*paths).stdout.replace("\\\n", "").split())


def test_runs_of_trainers_are_compared_in_every_format_and_no_file_is_written(trainer_runs: Path) -> None:
    files = sorted(trainer_runs.parent.rglob("*"))

    for format_ in OutputFormat:
        result = _compare(trainer_runs, "--format", format_)
        assert result.exit_code == 0, result.output
        assert ("alpha" if format_ is OutputFormat.TABLE else "alpha=5") in result.stdout

    assert sorted(trainer_runs.parent.rglob("*")) == files


def test_a_missing_base_model_of_trainer_runs_is_named(trainer_runs: Path) -> None:
    screen = _joined_screen(trainer_runs)
    assert "Norunofthebasemodeliscompared,sothegainoffine-tuningisunknown." in screen
    assert "0.01,because" not in screen


def test_the_details_of_each_folder_of_trainer_runs_have_a_command(trainer_runs: Path) -> None:
    more = trainer_runs.with_name("more")
    shutil.copytree(trainer_runs, more)
    assert f"Detailsneftunecompare{trainer_runs}--full" in _joined_screen(trainer_runs)
    screen = _joined_screen(trainer_runs, more)
    assert [f"Detailsneftunecompare{one}--full" in screen for one in (trainer_runs, more)] == [True, True]


def test_the_page_has_the_commands_that_reproduce_it(results: Path) -> None:
    page = _compare(
        results, "--format", "html", "--margin", "eval_loss=1% of gain", "--margin", "response_chars=10%"
    ).stdout

    folder = shlex.quote(f"{results}/bios/sweep.yaml")
    assert f"neftune sweep {folder} --output results/bios-again" in page
    assert "neftune compare results/bios-again --margin 'eval_loss=1% of gain' --margin response_chars=10%" in unescape(
        page
    )


def test_plots_of_an_earlier_report_are_removed(results_to_draw: Path) -> None:
    (results_to_draw / "bios" / "plots").mkdir()
    (results_to_draw / "bios" / "plots" / "loss.png").write_bytes(b"old")

    _compare(results_to_draw)

    assert not (results_to_draw / "bios" / "plots" / "loss.png").exists()


def test_metric_selects_the_metric_of_the_verdict(results: Path) -> None:
    _, verdict, table, *_ = _compare(results, "--metric", "response_chars").stdout.split("\n\n")
    assert verdict.startswith("DECIDED  In response length, compared with alpha 0, alpha 5 is higher.")
    assert table.startswith("Response length (characters, no preferred direction)   base model 400")


def test_a_metric_can_be_given_by_its_name_in_the_tables(results: Path) -> None:
    assert _compare(results, "--metric", "rouge-l").stdout == _compare(results, "--metric", "rouge_l").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "eval_loss"], "--margin eval_loss: the size is missing."),
        (["--margin", "speed=1"], "--margin speed=1: the metric 'speed' was not measured."),
        (["--margin", "bleu=1"], "--margin bleu=1: the metric 'bleu' was not measured."),
        (["--metric", "speed"], "--metric 'speed': no metric with this key was measured in sweep 'bios'."),
        (["--confidence", "95"], "--confidence must be larger than 0.5 and less than 1; 95 was given."),
        (["--confidence", "99"], "--confidence must be larger than 0.5 and less than 1; 99 was given."),
        (["--confidence", "0.5"], "--confidence must be larger than 0.5 and less than 1; 0.5 was given."),
    ],
)
def test_invalid_options_are_refused(results: Path, arguments: list[str], message: str) -> None:
    error = _compare(results, *arguments).exception

    assert isinstance(error, UsageError)
    assert error.problems[0].what == message


@pytest.mark.parametrize("format_", [one for one in OutputFormat if one is not OutputFormat.TABLE])
def test_options_on_the_printed_tables_are_refused_with_other_formats(results: Path, format_: str) -> None:
    refused = _compare(results, "--format", format_, "--full", "--hypotheses")

    assert [str(problem.what) for problem in refused.exception.problems] == [  # type: ignore[union-attr]
        f"--full has no effect with --format {format_}.",
        f"--hypotheses has no effect with --format {format_}.",
    ]
    assert refused.stdout == ""


def test_a_damaged_file_is_named(results: Path) -> None:
    record = next((results / "bios").rglob("record.json"))
    record.write_text("{}")

    error = _compare(results).exception

    assert isinstance(error, UsageError)
    assert str(error) == f"{record} is damaged. Restore it, or remove the trial's folder to train it again."


def test_a_damaged_manifest_is_refused_because_it_lists_the_looks(results: Path) -> None:
    manifest = results / "bios" / "manifest.json"
    manifest.write_text('{"looks": [3')

    error = _compare(results).exception

    assert isinstance(error, UsageError)
    assert error.problems[0].what == f"{manifest} is damaged."


def test_all_invalid_options_are_reported_together(results: Path) -> None:
    error = _compare(
        results, "--baseline", "7", "--metric", "los", "--margin", "eval_loss=x", "--confidence", "2"
    ).exception

    assert isinstance(error, UsageError)
    assert [one.what.split()[0] for one in error.problems] == ["--confidence", "--margin", "--baseline", "--metric"]


@pytest.mark.parametrize(("suffix", "format_"), [("csv", "csv"), ("tex", "latex"), ("MD", "md")])
def test_a_table_is_not_written_into_a_file_of_another_format(
    results: Path, tmp_path: Path, suffix: str, format_: str
) -> None:
    file = tmp_path / f"table.{suffix}"

    error = _compare(results, "--output", str(file)).exception

    assert isinstance(error, UsageError)
    assert error.problems[0].fix == f"Add --format {format_}, or use the suffix .txt."
    assert not file.exists()
    assert _compare(results, "--output", str(file), "--format", format_).exit_code == 0


def test_a_misspelled_metric_gets_a_suggestion(results: Path) -> None:
    error = _compare(results, "--metric", "eval_los").exception

    assert isinstance(error, UsageError)
    assert error.problems[0].fix.startswith("Did you mean 'eval_loss'? Known are train_loss (noisy training loss), ")


def test_json_is_the_only_output(results: Path) -> None:
    result = _compare(results, "--format", "json", "--baseline", "5")

    (exported,) = json.loads(result.stdout)["comparisons"]
    assert exported["baseline"] == "alpha=5"
    assert exported["metrics"]["eval_loss"]["alpha=0"]["difference"] == pytest.approx(0.003)
    assert not (results / "bios" / "summary.md").exists()


def test_sweeps_that_are_not_comparable_are_printed_one_after_another(
    results: Path, hand_made_records: Records
) -> None:
    other = [one.model_copy(update={"identity": {**one.identity, "data": "e"}}) for one in hand_made_records]
    _write_sweep(results / "again", other)

    lines = _compare(results).stdout.splitlines()

    assert [line.split()[0] for line in lines if "  tiny on bios · " in line] == ["again", "bios"]
    apart = lines.index("Not compared with again, because more than the noise differs: data bios (d)")
    assert lines[apart + 1] == "instead of bios (e)."


def test_comparable_sweeps_are_one_comparison_without_a_report(results: Path, hand_made_records: Records) -> None:
    stronger = [
        one.model_copy(
            update={"arm": "alpha=10", "alpha": 10.0, "identity": {**one.identity, "noise": {"alpha": 10.0}}}
        )
        for one in hand_made_records[4:]
    ]
    _write_sweep(results / "more", stronger, prefix="m")

    result = _compare(results)

    assert result.stdout.startswith("bios + more  tiny on bios")
    assert "\n   10  1.5070" in result.stdout
    assert "\nReport" not in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "bios + more: no report was written. Use --format html --output FILE to write one."
    )


def test_an_unfinished_sweep_is_left_out_with_a_message(results: Path, hand_made_records: Records) -> None:
    _write_sweep(results / "young", hand_made_records[:1])

    result = _compare(results, "--format", "csv")

    assert result.exit_code == 0
    assert "young" not in result.stdout
    assert result.stderr.startswith("No trained trial of sweep 'young' has finished.")


def test_a_sweep_whose_trials_lack_a_file_names_it(tmp_path: Path, hand_made_records: Records) -> None:
    folder = SweepFolder(tmp_path / "cut")
    _write_sweep(folder.path, hand_made_records)
    for trial in folder.trials():
        (trial.path / "generations.jsonl").unlink()

    message = str(_compare(tmp_path).exception)

    assert message.startswith(
        "No trained trial of sweep 'cut' can be compared: alpha=0,seed=0 cannot be used: its generations.jsonl is "
        "missing; the sweep command trains it again (and 5 more). If the folder is a copy, copy it again"
    )


def test_a_base_model_that_lacks_a_file_does_not_hide_that_no_trial_has_finished(
    tmp_path: Path, hand_made_records: Records
) -> None:
    folder = SweepFolder(tmp_path / "young")
    _write_sweep(folder.path, [one for one in hand_made_records if one.seed is None])
    (base,) = folder.trials()
    (base.path / "generations.jsonl").unlink()

    assert str(_compare(tmp_path).exception) == (
        "No trained trial of sweep 'young' has finished. Run the same `neftune sweep` again to finish it."
    )


def test_a_sweep_whose_line_endings_were_converted_says_so(tmp_path: Path, hand_made_records: Records) -> None:
    folder = SweepFolder(tmp_path / "clone")
    _write_sweep(folder.path, hand_made_records)
    for trial in folder.trials():
        lines = trial.path / "generations.jsonl"
        lines.write_bytes(lines.read_bytes().replace(b"\n", b"\r\n") or b"\r\n")

    message = str(_compare(tmp_path).exception)

    assert "its generations.jsonl is damaged" in message
    assert message.endswith("the copy may have left out files or converted their line endings.")


def test_a_sweep_of_failed_trials_names_the_failure_and_the_option_that_retries(
    tmp_path: Path, hand_made_records: Records
) -> None:
    folder = SweepFolder(tmp_path / "steep")
    _write_sweep(folder.path, hand_made_records[:1])
    for seed, trial in enumerate(("a" * 12, "b" * 12)):
        write_failed_trial(folder.trial(trial, "alpha=0", seed), trial, "A loss is not finite.")

    assert str(_compare(tmp_path).exception) == (
        "No trained trial of sweep 'steep' has finished: 2 trials failed. alpha=0,seed=0 failed: A loss is not finite. "
        "Run the same `neftune sweep` with --retry failed to run them again."
    )


def test_sweeps_without_finished_trials_raise(tmp_path: Path, hand_made_records: Records) -> None:
    _write_sweep(tmp_path / "young", hand_made_records[:1])

    assert isinstance(_compare(tmp_path).exception, NothingToCompareError)


def test_a_failed_trial_is_named_under_the_tables(results: Path) -> None:
    write_failed_trial(SweepFolder(results / "bios").trial("f", "alpha=5", 3), "f", "out of memory")

    assert "\nMissing        alpha=5,seed=3 failed: out of memory\n" in _compare(results).stdout
    full = _compare(results, "--full").stdout
    assert "\nMissing from these numbers: alpha=5,seed=3 failed: out of memory\n" in full


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/out.txt", ": there is no folder '{}/missing'. Create it, or use another path."),
        ("", ": this is a folder. Use the path of a file, for example --output {}/comparison.txt."),
    ],
)
def test_an_output_file_that_cannot_be_written_is_refused(
    results: Path, tmp_path: Path, output: str, message: str
) -> None:
    path = tmp_path / output
    result = _compare(results, "--output", str(path))

    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == f"--output {path}{message.format(tmp_path)}"


def test_an_output_file_does_not_replace_a_file_of_another_program(results: Path, tmp_path: Path) -> None:
    others = {
        "rows.csv": "prompt,completion\nMean ± standard deviation over seeds.,a\n",
        "rows.jsonl": '{"prompt": "a", "completion": "b"}\n',
        "rows.json": '{"schema_version": 4, "rows": []}',
        "notes.md": "# Notes\n\n## Notes\n\n- Mine.\n",
        "page.html": "<!DOCTYPE html><title>Mine</title>",
        "readme.md": "# Tool\n\nIt prints:\n\n    alpha=0\n\nMean ± standard deviation over seeds.\n",
        "todo.md": "# Checklist for the release\n\n- Tag it.\n",
        "adr.md": "# ADR 7\n\nDECIDED: we keep alpha=5.\n",
        "meeting.txt": "Meeting 3 March\n\nPROBLEM: learning rate too high\n",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    records = [path for path in results.rglob("*") if path.is_file() and path.stat().st_size]
    assert {"record.json", "sweep.yaml"} <= {path.name for path in records}
    for path in [*(tmp_path / name for name in others), *records]:
        before = path.read_bytes()
        result = _compare(results, "--format", "json", "--output", str(path))
        assert "the file exists, and neftune did not write it as a page or a comparison." in str(result.exception)
        assert path.read_bytes() == before


def test_output_receives_the_text_of_stdout_and_replaces_an_earlier_comparison(results: Path, tmp_path: Path) -> None:
    formats = ("table", "json", "csv", "md", "latex", "checklist", "html")
    earlier = {name: _compare(results, "--format", name).stdout for name in formats}
    for following, before in zip((*formats, formats[0]), ("", *earlier.values()), strict=True):
        (tmp_path / "out").write_text(before, encoding="utf-8")
        written = _compare(results, "--format", following, "--output", str(tmp_path / "out"))
        assert written.stdout == ""
        assert (tmp_path / "out").read_text(encoding="utf-8") == earlier[following]


def test_a_report_that_cannot_be_written_is_a_failure_after_the_comparison(results_to_draw: Path) -> None:
    (results_to_draw / "bios" / "plots").write_text("a file")

    result = _compare(results_to_draw)

    assert result.exit_code == 1
    assert result.stdout.startswith("bios  tiny on bios")
    assert "report.html" not in result.stdout
    assert result.stderr == (
        f"Cannot write summary.md, report.html and plots to {results_to_draw}/bios: File exists. "
        "Use --format html --output FILE to write one elsewhere.\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "fix"),
    [
        (errno.EROFS, 0, "Use --format html --output FILE to write one elsewhere."),
        (errno.EACCES, 0, "Use --format html --output FILE to write one elsewhere."),
        (errno.ENOSPC, 1, "Free disk space, and run the same command again."),
    ],
)
def test_only_a_read_only_folder_is_no_failure(
    results_to_draw: Path, monkeypatch: pytest.MonkeyPatch, error: int, code: int, fix: str
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("neftune_cli.reporting.reports.write_reports", fail)

    result = _compare(results_to_draw)

    assert (result.exit_code, result.stderr.rstrip().endswith(f": {os.strerror(error)}. {fix}")) == (code, True)


def test_a_full_disk_has_the_advice_to_free_space(results: Path) -> None:
    result = _compare(results, "--format", "csv", "--output", "/dev/full")

    assert str(result.exception) == (
        "--output /dev/full: the file cannot be written: No space left on device. Free disk space, and run the same "
        "command again."
    )


def test_an_unknown_format_is_refused(results: Path) -> None:
    assert _compare(results, "--format", "pdf").exit_code == 2


def test_compare_imports_no_training_code(results: Path) -> None:
    code = (
        "import sys; from neftune_cli.cli import app\n"
        f"app(['compare', {str(results)!r}], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'pandas', 'scipy.stats'}\n"
        "print(*heavy & set(sys.modules), sep=', ', file=sys.stderr)"
    )

    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)

    assert done.stderr == f"Wrote summary.md, report.html and plots/ to {results}/bios\n\n"
    assert done.stdout.startswith("bios  tiny on bios")


def test_help_imports_no_numerical_libraries() -> None:
    code = (
        "import sys; from neftune_cli.cli import app\n"
        "app(['compare', '--help'], standalone_mode=False)\n"
        "print(*{'numpy', 'scipy', 'pyarrow', 'matplotlib'} & set(sys.modules), sep=', ', file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == "\n"


def _compare(*arguments: Path | str) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _write_sweep(path: Path, records: Records, prefix: str = "0") -> None:
    folder = SweepFolder(path)
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}))
    for number, record in enumerate(records):
        named = record.model_copy(update={"trial": f"{prefix}{number:011d}"})
        trial = folder.trial(named.trial, named.arm, named.seed)
        write_trial(trial, named, curve=[CurvePoint(step=1, epoch=1, train_loss=named.loss.train_loss, eval_loss=2.0)])


def test_an_arm_without_logged_documents_has_no_score_over_the_others(tmp_path: Path) -> None:
    counts: dict[str, Any] = {"n-samples": {"quiz": {"original": 4, "effective": 4}}}
    folders = [write_lm_eval(tmp_path / f"alpha={alpha}", [1, 0, 1, 1], **counts) for alpha in (0, 5, 10)]
    write_samples(folders[1], [sample(0, 1), sample(1, 0)])
    (folders[2] / f"samples_quiz_{TIME}.jsonl").unlink()
    result = _compare(tmp_path, "--full", "--hypotheses")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("alpha=10 ")]
    assert rows == [["alpha=10", *(4 * "\N{EN DASH}")]]
    assert "Evaluate every arm with the tool that wrote these results." in " ".join(result.stdout.split())
