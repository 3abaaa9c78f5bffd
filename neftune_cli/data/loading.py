"""Load a data set from files, a folder or the Hugging Face Hub: split for training, or as a dataset for TRL."""

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from neftune_cli.config.spec import BUNDLED_DATASET, InputSpec
from neftune_cli.config.values import parse_columns
from neftune_cli.data.bad_rows import NO_BAD_ROWS, BadRow, BadRowCount, check_bad_rows, problems_of
from neftune_cli.data.embedded import bios
from neftune_cli.data.examples import Example, GenerationDefaults, InstructionData, fingerprint
from neftune_cli.data.hash_split import (
    MAX_HELD_OUT,
    Split,
    check_example_counts,
    choose_probe,
    drop_duplicates,
    split_as_given,
    split_by_prompt,
)
from neftune_cli.data.layouts import read_examples
from neftune_cli.data.rows import Table
from neftune_cli.data.selection import Part, Selection, select, select_training
from neftune_cli.data.trl_dataset import dataset_of_rows, trl_dataset, trl_rows
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.formatting import counted

if TYPE_CHECKING:
    from datasets import Dataset


GENERATION: Final = GenerationDefaults(max_new_tokens=128, repetition_penalty=1.2)
NOT_BUNDLED = {
    "layout": "--format",
    "columns": "--columns",
    "split": "--split",
    "eval_dataset": "--eval-dataset",
    "eval_split": "--eval-split",
    "raw": "--raw",
}
"""Options that do not apply to the bundled data set, by field."""
_KEYWORDS = {
    "--format": 'layout="NAME"',
    "--columns": 'columns="MEANING=COLUMN,..."',
    "--split": 'split="NAME"',
    "--raw": "raw=True",
    "--skip-bad-rows": "skip_bad_rows=True",
    "--max-bad-share": "max_bad_share=SHARE",
}
"""Keywords of `load_examples`, by the option of a command that messages name."""
SHOWN_CAUSES = 5
_DUPLICATES = "dropped as duplicates (same prompt and completion)"
"""Reason for a number of examples that are not used."""


def load_data(inputs: InputSpec) -> InstructionData:
    """Load and split a data set.

    Raises:
        UsageError: the source cannot be found or read, rows cannot be used, or there are too few of them.
    """
    problems = Problems()
    problems.attempt(lambda: check_example_counts(inputs.train_examples, inputs.eval_examples))
    problems.attempt(lambda: _check_names(inputs))
    problems.raise_any()
    if inputs.dataset == BUNDLED_DATASET:
        return _load_bundled(inputs)
    selection = select(inputs)
    part = selection.held_out
    training, *held_out = _read_all([selection.training, *([part] if part else [])], inputs)
    if part is None:
        data = _split(training, inputs, selection)
    else:
        data = _keep_apart(training, held_out[0], part.name, inputs, selection)
    if inputs.loss == "all-assistant" and not any(example.prompt for example in data.train):
        data = replace(data, notes=(*data.notes, "--loss all-assistant has no effect: the examples have no turns."))
    return data


def _check_names(inputs: InputSpec) -> None:
    """Check that no name is empty, as it is with an option whose shell variable is not set.

    Raises:
        UsageError: names are empty.
    """
    given = {f"--{name.replace('_', '-')}": getattr(inputs, name) for name in ("split", "eval_dataset", "eval_split")}
    names = {"--dataset": inputs.dataset, **given}
    empty = [option for option, name in names.items() if name is not None and not name.strip()]
    if empty:
        raise UsageError(*(Problem(f"{option} is empty.", f"Use a name, or remove {option}.") for option in empty))


