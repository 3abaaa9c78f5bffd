"""Invalid options and data: messages with a fix, exit code 2, and no file written or lost."""

import json
from pathlib import Path

import pytest

from neftune_cli.metrics import HELD_OUT_RESPONSES, REGISTERED_METRICS, Margin, Metric, register_metric
from tests.command_line import Neftune
from tests.registries import restored

SWEEP = ("sweep", "--max-steps", "1", "--train-examples", "8", "--eval-examples", "4", "--quiet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--alphas", "0,-5"),
            "Error: --alphas: alpha must be a finite number, 0 or larger; -5 was given.\n"
            "  Use --alphas 0,5,10,15; 0 is no noise.\n",
        ),
        (
            ("--alphas", "0,five"),
            "Error: --alphas: 'five' is not a number.\n  Use numbers, for example --alphas 0,5,10,15.\n",
        ),
        (
            ("--alphas", "5,5.0"),
            "Error: --alphas: 5.0 appears twice.\n"
            "  Use each alpha once. --seeds sets the number of trials per alpha.\n",
        ),
        (
            ("--seeds", "zero"),
            "Error: --seeds: 'zero' is neither a number nor a list of seeds.\n"
            "  Use a number of seeds (3), or a list (0,1,7). A list of one seed ends with a comma (7,).\n",
        ),
        (
            ("--batch-size", "-1"),
            "Error: --batch-size must be larger than 0; -1 was given.\n  Use --batch-size 16.\n",
        ),
        (
            ("--set", "wieght_decay=0.1"),
            "Error: --set wieght_decay: SFTConfig has no field 'wieght_decay'.\n  Did you mean 'weight_decay'?\n",
        ),
        (
            ("--learning-rate", "1e-3", "--set", "learning_rate=1"),
            "Error: --set learning_rate: learning_rate has an option of its own.\n  Use --learning-rate 1.\n",
        ),
        (
            ("--set", "max_length=64", "--set", "lora_rank=null"),
            "Error: --set max_length: max_length has an option of its own.\n  Use --max-length 64.\n"
            "Error: --set lora_rank: lora_rank has an option of its own.\n  Use --lora-rank.\n",
        ),
        (
            ("--set", "num_train_epochs=2"),
            "Error: --set num_train_epochs: the SFTConfig field 'num_train_epochs' is set by neftune.\n"
            "  Use epochs (--epochs).\n",
        ),
        (
            ("--set", "lr_scheduler_type=sideways"),
            "Error: --set lr_scheduler_type: the trainer rejects lr_scheduler_type=sideways: "
            "sideways is not a valid SchedulerType, ",
        ),
        (
            ("--metric", "eval_los"),
            "Error: --metric: no metric has the key 'eval_los'.\n  Did you mean 'eval_loss'?\n",
        ),
        (
            ("--margin", "0,5"),
            "Error: --margin: '0,5' is not a margin larger than 0.\n"
            "  Use 0.02 (in the metric's unit), 10% (of the baseline), or 1% of gain.\n",
        ),
        (
            ("--margin", "rouge_l=0.1"),
            "Error: --margin: 'rouge_l=0.1' is not a margin larger than 0.\n"
            "  Use 0.1, and declare the metric rouge_l: the margin is that of the primary metric.\n",
        ),
        (
            ("--metric", "rouge_l", "--margin", "rouge_l=10%"),
            "Error: --margin: 'rouge_l=10%' is not a margin larger than 0.\n"
            "  Use 10%: the margin is that of the primary metric.\n",
        ),
        (
            ("--learning-rat", "1"),
            "Error: There is no option --learning-rat.\n  Did you mean --learning-rate?\n",
        ),
        (
            ("--leaning-rate", "1e-4", "--epoch=3", "--lora", "4"),
            "Error: There is no option --leaning-rate.\n  Did you mean --learning-rate?\n"
            "Error: There is no option --epoch.\n  Did you mean --epochs?\n"
            "Error: There is no option --lora.\n  Did you mean --lora-rank?\n",
        ),
        (
            ("--noise", "unifrom"),
            "Error: --noise must be uniform, gaussian or bernoulli; 'unifrom' was given.\n  Did you mean 'uniform'?\n",
        ),
        (
            ("--noises", "uniform,unifrom"),
            "Error: --noises: a noise distribution must be uniform, gaussian or bernoulli; 'unifrom' was given.\n"
            "  Did you mean 'uniform'?\n",
        ),
        (
            ("--format", "sharegpt"),
            "Error: --format must be alpaca, prompt-completion, messages or text; 'sharegpt' was given.\n"
            "  Use --format messages.\n",
        ),
        (
            ("--format", "parquet"),
            "Error: --format must be alpaca, prompt-completion, messages or text; 'parquet' was given.\n"
            "  Remove --format: the columns of the data show their layout.\n",
        ),
        (
            ("--model", "tiny", "--learning-rate", "-1", "--batch-size", "0"),
            "Error: --learning-rate must be larger than 0; -1 was given.\n  Use --learning-rate 0.001.\n"
            "Error: --batch-size must be larger than 0; 0 was given.\n  Use --batch-size 16.\n",
        ),
        (
            ("--loss", "all"),
            "Error: --loss must be last or all-assistant; 'all' was given.\n  Did you mean 'all-assistant'?\n",
        ),
        (
            ("--columns",),
            "Error: --columns needs a value.\n  Use --columns prompt=question,completion=answer.\n",
        ),
        (
            ("--noise-schedule", "sideways"),
            "Error: --noise-schedule must be constant, linear or cosine; 'sideways' was given.\n"
            "  Use --noise-schedule constant.\n",
        ),
        (
            ("--noise-target", "everything"),
            "Error: --noise-target must be all, prompt or completion; 'everything' was given.\n"
            "  Use --noise-target all.\n",
        ),
        (
            ("--executor", "kubernetes"),
            "Error: --executor must be local, inline, slurm or ray; 'kubernetes' was given.\n  Use --executor local.\n",
        ),
        (
            ("--slurm", "partition=gpu", "--detach", "--address", "auto"),
            "Error: --slurm has no effect with --executor local.\n  Add --executor slurm, or remove --slurm.\n"
            "Error: --detach has no effect with --executor local.\n  Add --executor slurm, or remove --detach.\n"
            "Error: --address has no effect with --executor local.\n  Add --executor ray, or remove --address.\n",
        ),
        (
            ("--keep", "some"),
            "Error: --keep must be none, best or all; 'some' was given.\n  Use --keep none.\n",
        ),
        (
            ("--alphas", "0", "5"),
            "Error: There is no experiment file 5.\n"
            "  Remove it, or write the values of a list with commas and without spaces, such as 0,5,10.\n",
        ),
        (
            ("--alphas", "0", "5", "10"),
            "Error: neftune sweep does not take the argument '10'.\n"
            "  Remove it, or write the values of a list with commas and without spaces, such as 0,5,10.\n",
        ),
        (
            ("--model", "tiny", "llama"),
            "Error: There is no experiment file llama.\n"
            "  Use an existing YAML file. If llama is part of a name with spaces, put the whole name in quotes.\n",
        ),
        (
            ("none.yaml",),
            "Error: Cannot read none.yaml: No such file or directory.\n  Use an existing YAML file.\n",
        ),
    ],
)
def test_a_message_names_the_problem_and_the_fix(
    neftune: Neftune, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = neftune(*SWEEP, *arguments)
    assert result.err.startswith(message)
    assert (result.code, result.out, list(tmp_path.iterdir())) == (2, "", [])


@pytest.mark.parametrize(
    ("arguments", "argument", "fix"),
    [
        (("--alpha", "5", "10"), "10", "Remove it, or write the values of a list with commas"),
        ((" ",), " ", "Remove it. If it is part of a name with spaces, put the whole name in quotes."),
    ],
)
def test_an_argument_of_a_command_without_arguments_is_named(
    neftune: Neftune, arguments: tuple[str, ...], argument: str, fix: str
) -> None:
    result = neftune("train", *arguments)
    assert result.err.startswith(f"Error: neftune train does not take the argument {argument!r}.\n  {fix}")
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ("sweep --margin", "--margin 0.02"),
        ("compare results --margin", "--margin eval_loss=0.02"),
        ("compare results --format", "--format table, json, csv, md, latex, checklist or html"),
        ("sweep --format", "--format alpaca"),
        ("sweep --keep", "--keep none, best or all"),
    ],
)
def test_the_example_of_a_missing_value_is_one_of_the_command(neftune: Neftune, arguments: str, example: str) -> None:
    option = arguments.rsplit(maxsplit=1)[-1]
    assert neftune(*arguments.split()).err == f"Error: {option} needs a value.\n  Use {example}.\n"


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ("preview --dataset a.csv --dataset b.csv", "Use one list with commas: --dataset a.csv,b.csv."),
        ("sweep --alphas 0 --alphas=5", "Use one list with commas: --alphas 0,5."),
        ("sweep --snr 5 --snr 10", "Use one list with commas: --snr 5,10."),
        (
            "sweep --columns prompt=a --columns completion=b",
            "Use one list with commas: --columns prompt=a,completion=b.",
        ),
        ("sweep --max-steps 1 --max-steps 2", "Use --max-steps once."),
        ("train --alpha 5 --alpha 10", "Use --alpha once."),
        ("train --output a --output a", "Use --output once."),
        ("compare results --metric rouge_l --metric bleu", "Use --metric once."),
    ],
)
def test_a_repeated_option_that_takes_one_value_is_refused(neftune: Neftune, arguments: str, fix: str) -> None:
    result = neftune(*arguments.split())
    option = next(one for one in arguments.split() if one.startswith("--"))
    assert (result.code, result.err) == (2, f"Error: {option} is given more than once.\n  {fix}\n")


