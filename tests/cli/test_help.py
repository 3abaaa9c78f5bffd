"""Pages of `--help`: complete option names on terminals of usual widths, and all defaults."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from neftune_cli.cli import SUMMARIES, command_function, load_command
from neftune_cli.commands.help_page import paragraphs
from neftune_cli.config.executors import EXECUTORS, ExecutorDeclaration
from neftune_cli.config.resolve import default_recipe
from neftune_cli.config.spec import (
    DEFAULT_ALPHAS,
    DEFAULT_LOOKS,
    DEFAULT_SEEDS,
    EvaluationSpec,
    InputSpec,
    NoiseDetails,
    TrainSpec,
)
from neftune_cli.data.embedded import bios
from neftune_cli.data.hash_split import MAX_HELD_OUT, PROBE_EXAMPLES, PROMPTS_PER_HELD_OUT
from neftune_cli.data.loading import GENERATION, load_data
from neftune_cli.evaluation.batches import tokens_at_once
from neftune_cli.training.prepared_data import PROBE_PROMPTS
from tests.command_line import Neftune
from tests.registries import restored

COMMANDS: dict[str, Any] = {name: load_command(name) for name in SUMMARIES}


def test_all_commands_are_tested() -> None:
    assert set(COMMANDS) == {
        *("sweep", "compare", "status", "train", "preview", "export", "push", "sensitivity", "visualize"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_summary_of_a_command_is_the_first_paragraph_of_its_docstring(command: str) -> None:
    assert SUMMARIES[command] == paragraphs(command_function(command).__doc__)[0]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_option_is_abbreviated(neftune: Neftune, monkeypatch: pytest.MonkeyPatch, command: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = neftune(*command.split(), "--help")
    assert result.code == 0
    assert "…" not in result.out
    assert max(map(len, result.out.splitlines())) <= width
    names = set(re.findall(r"^│ (--?[\w-]+)(?=[ ,])", result.out, re.MULTILINE))
    if command:
        for option in COMMANDS[command].params:
            assert set(option.opts + option.secondary_opts) <= names or option.param_type_name == "argument"


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_every_default_is_shown(neftune: Neftune, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # one line per option
    lines = neftune(command, "--help").out.splitlines()
    shown = 0
    for option in COMMANDS[command].params:
        if option.default is None or option.default is False:
            continue
        default = option.opts[0] if option.default is True else f"{option.default}".removesuffix(".0")
        (line,) = (line for line in lines if line.startswith(f"│ {option.opts[0]} "))
        assert f"(default {default})" in line
        shown += 1
    assert shown == {"sweep": 8, "train": 5}[command]


def test_the_numbers_of_examples_in_the_help_are_those_of_the_data(
    neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text, bios = neftune("sweep", "--help").out, load_data(InputSpec())
    assert f"(default: all, {len(bios.train)} for bios)" in text
    assert (
        f"With a test, validation or eval split: at most N of its examples (default {len(bios.held_out)}). Otherwise: "
        f"N examples of the training data (default: those of one fifth of the prompts, at most {MAX_HELD_OUT})." in text
    )
    assert PROMPTS_PER_HELD_OUT == 5


TINY, OTHERS = (default_recipe(model, lora=False) for model in ("tiny", "another"))
WITH_LORA = default_recipe("another", lora=True)
DEFAULTS: dict[str, tuple[str, Sequence[float | str]]] = {
    "--alphas": ("(default {},{},{},{}).", DEFAULT_ALPHAS),
    "--seeds": ("(default {}).", [len(DEFAULT_SEEDS)]),
    "--looks": ("(default {},{},{},{}).", DEFAULT_LOOKS),
    "--noise": ("(default {}).", [NoiseDetails().distribution]),
    "--noise-scale": ("(default {}).", [NoiseDetails().noise_scale]),
    "--noise-schedule": ("(default {}).", [NoiseDetails().noise_schedule]),
    "--noise-target": ("(default {}).", [NoiseDetails().noise_target]),
    "--max-bad-share": ("(default {}).", [InputSpec().max_bad_share]),
    "--epochs": ("(default {}).", [*{one["epochs"] for one in (TINY, OTHERS, WITH_LORA)}]),
    "--learning-rate": (
        "(default {} for tiny, {} for others, {} with --lora-rank).",
        [one["learning_rate"] for one in (TINY, OTHERS, WITH_LORA)],
    ),
    "--batch-size": ("(default {} for tiny, {} for others).", [one["batch_size"] for one in (TINY, OTHERS)]),
    "--max-length": ("(default {} for tiny, {} for others).", [one["max_length"] for one in (TINY, OTHERS)]),
    "--precision": ("(default {} for tiny, else {}).", [TINY["precision"], TrainSpec(**OTHERS).precision]),
    "--micro-batch-tokens": (
        "(default {} on a CPU, {} on a GPU).",
        [tokens_at_once("cpu"), *{tokens_at_once(device) for device in ("cuda", "mps")}],
    ),
    "--max-new-tokens": (
        "(default {} for bios, else {}).",
        [one.max_new_tokens for one in (bios.GENERATION, GENERATION)],
    ),
    "--repetition-penalty": (
        "(default {} for bios, else {}).",
        [one.repetition_penalty for one in (bios.GENERATION, GENERATION)],
    ),
    "--decoding": ("(default {}).", [EvaluationSpec().decoding]),
    "--probe-examples": (
        "(default {}, which is also the largest number). Responses are measured on at most {} of them.",
        [PROBE_EXAMPLES, PROBE_PROMPTS],
    ),
}
"""Option, the end of its help with a place for each default, and the defaults that the program uses."""


@pytest.mark.parametrize("option", DEFAULTS)
def test_the_defaults_in_the_help_are_those_of_the_program(
    neftune: Neftune, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("COLUMNS", "800")
    text, defaults = DEFAULTS[option]
    (line,) = (one for one in neftune("sweep", "--help").out.splitlines() if one.startswith(f"│ {option} "))
    shown = re.search(re.escape(text).replace(r"\{\}", r"(\w[\w.-]*)"), line)
    assert shown is not None, line
    assert [type(default)(one) for one, default in zip(shown.groups(), defaults, strict=True)] == [*defaults]


def test_the_meaning_of_every_executor_is_shown(neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "800")
    with restored(EXECUTORS):
        EXECUTORS.register(ExecutorDeclaration("remote", "another machine", lambda: pytest.fail("started")))
        text = neftune("sweep", "--help").out
    assert "slurm: jobs of a SLURM cluster" in text
    assert "local: worker processes on this machine. inline: the main process" in text
    assert "remote: another machine." in text


def test_the_page_of_train_at_80_characters(neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert RUN in neftune("train", "--help").out


RUN = """\
╭─ Run ────────────────────────────────────────────────────────────────────────╮
│ --output DIR                  Results folder (default                        │
│                               results/train-MODEL-DATASET-alpha=A,seed=N).   │
│ --nproc N                     Processes that train together, one per GPU or  │
│                               core (default 1). They divide the examples of  │
│                               each step.                                     │
│ --accelerate-config FILE      Shard the weights of each trial over several   │
│                               GPUs with FSDP, as this configuration file of  │
│                               accelerate says. Its num_processes replaces    │
│                               --nproc.                                       │
│ --on-oom <fail|halve-batch>   If memory runs out: fail the trial, or restart │
│                               it with half the batch size and twice the      │
│                               gradient accumulation (default fail).          │
│ --stop-on-divergence          Stop a trial whose loss is not finite (default │
│ --no-stop-on-divergence       --stop-on-divergence).                         │
│ --track                       Show the curves of running trials in a         │
│ <tensorboard|mlflow|wandb|    tracker; may be repeated. Files are written to │
│ trackio>                      a folder named after the tracker.              │
│ --checkpoint-steps N          Also write a checkpoint every N steps.         │
│ --checkpoint-minutes M        Write a checkpoint every M minutes (default    │
│                               2).                                            │
│ --quiet                       Show no progress.                              │
│ --json                        Print one JSON summary on stdout, and nothing  │
│                               else.                                          │
╰──────────────────────────────────────────────────────────────────────────────╯
"""
