"""Routing of options: every declared option reaches the spec, the run settings or its command."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import typer

from neftune_cli.cli import SUMMARIES, TRAINING, command_function
from neftune_cli.commands import analysis_options, data_options, options, run_options
from neftune_cli.commands.request import read_spec
from neftune_cli.commands.routing import Destination, Option, options_of, values_for
from neftune_cli.commands.run_options import RUN
from neftune_cli.commands.sweep import sweep
from neftune_cli.config.run_settings import SweepSettings, sweep_settings
from neftune_cli.errors import Problems

COMMANDS = tuple(map(command_function, SUMMARIES))
TRAINING_COMMANDS = tuple(map(command_function, TRAINING))
DECLARED = [
    option
    for module in (analysis_options, data_options, options, run_options)
    for hint in vars(module).values()
    for option in getattr(hint, "__metadata__", ())
    if isinstance(option, Option)
]

SAMPLES: dict[str, Any] = {
    "model": "smollm2",
    "dataset": "data.jsonl",
    "format": "messages",
    "train_examples": 7,
    "eval_examples": 7,
    "columns": "prompt=question,completion=answer",
    "split": "train",
    "eval_dataset": "other.jsonl",
    "eval_split": "test",
    "loss": "all-assistant",
    "raw": True,
    "allow_special_tokens": True,
    "skip_bad_rows": True,
    "max_bad_share": 0.1,
    "load_in_4bit": True,
    "alphas": "0,7",
    "snr": "20",
    "noises": "uniform,gaussian",
    "seeds": "7,",
    "noise": "gaussian",
    "noise_scale": "hf",
    "noise_schedule": "linear",
    "noise_target": "prompt",
    "train.epochs": 7.0,
    "train.max_steps": 7,
    "train.learning_rate": 0.5,
    "train.batch_size": 7,
    "train.max_length": 77,
    "train.lora_rank": 7,
    "train.precision": "bfloat16",
    "train.micro_batch_tokens": 300,
    "train.sft": ["weight_decay=0.1"],
    "evaluation.max_new_tokens": 7,
    "evaluation.repetition_penalty": 1.5,
    "evaluation.decoding": "transformers",
    "evaluation.curve_examples": 7,
    "evaluation.probe_examples": 7,
    "evaluation.lm_eval": "hellaswag,tasks/trivia.yaml",
    "evaluation.lm_eval_limit": 7,
    "analysis.metric": "rouge_l",
    "analysis.margin": "0.07",
    "analysis.primary_arm": "5",
    "until_decided": True,
    "looks": "7,9",
    "max_seeds": 9,
    "controls": True,
}
"""Values that differ from the defaults, by spec field."""
NEEDED: dict[str, dict[str, Any]] = {
    "max_bad_share": {"skip_bad_rows": True},
    "looks": {"until_decided": True},
    "max_seeds": {"until_decided": True},
    "evaluation.lm_eval_limit": {"evaluation.lm_eval": "hellaswag"},
}
"""Values of other fields without which a field has no effect."""


def test_the_samples_cover_all_spec_fields_with_an_option() -> None:
    assert set(SAMPLES) == {option.field for option in DECLARED if option.to is Destination.SPEC}


@pytest.mark.parametrize("field", SAMPLES)
def test_each_spec_option_changes_the_spec(field: str) -> None:
    problems = Problems()
    needed = NEEDED.get(field, {})
    assert read_spec(None, {**needed, field: SAMPLES[field]}, problems) != read_spec(None, needed, problems)
    assert problems.found == ()


@pytest.mark.parametrize("command", TRAINING_COMMANDS)
def test_each_run_option_is_read(command: Callable[..., None]) -> None:
    values = {name: one.default for name, one in inspect.signature(command).parameters.items()}
    assert isinstance(sweep_settings({"workers": "1", **values_for(Destination.RUN, command, values)}), SweepSettings)


def test_a_run_option_that_nothing_reads_raises() -> None:
    values = {name: one.default for name, one in inspect.signature(sweep).parameters.items()}
    with pytest.raises(TypeError, match="No run setting reads the arguments priority"):
        sweep_settings({**values_for(Destination.RUN, sweep, values), "priority": 1})


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_uses_its_other_parameters(command: Callable[..., None]) -> None:
    routed = {name for name, one in options_of(command).items() if one.to is not Destination.COMMAND}
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(command))).body
    assert isinstance(function, ast.FunctionDef)
    used = {node.id for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)}
    assert set(inspect.signature(command).parameters) - routed <= used


def test_each_option_is_taken_by_a_command() -> None:
    taken = {id(option) for command in COMMANDS for option in options_of(command).values()}
    assert [option.param_decls for option in DECLARED if id(option) not in taken] == []


def test_a_parameter_without_a_declaration_raises() -> None:
    def command(model: Annotated[str, typer.Option()] = "tiny", priority: int = 1) -> None: ...

    with pytest.raises(TypeError, match="'priority' of the command 'command' is not a declared option"):
        options_of(command)


@pytest.mark.parametrize(("to", "field"), [(Destination.SPEC, ""), (Destination.RUN, "model")])
def test_a_field_without_the_spec_or_the_spec_without_a_field_raises(to: Destination, field: str) -> None:
    with pytest.raises(TypeError, match="--priority"):
        Option("--priority", "Priority.", RUN, to, field=field)