def test_options_of_lists_and_flags_may_be_repeated(neftune: Neftune) -> None:
    settings = ("--set", "weight_decay=0.1", "--set", "wieght_decay=0.1")
    result = neftune(*SWEEP, *settings, "--quiet")  # and in SWEEP
    assert result.err.startswith("Error: --set wieght_decay: SFTConfig has no field 'wieght_decay'.\n")
    assert "more than once" not in result.err


def test_an_option_overrides_the_field_of_an_experiment(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("arms: [{alpha: 0}]\nseeds: 2\ntrain: {max_steps: 1}\n")
    result = neftune("sweep", "one.yaml", "--seeds", "1", "--max-steps", "2", "--dry-run", "--no-estimate", "--json")
    assert [(one["seed"], one["steps"]) for one in json.loads(result.out)["trials"]] == [(None, 0), (0, 2)]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sweep --model @", "--model is empty.\n  Use a name, or remove --model."),
        ("sweep --dataset @", "--dataset is empty.\n  Use a name, or remove --dataset."),
        ("sweep --output @", "--output is empty.\n  Use a path, or remove --output."),
        ("sweep @", "FILE is empty.\n  Use a path, or remove the empty argument."),
        ("train --output @", "--output is empty.\n  Use a path, or remove --output."),
        ("preview --model @", "--model is empty.\n  Use a name, or remove --model."),
        ("preview --html @", "--html is empty.\n  Use a path, or remove --html."),
        ("sensitivity --model @", "--model is empty.\n  Use a name, or remove --model."),
        ("sensitivity --output @", "--output is empty.\n  Use a path, or remove --output."),
        ("visualize --dataset @", "--dataset is empty.\n  Use a name, or remove --dataset."),
        ("compare @", "PATH is empty.\n  Use a path, or remove the empty argument."),
        ("compare . --output @", "--output is empty.\n  Use a path, or remove --output."),
        ("status . @", "PATH is empty.\n  Use a path, or remove the empty argument."),
    ],
)
def test_an_empty_path_or_name_is_refused(
    neftune: Neftune, tmp_path: Path, arguments: str, message: str, empty: str
) -> None:
    """It is no path to the current folder: the shell variable is not set."""
    result = neftune(*(empty if one == "@" else one for one in arguments.split()))
    assert (result.code, result.out) == (2, "")
    assert result.err.removeprefix("Reading model and data ...\n") == f"Error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_problems_of_options_data_model_and_recipe_are_reported_together(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "?"}\n')
    result = neftune(
        "sweep", "--alphas", "x", "--seeds", "0", "--dataset", "data.jsonl", "--model", "./none", "--set", "nonsense=1"
    )
    for expected in ("'x' is not a number", "at least one seed", "question", "./none", "nonsense"):
        assert expected in result.err
    assert result.code == 2


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        (
            "sweep --workers x --alphas a,b",
            "Error: --workers: 'x' is not a number of workers.\n"
            "  Use a number, auto, or 0 to run the trials in the main process.\n"
            "Error: --alphas: 'a' is not a number.\n  Use numbers, for example --alphas 0,5,10,15.\n"
            "Error: --alphas: 'b' is not a number.\n  Use numbers, for example --alphas 0,5,10,15.\n",
        ),
        (
            "sweep --checkpoint-minutes nan --hourly-rate 2 --epochs 0 --model ./none --dataset none.csv",
            "Error: --checkpoint-minutes must be a finite number; nan was given.\n"
            "  Use a number of minutes, for example --checkpoint-minutes 2.\n"
            "Error: --hourly-rate has no effect without --dry-run.\n"
            "  Add --dry-run to see the cost estimate, or remove --hourly-rate.\n"
            "Error: --epochs must be larger than 0; 0 was given.\n  Use --epochs 3.\n"
            "Error: There is no model directory './none'.\n"
            "  Use tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory.\n"
            "Error: There is no file or folder 'none.csv'.\n"
            "  Use bios, a .json, .jsonl, .ndjson, .csv, .tsv, .parquet or .arrow file, a folder with such files, "
            "or a hub id.\n",
        ),
        (
            "sweep --dry-run --hourly-rate 0 experiment.yaml",
            "Error: --hourly-rate must be larger than 0; 0 was given.\n"
            "  Use the cost of the machine per hour, for example --hourly-rate 1.20.\n"
            "Error: There is no model directory './none'.\n"
            "  Use tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory.\n",
        ),
        (
            "train --alpha x --checkpoint-steps=-1 --batch-size 0 --model ./none",
            "Error: --alpha: 'x' is not a number.\n  Use a number, for example --alpha 5.\n"
            "Error: --checkpoint-steps must be larger than 0; -1 was given.\n"
            "  Use a number of steps, for example --checkpoint-steps 100.\n"
            "Error: --batch-size must be larger than 0; 0 was given.\n  Use --batch-size 8.\n"
            "Error: There is no model directory './none'.\n"
            "  Use tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory.\n",
        ),
        (
            "train --snr 0.5 --checkpoint-minutes inf --set weight_decay",
            "Error: --snr must be 1 or larger; 0.5 was given (noise 2 times the embedding norm).\n"
            "  Use --alphas for noise that large, or --snr 2 for noise of 0.5 times the embedding norm.\n"
            "Error: --checkpoint-minutes must be a finite number; inf was given.\n"
            "  Use a number of minutes, for example --checkpoint-minutes 2.\n"
            "Error: --set weight_decay: the value is missing.\n  Use --set key=value.\n",
        ),
    ],
)
def test_problems_of_run_options_are_reported_with_those_of_the_experiment(
    neftune: Neftune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, messages: str
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("A worker was started.")

    monkeypatch.setattr("neftune_cli.sweeps.executors.inline.InlineExecutor.inspect", fail)
    (tmp_path / "experiment.yaml").write_text("model: ./none")
    result = neftune(*command.split())
    assert (result.code, result.out, result.err) == (2, "", messages)
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.yaml"]


@pytest.mark.parametrize(("alphas", "is_noted"), [("5", True), ("0,5", False)])
def test_a_sweep_of_one_arm_is_planned_with_a_note(neftune: Neftune, alphas: str, is_noted: bool) -> None:
    result = neftune("sweep", "--alphas", alphas, "--dry-run", "--no-estimate", "--quiet")
    assert ("one arm, so there will be nothing to compare" in " ".join(result.out.split())) == is_noted
    assert result.code == 0


def test_a_missing_tracker_is_reported_with_the_trackers(neftune: Neftune, tmp_path: Path) -> None:
    result = neftune("export", str(tmp_path))
    assert (
        result.err
        == "Error: --to is missing.\n  Use --to tensorboard, mlflow, wandb, wandb-offline, trackio or alpaca-eval.\n"
    )
    assert result.code == 2


def test_examples_that_are_all_too_long_are_refused_before_any_file_is_written(
    neftune: Neftune, tmp_path: Path
) -> None:
    result = neftune(*SWEEP, "--max-length", "4")
    assert result.err.startswith("Error: ")
    assert "training examples were dropped: the prompt alone fills --max-length 4.\n  Use --max-length" in result.err
    assert (result.code, list(tmp_path.iterdir())) == (2, [])


@pytest.mark.parametrize("more", [(), ("--dry-run", "--no-estimate")])
@pytest.mark.parametrize(
    ("metric", "examples"),
    [
        ("exact_match", "held-out"),
        ("truncated", "held-out"),
        ("probe_rouge_l", "training"),
        ("words", "held-out"),
        ("neftune_cli.evaluation.text_metrics:exact_match", "held-out"),
    ],
)
def test_a_metric_of_responses_is_refused_for_plain_text(
    neftune: Neftune, tmp_path: Path, metric: str, examples: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "notes.jsonl").write_text("".join(f'{{"text": "Note {number}."}}\n' for number in range(40)))
    with restored(REGISTERED_METRICS):
        register_metric(
            Metric(
                key="words",
                name="Words",
                unit="",
                goal=None,
                decimals=1,
                margin=Margin(1.0),
                section=HELD_OUT_RESPONSES,
                score=lambda response, _reference: float(len(response.split())),
            )
        )
        result = neftune(*SWEEP, "--dataset", "notes.jsonl", "--metric", metric, *more)
    measurable = "train_loss, train_loss_clean, eval_loss or eval_perplexity"
    assert result.err.removeprefix("Reading model and data ...\n") == (
        f"Error: --metric: {metric} is measured on responses, and no {examples} example of notes.jsonl has a prompt.\n"
        f"  Use {measurable}, or data with prompts and completions.\n"
    )
    assert (result.code, result.out, [path.name for path in tmp_path.iterdir()]) == (2, "", ["notes.jsonl"])


def test_a_metric_of_losses_can_be_declared_for_plain_text(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("".join(f'{{"text": "Note {number}."}}\n' for number in range(40)))
    arguments = ("--dataset", "notes.jsonl", "--metric", "eval_perplexity", "--dry-run", "--no-estimate")
    assert neftune("sweep", "--max-steps", "1", *arguments).code == 0


@pytest.mark.parametrize("command", [("preview",), ("sweep", "--quiet")])
def test_prompts_longer_than_the_context_cannot_be_mended_by_a_maximum_length(
    neftune: Neftune, tmp_path: Path, command: tuple[str, ...]
) -> None:
    row = '{"prompt": "%s", "completion": "Yes."}\n'
    (tmp_path / "long.jsonl").write_text("".join(row % f"{n} {'word ' * 2000}" for n in range(20)))
    result = neftune(*command, "--dataset", "long.jsonl")
    assert "the prompt alone fills --max-length 256.\n" in result.err
    assert "  Shorten the prompts, or use another model: the context of this one is 512 tokens.\n" in result.err
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize("name", ["blank.json", "blank.jsonl", "blank.csv"])
def test_a_file_of_blank_lines_has_no_rows(neftune: Neftune, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n \n")
    result = neftune("preview", "--dataset", name)
    assert (result.code, result.err) == (2, f"Error: {name} has no rows.\n  Add examples to it.\n")


def test_an_interrupt_prints_the_command_that_resumes(neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neftune_cli.sweeps.runner.run_sweep", interrupt)
    result = neftune("sweep", "--alphas", "0,5", "--quiet")
    assert result.code == 130
    assert result.err == ("Interrupted. Finished trials are kept. Resume with:\n  neftune sweep --alphas 0,5 --quiet\n")


@pytest.mark.parametrize(
    ("interrupted", "arguments"),
    [
        ("neftune_cli.commands.dry_run.dry_run", "sweep --alphas 0,5 --dry-run"),
        ("neftune_cli.commands.preview_contents.make_preview", "preview"),
        ("neftune_cli.geometry.output.default_folder", "visualize --alpha 5"),
        ("neftune_cli.geometry.output.default_folder", "sensitivity"),
        ("neftune_cli.evidence.gathering.gather", "compare results"),
        ("neftune_cli.cli.CommandGroup.get_command", "swep --alphas 0,5"),
    ],
)
def test_an_interrupt_of_a_command_without_training_promises_no_finished_trials(
    neftune: Neftune, monkeypatch: pytest.MonkeyPatch, interrupted: str, arguments: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, interrupt)
    result = neftune(*arguments.split())
    assert result.err == f"Interrupted. Nothing was trained. Run the command again:\n  neftune {arguments}\n"
    assert result.code == 130


def test_workers_0_excludes_executors_with_workers(neftune: Neftune, tmp_path: Path) -> None:
    from neftune_cli.sweeps.executors import EXECUTORS, ExecutorDeclaration

    with restored(EXECUTORS):
        EXECUTORS.register(ExecutorDeclaration("remote", "workers on another machine", lambda: pytest.fail("started")))
        result = neftune(*SWEEP, "--workers", "0", "--executor", "remote", "--epochs", "0")
    assert "--workers 0 selects --executor inline, but --executor remote is given.\n" in result.err
    assert "--epochs" in result.err
    assert (result.code, list(tmp_path.iterdir())) == (2, [])


def test_all_invalid_values_of_a_command_line_are_reported_together(neftune: Neftune) -> None:
    result = neftune("visualize", "--alpha", "-1", "--projection", "map", "--points", "0", "--output", "")

    assert result.code == 2
    assert [line.split()[1] for line in result.err.splitlines() if line.startswith("Error: ")] == [
        "--alpha",
        "--projection",
        "--points",
    ]


@pytest.mark.parametrize("command", ["sweep", "preview"])
def test_a_router_loss_of_a_model_without_routers_is_refused(neftune: Neftune, tmp_path: Path, command: str) -> None:
    (tmp_path / "dense.yaml").write_text("arms: [{alpha: 0}, {alpha: 5, train: {router_aux_loss_coef: 0.5}}]\n")
    result = neftune(command, "dense.yaml")

    assert result.code == 2
    assert result.err.endswith(
        "Error: router_aux_loss_coef: 'tiny' (llama) has no load-balancing loss of a router.\n"
        "  Remove the field, or use a mixture-of-experts model.\n"
    )


def test_an_sft_value_that_json_lacks_hides_no_other_problem(neftune: Neftune) -> None:
    result = neftune(*SWEEP, "--set", "weight_decay=.nan", "--set", "run_name=2024-01-01", "--set", "warmup_ratios=0.1")

    assert result.code == 2
    assert [line.removeprefix("Error: ").split(" must be")[0] for line in result.err.splitlines()[::2]] == [
        "--set weight_decay",
        "--set run_name",
        "--set warmup_ratios: SFTConfig has no field 'warmup_ratios'.",
    ]
    assert "YAML reads 2024-01-01 as a date. Put it in quotes within the value: '2024-01-01'." in result.err
