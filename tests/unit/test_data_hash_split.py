"""Properties of the split: disjoint prompts, independence of row order, and the requested sizes."""

import random
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neftune_cli.data.embedded.bios import split_by_person
from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.hash_split import (
    Split,
    check_example_counts,
    choose_probe,
    drop_duplicates,
    probe_notes,
    split_as_given,
    split_by_prompt,
)
from neftune_cli.errors import UsageError


def example_of(question: str, answer: str) -> Example:
    prompt = (Message(role="user", content=question),)
    identity = content_id(prompt, answer)
    return Example(id=identity, prompt=prompt, completion=answer, cluster=identity)


def split_of(examples: list[Example], train: int | None = None, held_out: int | None = None) -> Split:
    return split_by_prompt("mine.jsonl", drop_duplicates(examples), train_examples=train, eval_examples=held_out)


def questions(number: int) -> list[Example]:
    return [example_of(f"What is {index}+1?", str(index + 1)) for index in range(number)]


def ids_of(examples: Sequence[Example]) -> set[str]:
    return {example.id for example in examples}


# Prompts that differ only in white space count as the same prompt.
rows = st.tuples(st.sampled_from(["a", "a ", "\na", "b", "b  c", "b c", "d", "e", "f"]), st.sampled_from("xyz"))
data_sets = st.lists(rows, min_size=0, max_size=30).map(
    lambda drawn: [example_of(*row) for row in drawn] + questions(12)
)


@given(data_sets, st.one_of(st.none(), st.integers(2, 5)))
@settings(deadline=None)
def test_training_and_held_out_examples_share_no_prompt(examples: list[Example], held_out: int | None) -> None:
    split = split_of(examples, held_out=held_out)
    asked = [
        {"".join(example.prompt[0]["content"].split()) for example in side} for side in (split.train, split.held_out)
    ]
    assert not asked[0] & asked[1]
    assert not {example.cluster for example in split.train} & {example.cluster for example in split.held_out}
    chosen = [example.id for example in split.train + split.held_out]
    assert len(chosen) == len(set(chosen))


def test_raw_examples_of_the_same_prompt_are_on_the_same_side() -> None:
    pairs = [(f"Q{index}: ", f"{answer}.") for index in range(8) for answer in range(3)]
    raw = [replace(example_of(*pair), prompt=(), raw_prompt=pair[0]) for pair in pairs]
    split = split_of(raw)
    asked = [{example.raw_prompt for example in side} for side in (split.train, split.held_out)]
    assert not asked[0] & asked[1]
    assert len({example.cluster for example in split.held_out}) == len(asked[1])


