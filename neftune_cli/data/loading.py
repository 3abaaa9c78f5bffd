"""From what `--dataset` names to training, held-out and probe examples: the way into this folder."""

from collections.abc import Sequence
from typing import Final

from neftune_cli.data import fictional
from neftune_cli.data.examples import GenerationDefaults, InstructionData
from neftune_cli.data.fingerprint import fingerprint
from neftune_cli.data.formats import choose_columns, read_examples
from neftune_cli.data.sources import EMBEDDED, read_rows
from neftune_cli.data.split import Split, choose_probe, distinct, require_enough, split_by_prompt
from neftune_cli.errors import Problem, UsageError

GENERATION: Final = GenerationDefaults(max_new_tokens=128, repetition_penalty=1.2)


def load_data(
    name: str,
    *,
    layout: str | None = None,
    train_examples: int | None = None,
    eval_examples: int | None = None,
) -> InstructionData:
    """Load and split a data set.

    Args:
        name: `bios`, a local file, a folder written by datasets' `save_to_disk`, or a hub id.
        layout: `alpaca`, `prompt-completion`, `messages` or `text`; recognised by the columns if None.
        train_examples: at most so many to train on, chosen by content hash; a default if None.
        eval_examples: at most so many held out, chosen by content hash; a default if None.

    Raises:
        UsageError: the source can't be found or read, its rows make no examples, or there are too few of them.
    """
    require_enough(train_examples, eval_examples)
    if name == EMBEDDED:
        return _load_embedded(layout, train_examples, eval_examples)
    table = read_rows(name)
    columns = choose_columns(table, layout)
    examples = read_examples(table, columns)
    unique = distinct(examples)
    split = split_by_prompt(name, unique, train_examples=train_examples, eval_examples=eval_examples)
    recognised = f"{name} is read in the layout {columns.layout}: {columns.found_in(table)}."
    notes = [recognised, _sizes(split), *_left_out(len(examples), len(unique), split)]
    return _assembled(name, split, GENERATION, notes)


def _load_embedded(layout: str | None, train_examples: int | None, eval_examples: int | None) -> InstructionData:
    if layout is not None:
        what = f"--format {layout} is for data of your own; {EMBEDDED} has its layout already."
        raise UsageError(Problem(what, "Leave --format out."))
    split = fictional.split_by_person(train_examples=train_examples, eval_examples=eval_examples)
    people = "bios is split by person: held-out questions ask about other people, in other phrasings."
    return _assembled(EMBEDDED, split, fictional.GENERATION, [_sizes(split), people])


def _left_out(examples: int, unique: int, split: Split) -> list[str]:
    costs = {
        "dropped that repeat another's prompt and completion": examples - unique,
        "left unused": unique - len(split.train) - len(split.held_out),
    }
    return [f"{_examples(number)} {cost}." for cost, number in costs.items() if number]


def _sizes(split: Split) -> str:
    return f"{_examples(len(split.train))} to train on and {len(split.held_out)} held out, chosen by content hash."


def _examples(number: int) -> str:
    return "1 example" if number == 1 else f"{number:,} examples"


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
