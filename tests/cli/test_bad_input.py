"""Bad input: one clear message each, the fix, exit code 2, and nothing written or lost."""

from pathlib import Path

import pytest

from tests.command_line import Neftune

SWEEP = ("sweep", "--max-steps", "1", "--train-examples", "8", "--eval-examples", "4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--alphas", "0,-5"),
            "Error: --alphas: alpha must be a finite number, 0 or larger, not -5.\n  Give numbers such as 0,5,10,15; 0 is no noise.\n",
        ),
        (
            ("--alphas", "0,five"),
            "Error: --alphas: 'five' is not a number.\n  Give numbers separated by commas, for example 0,5,10,15.\n",
        ),
        (
            ("--alphas", "5,5.0"),
            "Error: --alphas: 5.0 appears twice.\n  Give each alpha once. --seeds repeats trainings.\n",
        ),
        (
            ("--seeds", "zero"),
            "Error: --seeds: 'zero' is neither a number nor a list of seeds.\n"
            "  Give a number of seeds (3), or a list (0,1,7). A list of one seed ends with a comma (7,).\n",
        ),
        (
            ("--epochs", "-1"),
            "Error: --epochs: input should be greater than 0, not -1.0.\n  Give another value.\n",
        ),
        (
            ("--set", "wieght_decay=0.1"),
            "Error: --set wieght_decay: SFTConfig has no such field.\n  Did you mean weight_decay?\n",
        ),
        (
            ("--set", "num_train_epochs=2"),
            "Error: --set num_train_epochs: neftune sets this field itself.\n  Use --epochs.\n",
        ),
        (
            ("--set", "lr_scheduler_type=sideways"),
            "Error: SFTConfig rejects --set lr_scheduler_type=sideways: sideways is not a valid SchedulerType, ",
        ),
        (
            ("--learning-rat", "1"),
            "Error: No such option: --learning-rat",
        ),
        (
            ("none.yaml",),
            "Error: Cannot read none.yaml: No such file or directory.\n  Name an experiment file.\n",
        ),
    ],
)
def test_a_message_says_what_is_wrong_and_what_to_type(
    neftune: Neftune, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = neftune(*SWEEP, *arguments)
    assert ended.err.startswith(message)
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (2, "", [])


def test_problems_of_options_data_model_and_recipe_are_told_together(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "?"}\n')
    ended = neftune(
        "sweep", "--alphas", "x", "--seeds", "0", "--dataset", "data.jsonl", "--model", "./none", "--set", "nonsense=1"
    )
    for words in ("'x' is not a number", "at least one seed", "question", "./none", "nonsense"):
        assert words in ended.err
    assert ended.code == 2


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        (
            "sweep --workers x --alphas a,b",
            "Error: --workers: 'x' is not a number of workers.\n"
            "  Give a number, auto, or 0 to run the trials in the main process.\n"
            "Error: --alphas: 'a' is not a number.\n  Give numbers separated by commas, for example 0,5,10,15.\n"
            "Error: --alphas: 'b' is not a number.\n  Give numbers separated by commas, for example 0,5,10,15.\n",
        ),
        (
            "sweep --checkpoint-minutes nan --hourly-rate 2 --epochs 0 --model ./none --dataset none.csv",
            "Error: --checkpoint-minutes: nan is not a finite number.\n  Give a number of minutes above 0, for example 2.\n"
            "Error: --hourly-rate has no effect without --dry-run.\n"
            "  Add --dry-run to see the cost estimate, or leave --hourly-rate out.\n"
            "Error: --epochs: input should be greater than 0, not 0.0.\n  Give another value.\n"
            "Error: There is no model directory './none'.\n"
            "  Pass tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory.\n"
            "Error: There is no file or folder 'none.csv'.\n"
            "  Pass bios, a .json, .jsonl, .csv or .parquet file, a folder written by save_to_disk, or a hub id.\n",
        ),
        (
            "sweep --dry-run --hourly-rate 0 experiment.yaml",
            "Error: --hourly-rate: 0 is not above 0.\n"
            "  Give the cost of the machine per hour, a number above 0 such as 1.20.\n"
            "Error: There is no model directory './none'.\n"
            "  Pass tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory.\n",
        ),
        (
            "train --alpha x --checkpoint-steps=-1 --batch-size 0 --model ./none",
            "Error: --alpha: 'x' is not a number.\n  Give numbers separated by commas, for example 0,5,10,15.\n"
            "Error: --checkpoint-steps: -1 is not above 0.\n  Give a number of steps, 1 or more.\n"
            "Error: --batch-size: input should be greater than 0, not 0.\n  Give another value.\n"
            "Error: There is no model directory './none'.\n"
            "  Pass tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory.\n",
        ),
        (
            "train --snr 0.5 --checkpoint-minutes inf --set weight_decay",
            "Error: --snr: with 0.5 the noise norm is 2 times the embedding norm.\n"
            "  For a noise norm of 0.5 times the embedding norm give 2.\n"
            "Error: --checkpoint-minutes: inf is not a finite number.\n  Give a number of minutes above 0, for example 2.\n"
            "Error: --set weight_decay: the value is missing.\n  Write --set key=value.\n",
        ),
    ],
)
def test_problems_of_how_to_run_are_told_with_those_of_what_to_train(
    neftune: Neftune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, messages: str
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("A worker was started.")

    monkeypatch.setattr("tests.command_line.InlineExecutor.inspect", started)
    (tmp_path / "experiment.yaml").write_text("model: ./none")
    ended = neftune(*command.split())
    assert (ended.code, ended.out, ended.err) == (2, "", messages)
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.yaml"]


def test_a_folder_with_a_different_sweep_is_left_alone(neftune: Neftune, tmp_path: Path) -> None:
    from neftune_cli.config.resolve import resolve_sweep
    from neftune_cli.store import SweepFolder

    SweepFolder(tmp_path / "there").open(resolve_sweep(None, {"train": {"epochs": 9.0}}))
    before = (tmp_path / "there" / "sweep.yaml").read_bytes()
    ended = neftune("sweep", "--epochs", "1", "--output", "there")
    assert ended.err == (
        "Error: there holds a different sweep: train.epochs is 9.0 there and 1.0 here.\n"
        "  Give another folder with --output, or make the options the same.\n"
    )
    assert ended.code == 2
    assert (tmp_path / "there" / "sweep.yaml").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    ended = neftune("sweep", "--output", "photos")
    assert ended.err == ("Error: photos holds files but no sweep.\n  Give an empty or a new folder with --output.\n")


def test_a_folder_that_is_a_file_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = neftune(*SWEEP, "--output", "file/sweep")
    assert ended.err == (
        "Error: file/sweep can't be written: Not a directory.\n  Give a folder you can write to with --output.\n"
    )
    assert ended.code == 2


def test_examples_that_are_all_too_long_are_refused_before_anything_is_written(
    neftune: Neftune, tmp_path: Path
) -> None:
    ended = neftune(*SWEEP, "--max-length", "4")
    assert ended.err.startswith("Error: ")
    assert "training examples were dropped: the prompt alone fills --max-length 4.\n  Use --max-length" in ended.err
    assert (ended.code, list(tmp_path.iterdir())) == (2, [])


def test_comparing_where_nothing_has_finished_exits_with_3(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune("compare", str(tmp_path))
    assert ended.code == 3
    assert ended.err.startswith("Error: There is no sweep in ")


def test_comparing_what_does_not_exist_exits_with_2(neftune: Neftune) -> None:
    ended = neftune("compare", "nowhere")
    assert (ended.code, ended.err.partition("\n")[0]) == (2, "Error: nowhere doesn't exist.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("arms: [{alpha: five}]", "arms: alpha 'five' is not a number."),
        ("arms: [{alpha: 5, train: 3}]", "train: 3 is not a mapping of fields."),
        ("arms: [{name: base, alpha: 0}]", "'base' is reserved for the base model"),
        ("arms: [{alpha: 5, nose: gaussian}]", "there is no field 'arms.0.nose'"),
        ("seeds: [-1]", "seeds.0: input should be greater than or equal to 0, not -1."),
        ("train: {learning_rate: .inf}", "train.learning_rate: input should be a finite number, not inf."),
        ("train: {sft: 3}", "sft is not a mapping of fields"),
        ("train: {fp16: maybe}", "--set fp16=maybe: the value must be true or false."),
        ("train: {loss_type: mse}", "--set loss_type=mse: the value must be one of nll, dft, chunked_nll."),
        ("train: {logging_steps: 100}", "--set logging_steps: neftune sets this field itself."),
        ("evaluation: {max_tokens: 5}", "Did you mean 'max_new_tokens'?"),
    ],
)
def test_a_wrong_experiment_is_explained(neftune: Neftune, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    ended = neftune("sweep", "wrong.yaml")
    assert words in ended.err
    assert (ended.code, ended.out, [path.name for path in tmp_path.iterdir()]) == (2, "", ["wrong.yaml"])


def test_an_interrupt_says_how_to_go_on(neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neftune_cli.commands.running.run_sweep", interrupted)
    ended = neftune("sweep", "--alphas", "0,5", "--quiet")
    assert ended.code == 130
    assert ended.err == (
        "Interrupted. What is finished is kept; to go on, give the same command:\n"
        "  neftune sweep --alphas 0,5 --quiet\n"
    )