@given(data_sets, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_row_order_does_not_matter(examples: list[Example], rng: random.Random) -> None:
    shuffled = rng.sample(examples, k=len(examples))
    assert split_of(shuffled, 6, 3) == split_of(examples, 6, 3)


def test_prompts_with_the_lowest_hashes_are_held_out() -> None:
    examples = questions(50)
    prompt_hash = {
        example.id: sha256(f'held-out [["user", "{example.prompt[0]["content"]}"]]'.encode()).hexdigest()
        for example in examples
    }
    lowest = sorted(prompt_hash, key=lambda identity: prompt_hash[identity])[:10]
    assert [example.id for example in split_of(examples).held_out] == lowest


def test_new_rows_change_little_of_the_split() -> None:
    before, after = (split_of(questions(number), held_out=40) for number in (200, 220))
    newcomers = ids_of(questions(220)) - ids_of(questions(200))
    assert ids_of(after.held_out) <= ids_of(before.held_out) | newcomers
    assert len(ids_of(after.held_out) & ids_of(before.held_out)) >= 30


@pytest.mark.parametrize(
    ("number", "train", "held_out", "sizes"),
    [
        (4, None, None, (2, 2)),
        (50, None, None, (40, 10)),
        (2000, None, None, (1800, 200)),
        (50, 20, 8, (20, 8)),
        (50, 2000, None, (40, 10)),
        (50, None, 48, (2, 48)),
    ],
)
def test_sizes(number: int, train: int | None, held_out: int | None, sizes: tuple[int, int]) -> None:
    split = split_of(questions(number), train, held_out)
    assert (len(split.train), len(split.held_out)) == sizes


def test_one_fifth_of_the_prompts_is_held_out_with_all_their_answers() -> None:
    answers = [example_of(f"{question}?", f"{answer}.") for question in range(50) for answer in range(3)]
    split = split_of(answers)
    assert len({example.prompt[0]["content"] for example in split.held_out}) == 10
    assert (len(split.train), len(split.held_out)) == (120, 30)
    two = split_of([example_of(f"{question}?", f"{answer}.") for question in range(2) for answer in range(9)])
    assert (len(two.train), len(two.held_out)) == (9, 9)
    many = split_of([example_of(f"{question}?", f"{answer}.") for question in range(50) for answer in range(30)])
    assert (len(many.train), len(many.held_out)) == (43 * 30, 200)  # the 200 are from 7 prompts


def test_examples_of_one_prompt_share_a_cluster_and_a_split() -> None:
    paraphrases = [example_of("Why?", f"Because {index}.") for index in range(5)]
    split = split_of(paraphrases + questions(20))
    sides = [
        side
        for side in (split.train, split.held_out)
        if any(example.prompt[0]["content"] == "Why?" for example in side)
    ]
    assert len(sides) == 1
    assert len({example.cluster for example in sides[0] if example.prompt[0]["content"] == "Why?"}) == 1


def unrolled(*turns: str) -> list[Example]:
    """Return one example for each answer of a conversation, with all turns before it as the prompt."""
    messages = [
        Message(role="user" if not place % 2 else "assistant", content=turn) for place, turn in enumerate(turns)
    ]
    return [
        Example(
            id=content_id(prompt := tuple(messages[:end]), turns[end]), prompt=prompt, completion=turns[end], cluster=""
        )
        for end in range(1, len(turns), 2)
    ]


def test_examples_that_continue_a_conversation_are_on_its_side() -> None:
    talks = [unrolled(f"Hello {number}", "Hi.", "And?", " Nothing. ", "Bye", "Bye.") for number in range(12)]
    shortened = [talk if number % 2 else [talk[0], talk[2]] for number, talk in enumerate(talks)]
    split = split_of([example for talk in shortened for example in talk])
    sides = [ids_of(split.train), ids_of(split.held_out)]
    for talk in shortened:
        assert any(ids_of(talk) <= side for side in sides)
    assert len({example.cluster for example in (*split.train, *split.held_out)}) == len(talks)


def test_held_out_examples_that_continue_or_begin_a_conversation_in_training_are_left_out() -> None:
    first, second, third = unrolled("Hello", "Hi.", "And?", "Nothing.", "Bye", "Bye.")
    (another,) = unrolled("Hello", "Good morning.")
    for trained, left_out in ((second, [first, another, third]), (first, [second, third, another])):
        given = split_as_given(
            "t", [trained, *questions(3)], [*left_out, *questions(9)[5:]], train_examples=None, eval_examples=None
        )
        assert given.in_training == len(ids_of(left_out) - ids_of(given.split.held_out))
        assert not ids_of(left_out) & ids_of(given.split.held_out)


def in_turns(*turns: str, completion_turns: int) -> Example:
    """Return a conversation of user and assistant turns whose last turns are the completion."""
    last = unrolled(*turns)[-1]
    return replace(
        last, id=content_id(last.prompt, last.completion, completion_turns), completion_turns=completion_turns
    )


@pytest.mark.parametrize(("completion_turns", "all_turns"), [(3, False), (1, True)])
def test_conversations_that_share_the_turns_before_a_learned_turn_are_on_one_side(
    completion_turns: int, all_turns: bool
) -> None:
    talks = [
        [
            in_turns(f"Hello {number}", "Hi.", question, "Yes.", completion_turns=completion_turns)
            for question in ("And?", "Well?")
        ]
        for number in range(12)
    ]
    split = split_by_prompt(
        "t", [one for talk in talks for one in talk], train_examples=None, eval_examples=None, all_turns=all_turns
    )
    sides = [ids_of(split.train), ids_of(split.held_out)]
    assert all(any(ids_of(talk) <= side for side in sides) for talk in talks)
    first, second = talks[0]
    others = [example for talk in talks[1:4] for example in talk]
    given = split_as_given(
        "t", [first, *others], [second, *questions(9)], train_examples=None, eval_examples=None, all_turns=all_turns
    )
    assert given.in_training == 1


def test_conversations_that_share_turns_without_loss_may_be_apart() -> None:
    talks = [in_turns("Hello", "Hi.", f"And {number}?", "Yes.", completion_turns=1) for number in range(10)]
    assert len({one.cluster for one in split_of(talks).train}) == 8


def test_plain_texts_are_split_by_their_text() -> None:
    texts = [replace(example, prompt=()) for example in questions(20)]
    split = split_of(texts)
    assert {example.completion for example in split.train}.isdisjoint(example.completion for example in split.held_out)
    assert (len(split.train), len(split.held_out)) == (16, 4)


@pytest.mark.parametrize(("number", "expected"), [(6, 4), (150, 120), (400, 120)])
def test_probe_examples_are_training_examples(number: int, expected: int) -> None:
    train = split_of(questions(number)).train
    probe = choose_probe(train)
    assert len(probe) == len(ids_of(probe)) == expected
    assert ids_of(probe) <= ids_of(train)
    assert probe == choose_probe(train[::-1])
    assert probe[:4] != train[:4]


@pytest.mark.parametrize(("number", "held_out"), [(3, None), (3, 2), (0, None), (10, 9), (10, 500)])
def test_too_few_examples_are_an_error(number: int, held_out: int | None) -> None:
    with pytest.raises(UsageError):
        split_of(questions(number), held_out=held_out)


def test_both_example_counts_are_reported_at_once() -> None:
    with pytest.raises(UsageError) as error:
        check_example_counts(1, 0)
    assert len(error.value.problems) == 2


def test_bundled_data_set_is_split_by_person() -> None:
    split = split_by_person(train_examples=None, eval_examples=None)
    assert (len(split.train), len(split.held_out)) == (400, 200)
    assert {example.cluster for example in split.train}.isdisjoint(example.cluster for example in split.held_out)
    held_out_names = {example.cluster for example in split.held_out}
    assert not any(name in example.prompt[0]["content"] for example in split.train for name in held_out_names)
    assert {example.kind for example in split.held_out} == {"attribute", "comparison", "facts", "biography"}


def test_smaller_selections_of_the_bundled_data_set_are_prefixes_of_larger_ones() -> None:
    fewer, more = (split_by_person(train_examples=number, eval_examples=number) for number in (10, 20))
    assert fewer.train == more.train[:10]
    assert fewer.held_out == more.held_out[:10]


@pytest.mark.parametrize(("wanted", "trained", "noted"), [(None, 500, 0), (500, 100, 0), (120, 500, 0), (121, 500, 1)])
def test_a_note_names_the_largest_number_of_evaluated_training_examples(
    wanted: int | None, trained: int, noted: int
) -> None:
    notes = probe_notes(wanted, trained)
    assert len(notes) == noted
    assert all("at most 120 training examples" in note for note in notes)
