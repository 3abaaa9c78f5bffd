"""Which examples are trained on and which are held out: decided by content hashes, so that row order never matters."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby

from neftune_cli.data.examples import Example, Message
from neftune_cli.errors import Problem, UsageError

FEWEST = 2
"""Examples that a split needs at the least on either side: one has no spread."""
MOST_HELD_OUT = 200
PROMPTS_PER_HELD_OUT = 5
PROBE_EXAMPLES = 120


@dataclass(frozen=True)
class Split:
    """Training and held-out examples; no prompt is on both sides."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def distinct(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Return the examples without those that repeat an earlier one's prompt and completion."""
    return tuple({example.id: example for example in examples}.values())


def split_by_prompt(
    source: str, examples: Sequence[Example], *, train_examples: int | None, eval_examples: int | None
) -> Split:
    """Hold out the prompts with the lowest hashes, and train on the others; the examples are distinct.

    Prompts that differ in white space alone count as the same; examples of the same prompt share a cluster. By
    default a fifth of the prompts is held out, at most 200, and all others are trained on.

    Raises:
        UsageError: fewer than 2 examples would be left on one side.
    """
    groups = _groups_in_hash_order(examples)
    default = min(MOST_HELD_OUT, max(FEWEST, len(groups) // PROMPTS_PER_HELD_OUT))
    split = _cut(groups, default if eval_examples is None else eval_examples, train_examples)
    if _is_large_enough(split):
        return split
    if not _is_large_enough(_cut(groups, default, None)):
        raise UsageError(_too_few(source, groups))
    what = f"--eval-examples {eval_examples} leaves {len(split.train)} to train on in {source} ({_size(groups)})."
    raise UsageError(Problem(what, f"Ask for fewer, for instance --eval-examples {default}."))


def choose_by_hash(examples: Sequence[Example], purpose: str, most: int | None) -> tuple[Example, ...]:
    """Return at most so many examples, all if None, in the order of their hashes; each purpose has its own order."""
    return tuple(sorted(examples, key=lambda example: _hash(purpose, example.id))[:most])


def choose_probe(train: Sequence[Example]) -> tuple[Example, ...]:
    """Return the training examples on which the noise-off training loss is measured, at most 120."""
    return choose_by_hash(train, "probe", PROBE_EXAMPLES)


def check_example_counts(train_examples: int | None, eval_examples: int | None) -> None:
    """Refuse numbers of examples that no data set can make a split of.

    Raises:
        UsageError: one of the numbers is below 2.
    """
    asked = {"--train-examples": train_examples, "--eval-examples": eval_examples}
    problems = [
        Problem(f"{option} {number} is too few.", f"Ask for {FEWEST} or more.")
        for option, number in asked.items()
        if number is not None and number < FEWEST
    ]
    if problems:
        raise UsageError(*problems)


def _groups_in_hash_order(examples: Sequence[Example]) -> list[list[Example]]:
    """Group the examples by prompt and join each group into one cluster."""
    by_id = sorted(examples, key=lambda example: example.id)
    in_order = sorted(by_id, key=_prompt_hash)
    return [_as_cluster(list(group)) for _, group in groupby(in_order, key=_prompt_hash)]


def _as_cluster(group: Sequence[Example]) -> list[Example]:
    return [replace(example, cluster=group[0].id) for example in group]


def _cut(groups: Sequence[Sequence[Example]], held_out: int, train: int | None) -> Split:
    chosen = tuple(chain.from_iterable(groups))[:held_out]
    # A prompt whose examples are only partly held out is not trained on either: the answers would leak.
    seen = {example.cluster for example in chosen}
    others = [example for group in groups if group[0].cluster not in seen for example in group]
    return Split(train=choose_by_hash(others, "train", train), held_out=chosen)


def _is_large_enough(split: Split) -> bool:
    return min(len(split.train), len(split.held_out)) >= FEWEST


def _too_few(source: str, groups: Sequence[Sequence[Example]]) -> Problem:
    what = f"{source} is too small to train on some examples and hold out others ({_size(groups)})."
    return Problem(what, f"Add examples; the least are {FEWEST} to train on and {FEWEST} held out, of other prompts.")


def _size(groups: Sequence[Sequence[Example]]) -> str:
    examples = sum(len(group) for group in groups)
    return f"different examples: {examples:,}, different prompts: {len(groups):,}"


def _prompt_hash(example: Example) -> str:
    messages = example.prompt or (Message(role="text", content=example.completion),)
    turns = [[message["role"], " ".join(message["content"].split())] for message in messages]
    return _hash("held-out", json.dumps(turns))


def _hash(purpose: str, content: str) -> str:
    return hashlib.sha256(f"{purpose} {content}".encode()).hexdigest()
