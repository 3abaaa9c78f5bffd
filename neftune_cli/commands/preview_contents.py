"""Contents of a preview: training examples tokenized as a sweep would, with the role and the noise of each token."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_cli.commands.request import read_spec
from neftune_cli.config.choices import IGNORED_LABEL
from neftune_cli.config.field_problems import unused_field_problems
from neftune_cli.config.spec import ArmSpec, SweepSpec, TrainSpec, TrialSpec
from neftune_cli.data.bad_rows import place_sort_key
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.reporting.preview import SHOWN_TOKENS, ExampleView, Part, Preview, TokenView

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from neftune_cli.models.loading import LoadedModel

NO_LIMIT = 2**31
MEMORY_NOT_CHECKED = "Not checked here: the memory for the training, which `neftune sweep --dry-run` estimates."


def make_preview(
    file: Path | None, fields: Mapping[str, Any], problems: Problems, *, alpha: float, rows: int
) -> Preview:
    """Return the preview of the first training examples of a data set, in the order of the file.

    Args:
        file: experiment in YAML, or None.
        fields: given option values by spec field.
        problems: problems of other options, which are reported with those of model and data.
        alpha: noise size to show.
        rows: number of examples.

    Raises:
        UsageError: all problems of options, model and data.
    """
    spec = read_spec(file, fields, problems)
    if spec is None:
        raise UsageError(*problems.found)
    return _preview(spec, problems, alpha, rows)


def _preview(spec: SweepSpec, problems: Problems, alpha: float, rows: int) -> Preview:
    from neftune_cli.data.loading import load_data
    from neftune_cli.models.sources import find_model
    from neftune_cli.sweeps.inspection import data_facts, resolved_evaluation
    from neftune_cli.sweeps.plan import check_targets

    source = problems.attempt(lambda: find_model(spec.model))
    data = problems.attempt(lambda: load_data(spec))
    problems.add(_recipe_problems(spec))
    if data is not None:
        problems.attempt(partial(check_targets, spec, data_facts(data)))
    problems.raise_any()
    assert source is not None
    assert data is not None

    from neftune_cli.data.tokenization import tokenize  # imports torch, which takes seconds, so after the checks
    from neftune_cli.models.loading import load_model
    from neftune_cli.training.hardware import device_kind
    from neftune_cli.training.prepared_data import prepare_data

    loaded = load_model(source)
    _check_trainable(loaded, spec)
    arm = ArmSpec(alpha=alpha)
    trial = spec.trial(arm, 0, resolved_evaluation(spec, data.generation))
    prepared = prepare_data(source, loaded, data, trial, device=device_kind())
    chosen = _first([one.example for one in prepared.train], rows)
    whole = tokenize(chosen, loaded.tokenizer, max_length=NO_LIMIT, inputs=trial).examples
    return Preview(
        model=source.name,
        dataset=data.name,
        train=len(prepared.train),
        held_out=len(prepared.held_out),
        max_length=trial.train.max_length,
        alpha=alpha,
        noise=trial.noise.distribution,
        noise_target=trial.noise.noise_target,
        embedding_norm=prepared.embedding_norm,
        notes=(*data.notes, *prepared.notes, *_machine_notes(spec)),
        examples=tuple(_view(example, trial, loaded.tokenizer) for example in whole),
    )


def _recipes(spec: SweepSpec) -> list[TrainSpec]:
    return [spec.recipe_of(arm) for arm in spec.arms]


def _recipe_problems(spec: SweepSpec) -> Iterator[Problem]:
    """Yield the problems of all recipes. Torch is imported only if a recipe has fields whose check needs it."""
    yield from unused_field_problems(spec)
    if any(recipe.sft for recipe in _recipes(spec)):
        from neftune_cli.training.recipe_check import check_recipe

        found = Problems()
        for recipe in _recipes(spec):
            found.attempt(partial(check_recipe, recipe))
        yield from found.found
    if spec.load_in_4bit:
        from neftune_cli.models.quantization import recipe_problems

        yield from recipe_problems(recipe.lora_rank for recipe in _recipes(spec))


def _machine_notes(spec: SweepSpec) -> Iterator[str]:
    """Yield notes on what this machine lacks, and on what is not checked."""
    from neftune_cli.models.quantization import machine_problems

    if spec.load_in_4bit:
        yield from (f"A sweep on this machine is refused: {problem.what}" for problem in machine_problems())
    yield MEMORY_NOT_CHECKED


def _check_trainable(loaded: "LoadedModel", spec: SweepSpec) -> None:
    """Check that the model can be trained with the recipe of each arm, as a sweep does before its first trial."""
    from neftune_cli.training.mixture_of_experts import router_loss_problems
    from neftune_cli.training.trainability import check_trainable

    problems = Problems()
    for rank in {recipe.lora_rank for recipe in _recipes(spec)}:
        problems.attempt(partial(check_trainable, loaded, spec.model, rank))
    problems.add(router_loss_problems(loaded.model, spec.model, _recipes(spec)))
    problems.raise_any()


def _first(examples: Sequence[Any], rows: int) -> list[Any]:
    """Return the first examples in the order of the file, or in the order of training if they have no place."""
    return sorted(examples, key=lambda example: place_sort_key(example.place))[:rows]


def _view(example: TokenizedExample, trial: TrialSpec, tokenizer: "PreTrainedTokenizerBase") -> ExampleView:
    from neftune_cli.noise.lengths import token_noise_norm

    length = min(len(example.input_ids), trial.train.max_length)
    parts = _parts(example, length)
    in_completion = [label != IGNORED_LABEL for label in example.labels]  # also the first token of plain text
    target = trial.noise.noise_target
    tokens = tuple(
        TokenView(text, part, part != "cut" and target in ("all", "completion" if in_loss else "prompt"))
        for text, part, in_loss in zip(
            _texts(example.input_ids[:SHOWN_TOKENS], tokenizer), parts, in_completion, strict=False
        )
    )
    norm = token_noise_norm(trial.noise.alpha, length)
    place = example.example.place or f"Example {example.example.id}"
    return ExampleView(place, tokens, length, parts.count("learned"), len(parts) - len(tokens), norm)


def _parts(example: TokenizedExample, length: int) -> list[Part]:
    """Return the role of each token. The first token is never predicted, so that it carries no loss."""
    parts: list[Part] = ["prompt" if label == IGNORED_LABEL else "learned" for label in example.labels]
    parts[0] = "first" if parts[0] == "learned" else parts[0]
    return ["cut" if index >= length else part for index, part in enumerate(parts)]


def _texts(token_ids: Sequence[int], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Return the text that each token adds. A character of several tokens belongs to the last one."""
    texts, whole = [], ""
    for end in range(1, len(token_ids) + 1):
        decoded = str(tokenizer.decode(list(token_ids[:end]), skip_special_tokens=False))
        decoded = decoded.rstrip("\N{REPLACEMENT CHARACTER}")
        texts.append(decoded[len(whole) :])
        whole = decoded
    return texts
