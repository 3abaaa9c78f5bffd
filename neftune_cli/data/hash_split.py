"""Split examples into training, held-out and probe examples by content hash, independent of row order."""

import hashlib
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain, groupby

from neftune_cli.data.examples import Example, Message
from neftune_cli.errors import Problem, UsageError

MIN_EXAMPLES = 2
"""Minimum number of training and of held-out examples. One example has no variance."""
MAX_HELD_OUT = 200
PROMPTS_PER_HELD_OUT = 5
PROBE_EXAMPLES = 120


@dataclass(frozen=True)
class Split:
    """Training and held-out examples. No prompt occurs in both, and no conversation continues in the other."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def drop_duplicates(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Return the examples without those that have the content of an earlier one."""
    unique: dict[str, Example] = {}
    for example in examples:
        unique.setdefault(example.id, example)
    return tuple(unique.values())


def split_by_prompt(
    source: str,
    examples: Sequence[Example],
    *,
    train_examples: int | None,
    eval_examples: int | None,
    all_turns: bool = False,
) -> Split:
    """Hold out the prompts with the lowest hashes, and train on the others.

    The prompt of an example is what comes before its first learned turn. Prompts that differ only in white space count
    as the same, and so does the prompt of an example that continues the conversation of another one. Examples of the
    same prompt share a cluster. By default the examples of a fifth of the prompts, at most 200 examples, are held out,
    and those of all other prompts are used for training.

    Args:
        source: name of the data set, for messages.
        examples: examples without duplicates.
        all_turns: whether all assistant turns are learned, as with `--loss all-assistant`.
        train_examples: maximum number of training examples; all if None.
        eval_examples: maximum number of held-out examples.

    Raises:
        UsageError: fewer than 2 training or 2 held-out examples would remain.
    """
    groups = _groups_in_hash_order(examples, _learned_conversations(examples, all_turns=all_turns))
    default = _default_size(groups)
    split = _cut(groups, default if eval_examples is None else eval_examples, train_examples)
    if _is_large_enough(split):
        return split
    if not _is_large_enough(_cut(groups, default, None)):
        raise UsageError(_too_few(source, groups))
    what = f"--eval-examples {eval_examples} leaves {len(split.train)} training examples in {source} ({_size(groups)})."
    raise UsageError(Problem(what, f"Use a smaller number, for example --eval-examples {default}."))


@dataclass(frozen=True)
class GivenSplit:
    """Training and held-out examples of a data set that sets them apart, and the number of those left out."""

    split: Split
    in_training: int
    """Number of held-out examples that are left out because their prompt, or a part of it, occurs in training."""


def split_as_given(
    source: str,
    training: Sequence[Example],
    held_out: Sequence[Example],
    *,
    train_examples: int | None,
    eval_examples: int | None,
    all_turns: bool = False,
) -> GivenSplit:
    """Keep two sets of examples apart. Held-out prompts that count as the same as one in training are left out.

    Args:
        source: name of the held-out examples, for messages.
        training: examples for training, without duplicates.
        held_out: held-out examples, without duplicates.
        all_turns: whether all assistant turns are learned, as with `--loss all-assistant`.
        train_examples: maximum number of training examples; all if None.
        eval_examples: maximum number of held-out examples; 200 if None.

    Raises:
        UsageError: fewer than 2 training or 2 held-out examples would remain.
    """
    learned = _learned_conversations([*training, *held_out], all_turns=all_turns)
    groups = _groups_in_hash_order(training, learned)
    keys = {_group_key(example, learned) for example in training}
    train = choose_by_hash(list(chain.from_iterable(groups)), "train", train_examples)
    others = [example for example in held_out if _group_key(example, learned) not in keys]
    kept = tuple(chain.from_iterable(_groups_in_hash_order(others, learned)))
    split = Split(train, kept[: MAX_HELD_OUT if eval_examples is None else eval_examples])
    if not _is_large_enough(split):
        what = f"{source} leaves {len(split.train)} training and {len(split.held_out)} held-out examples"
        removed = f"{len(held_out) - len(kept)} held-out examples have a prompt that also occurs in training"
        fix = f"Add examples: each split needs at least {MIN_EXAMPLES}."
        if len(split.train) >= MIN_EXAMPLES <= len(held_out):
            holds_out = "Without it and without a test split, a part of the training data is held out."
            fix = f"Name other data with --eval-dataset. {holds_out}"
        raise UsageError(Problem(f"{what} ({removed}).", fix))
    return GivenSplit(split, len(held_out) - len(kept))


def choose_by_hash(examples: Sequence[Example], purpose: str, limit: int | None) -> tuple[Example, ...]:
    """Return the first `limit` examples (None: all) in the order of their hashes. Each purpose has its own order."""
    return tuple(sorted(examples, key=lambda example: _hash(purpose, example.id))[:limit])