def load_examples(
    name: str | Path,
    *,
    layout: str | None = None,
    columns: str | Mapping[str, str] | None = None,
    split: str | None = None,
    raw: bool = False,
    skip_bad_rows: bool = False,
    max_bad_share: float | None = None,
) -> "Dataset":
    """Load all training rows of a data set in any supported layout, as a dataset for the trainers of TRL.

    Duplicates are kept, and nothing is held out of the split `train`, or of a data set without splits. SFTTrainer
    computes the loss on the whole completion, or on the whole text for the layout `text`. `neftune sweep` does the
    same, except that in a completion of several turns it learns only the assistant turns. An assistant turn that is
    not learned is part of the prompt, with the turns before it.

    Args:
        name: files, a folder, a hub id, or `bios` (its training examples).
        layout: `alpaca`, `prompt-completion`, `messages` or `text`; recognized by the columns if None.
        columns: columns by their meaning, as `{"prompt": "question"}` or as the text of `--columns`.
        split: split to load; `train` if None.
        raw: use prompt and completion as they are, without a chat template.
        skip_bad_rows: drop rows that cannot be used, with a warning that counts them.
        max_bad_share: largest share of rows that `skip_bad_rows` may drop; the default of `--max-bad-share` if None.

    Returns:
        A dataset with the conversational columns `prompt` and `completion` (lists of messages with `role`, `content`
        and, for example, `tool_calls`) and `tools` if there are tools; with text in these columns if `raw`; or with the
        column `text` for the layout `text`.

    Raises:
        UsageError: an argument is not valid, the source cannot be found or read, or rows cannot be used. This includes
            completions in which a turn that is not learned comes after a learned one: TRL weights no turns.
    """
    given: Any = name
    if not isinstance(given, str | Path):
        what = f"the data set must be a name or a path; {given!r} was given."
        raise UsageError(Problem(what, 'Use load_examples("mine.jsonl").'))
    try:
        inputs = _inputs(
            dataset=str(name),
            layout=layout,
            columns=columns,
            split=split,
            raw=raw,
            skip_bad_rows=skip_bad_rows,
            max_bad_share=max_bad_share,
        )
        if name == BUNDLED_DATASET:
            return trl_dataset(_bundled_split(inputs).train)
        rows, notes = _training_rows(inputs)
    except UsageError as error:
        raise UsageError(*map(_with_keywords, error.problems)) from error.__cause__
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return dataset_of_rows(rows)