def choose_probe(train: Sequence[Example]) -> tuple[Example, ...]:
    """Return the training examples for the noise-off training loss, at most 120."""
    return choose_by_hash(train, "probe", PROBE_EXAMPLES)


def probe_notes(wanted: int | None, trained: int) -> tuple[str, ...]:
    """Return a note if more training examples are to be evaluated than `choose_probe` chooses."""
    if wanted is None or min(wanted, trained) <= PROBE_EXAMPLES:
        return ()
    return (f"--probe-examples {wanted}: at most {PROBE_EXAMPLES} training examples are evaluated.",)


def check_example_counts(train_examples: int | None, eval_examples: int | None) -> None:
    """Check the numbers of examples that the user asked for.

    Raises:
        UsageError: a number is less than 2.
    """
    counts = {"--train-examples": train_examples, "--eval-examples": eval_examples}
    problems = [
        Problem(f"{option} {number} is too small.", f"Use {MIN_EXAMPLES} or more.")
        for option, number in counts.items()
        if number is not None and number < MIN_EXAMPLES
    ]
    if problems:
        raise UsageError(*problems)


def _groups_in_hash_order(examples: Sequence[Example], learned: Set[str]) -> list[list[Example]]:
    """Group the examples by prompt and by the conversation that they continue, and make each group one cluster."""
    by_id = sorted(examples, key=lambda example: example.id)
    keys = {example.id: _group_key(example, learned) for example in examples}
    in_order = sorted(by_id, key=lambda example: keys[example.id])
    return [_as_cluster(list(group)) for _, group in groupby(in_order, key=lambda example: keys[example.id])]


def _learned_conversations(examples: Sequence[Example], *, all_turns: bool) -> frozenset[str]:
    """Return the hashes of all conversations up to a learned turn; none if every example has one assistant turn."""
    if not any(message["role"] == "assistant" for example in examples for message in example.prompt):
        return frozenset()
    return frozenset(
        _turns_hash(example.turns[: place + 1])
        for example in examples
        if example.turns
        for place in (*example.earlier_learned_turns(all_turns=all_turns), len(example.turns) - 1)
    )


def _group_key(example: Example, learned: Set[str]) -> str:
    """Return the hash of the turns before the first one that this example, or another one with these turns, learns."""
    if not learned:
        return _prompt_hash(example)
    answers = (place for place, message in enumerate(example.turns) if message["role"] == "assistant")
    first = next((place for place in answers if _turns_hash(example.turns[: place + 1]) in learned), None)
    return _prompt_hash(example) if first is None else _turns_hash(example.turns[:first])


def _as_cluster(group: Sequence[Example]) -> list[Example]:
    return [replace(example, cluster=group[0].id) for example in group]


def _default_size(groups: Sequence[Sequence[Example]]) -> int:
    """Return the number of examples of a fifth of the prompts, at least 2 and at most 200."""
    prompts = max(1, len(groups) // PROMPTS_PER_HELD_OUT)
    return min(MAX_HELD_OUT, max(MIN_EXAMPLES, sum(map(len, groups[:prompts]))))


def _cut(groups: Sequence[Sequence[Example]], held_out: int, train: int | None) -> Split:
    chosen = tuple(chain.from_iterable(groups))[:held_out]
    # If only some examples of a prompt are held out, the others are not used for training: no prompt may occur in both.
    held_out_clusters = {example.cluster for example in chosen}
    others = [example for group in groups if group[0].cluster not in held_out_clusters for example in group]
    return Split(train=choose_by_hash(others, "train", train), held_out=chosen)


def _is_large_enough(split: Split) -> bool:
    return min(len(split.train), len(split.held_out)) >= MIN_EXAMPLES


def _too_few(source: str, groups: Sequence[Sequence[Example]]) -> Problem:
    what = f"{source} has too few examples for a training and a held-out split ({_size(groups)})."
    return Problem(what, f"Add examples: each split needs at least {MIN_EXAMPLES}, with different prompts.")


def _size(groups: Sequence[Sequence[Example]]) -> str:
    examples = sum(len(group) for group in groups)
    return f"distinct examples: {examples:,}, distinct prompts: {len(groups):,}"


def _prompt_hash(example: Example) -> str:
    return _turns_hash(example.prompt or (Message(role="text", content=example.raw_prompt or example.completion),))


def _turns_hash(messages: Sequence[Message]) -> str:
    turns = [[message["role"], " ".join(message["content"].split())] for message in messages]
    return _hash("held-out", json.dumps(turns))


def _hash(purpose: str, content: str) -> str:
    return hashlib.sha256(f"{purpose} {content}".encode()).hexdigest()