def _inputs(**values: Any) -> InputSpec:
    """Return the arguments of `load_examples` as a spec.

    Raises:
        UsageError: an argument has a wrong type or value.
    """
    if isinstance(values["columns"], str):
        values["columns"] = parse_columns(values["columns"])
    try:
        inputs = InputSpec(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        found = [("layout" if one["loc"][0] == "format" else str(one["loc"][0]), one) for one in error.errors()]
        raise UsageError(
            *(
                Problem(f"{name}={values[name]!r}: {one['msg'][:1].lower()}{one['msg'][1:]}.", f"Change {name}.")
                for name, one in found
            )
        ) from error
    _check_names(inputs)
    return inputs


def _with_keywords(problem: Problem) -> Problem:
    """Return a problem whose fix has the keywords for the options that it names."""
    text = f"{problem.what} {problem.fix}"
    named = [keyword for option, keyword in _KEYWORDS.items() if re.search(rf"{option}(?![\w-])", text)]
    return replace(problem, fix=f"{problem.fix} In load_examples: {', '.join(named)}.") if named else problem


def _training_rows(inputs: InputSpec) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the training rows for TRL, and a note on those that are dropped."""
    part = select_training(inputs)
    (training,) = _read_all([part], inputs)
    rows, refused = trl_rows(training.examples)
    by_trl = BadRowCount("cannot be learned by TRL", "row", len(training.examples), len(refused), tuple(refused))
    check_bad_rows(inputs, _bad_row_count(training), by_trl)
    return rows, _dropped(part, [*training.bad_rows, *refused])


@dataclass(frozen=True)
class _Read:
    """Examples of one part, and notes on them."""

    examples: tuple[Example, ...]
    notes: tuple[str, ...]
    rows: int
    """Number of all rows of the part."""
    bad_rows: tuple[BadRow, ...]

    @property
    def unique(self) -> tuple[Example, ...]:
        return drop_duplicates(self.examples)


def _read_all(parts: Sequence[Part], inputs: InputSpec) -> list[_Read]:
    """Convert the rows of all parts to examples, and drop rows that cannot be used if the user asks for it.

    Raises:
        UsageError: the columns match no layout, or more rows cannot be used than may be dropped.
    """
    problems = Problems()
    found = [problems.attempt(partial(_read, part, inputs)) for part in parts]
    read = [one for one in found if one is not None]
    problems.attempt(lambda: check_bad_rows(inputs, _bad_row_count(*read)))
    problems.raise_any()
    return read


def _read(part: Part, inputs: InputSpec) -> _Read:
    bad_rows = part.rows.bad_rows
    if not part.rows.rows:
        raise UsageError(*problems_of(bad_rows))
    try:
        reading = read_examples(Table(part.name, part.rows.rows, part.split_column), inputs)
    except UsageError as error:
        raise UsageError(*problems_of(bad_rows), *error.problems) from error
    bad_rows += reading.bad_rows
    return _Read(reading.examples, (*reading.notes, *_dropped(part, bad_rows)), part.rows.count, bad_rows)


def _bad_row_count(*parts: _Read) -> BadRowCount:
    """Return the numbers of rows of all parts, and the rows that cannot be used."""
    bad_rows = tuple(row for part in parts for row in part.bad_rows)
    return replace(NO_BAD_ROWS, total=sum(part.rows for part in parts), bad=len(bad_rows), bad_rows=bad_rows)


def _dropped(part: Part, bad_rows: Sequence[BadRow]) -> tuple[str, ...]:
    """Return a note on the rows that are dropped, with the number of rows for each cause."""
    if not bad_rows:
        return ()
    counts = Counter(row.cause for row in bad_rows)
    first = {row.cause: row.place for row in reversed(bad_rows)}
    causes = [
        f"{cause.rstrip('.')} ({number:,}, first {first[cause]})" for cause, number in counts.most_common(SHOWN_CAUSES)
    ]
    left = sum(number for _, number in counts.most_common()[SHOWN_CAUSES:])
    others = [f"{counted(left, 'row')} with other causes"] if left else []
    rows = f"{counted(len(bad_rows), 'row')} of {part.name}"
    return (f"Dropped {rows} that cannot be used: {'; '.join([*causes, *others])}.",)


def _split_settings(inputs: InputSpec) -> dict[str, Any]:
    return {
        "train_examples": inputs.train_examples,
        "eval_examples": inputs.eval_examples,
        "all_turns": inputs.loss == "all-assistant",
    }


def _split(training: _Read, inputs: InputSpec, selection: Selection) -> InstructionData:
    """Hold out a part of the training rows."""
    unique = training.unique
    split = split_by_prompt(inputs.dataset, unique, **_split_settings(inputs))
    counts = {
        _DUPLICATES: len(training.examples) - len(unique),
        "not used": len(unique) - len(split.train) - len(split.held_out),
    }
    notes = [*selection.notes, *training.notes, f"{_sizes(split)}, chosen by content hash.", *_reasons(counts)]
    return replace(_assembled(inputs.dataset, split, GENERATION, notes), row_count=_bad_row_count(training))


def _keep_apart(
    training: _Read, held_out: _Read, name: str, inputs: InputSpec, selection: Selection
) -> InstructionData:
    """Use the held-out rows that the data set or the user sets apart."""
    train, kept = training.unique, held_out.unique
    given = split_as_given(name, train, kept, **_split_settings(inputs))
    split = given.split
    not_used = len(kept) - given.in_training - len(split.held_out)
    limit = f" (at most {MAX_HELD_OUT} by default, see --eval-examples)" if inputs.eval_examples is None else ""
    counts = {
        _DUPLICATES: len(training.examples) - len(train),
        "not used": len(train) - len(split.train),
    }
    held_out_counts = {
        _DUPLICATES: len(held_out.examples) - len(kept),
        "left out because the prompt, or an earlier turn of it, is also in training": given.in_training,
        f"not used{limit}": not_used,
    }
    notes = [
        *selection.notes,
        *training.notes,
        *(f"Held-out data: {note}" for note in held_out.notes),
        f"{_sizes(split)}: {name}.",
        *_reasons(counts, "training example" if any(held_out_counts.values()) else "example"),
        *_reasons(held_out_counts, "held-out example"),
    ]
    return replace(_assembled(inputs.dataset, split, GENERATION, notes), row_count=_bad_row_count(training, held_out))


def _load_bundled(inputs: InputSpec) -> InstructionData:
    split = _bundled_split(inputs)
    people = "bios is split by person: held-out questions are about other people and have other phrasings."
    return _assembled(BUNDLED_DATASET, split, bios.GENERATION, [f"{_sizes(split)}, chosen by content hash.", people])


def _bundled_split(inputs: InputSpec) -> Split:
    given = {field: getattr(inputs, field) for field in NOT_BUNDLED}
    problems = [
        Problem(
            f"{NOT_BUNDLED[field]}{_argument(value)} does not apply to the bundled data set {BUNDLED_DATASET}.",
            f"Remove {NOT_BUNDLED[field]}.",
        )
        for field, value in given.items()
        if value
    ]
    if problems:
        raise UsageError(*problems)
    return bios.split_by_person(train_examples=inputs.train_examples, eval_examples=inputs.eval_examples)


def _argument(value: object) -> str:
    return f" {value}" if isinstance(value, str) else ""


def _sizes(split: Split) -> str:
    return f"{counted(len(split.train), 'example')} for training and {len(split.held_out)} held out"


def _reasons(counts: dict[str, int], noun: str = "example") -> list[str]:
    return [f"{counted(number, noun)} {reason}." for reason, number in counts.items() if number]


def _assembled(name: str, split: Split, generation: GenerationDefaults, notes: Sequence[str]) -> InstructionData:
    probe = choose_probe(split.train)
    return InstructionData(
        name=name,
        train=split.train,
        held_out=split.held_out,
        probe=probe,
        fingerprint=fingerprint(split.train, split.held_out, probe),
        generation=generation,
        notes=tuple(notes),
    )
