"""The bundled data set `bios`: questions about fictional people, split by person into training and held-out."""

import random
from typing import Final

from neftune_cli.data.embedded.people import Group, Person, people_of, uniform_choice
from neftune_cli.data.embedded.questions import Question, QuestionKind, ask
from neftune_cli.data.examples import Example, GenerationDefaults, Message, content_id
from neftune_cli.data.split import Split, choose_by_hash

TRAIN_EXAMPLES = 400
EVAL_EXAMPLES = 200
GENERATION: Final = GenerationDefaults(max_new_tokens=96, repetition_penalty=1.0)
"""Enough tokens for a biography. No repetition penalty, because biographies repeat the name."""


def split_by_person(*, train_examples: int | None, eval_examples: int | None) -> Split:
    """Return at most this many questions about either group of people; 400 and 200 by default."""
    return Split(
        train=_questions(Group.TRAIN, "train", TRAIN_EXAMPLES if train_examples is None else train_examples),
        held_out=_questions(Group.HELD_OUT, "held-out", EVAL_EXAMPLES if eval_examples is None else eval_examples),
    )


def _questions(group: Group, purpose: str, most: int) -> tuple[Example, ...]:
    return choose_by_hash([_example(question) for question in questions_of(group)], purpose, most)


def _example(question: Question) -> Example:
    prompt = (Message(role="user", content=question.question),)
    return Example(
        id=content_id(prompt, question.answer),
        prompt=prompt,
        completion=question.answer,
        cluster=question.people[0],
        kind=str(question.kind),
    )


QUESTIONS_PER_PERSON: Final = {
    QuestionKind.ATTRIBUTE: 3,
    QuestionKind.COMPARISON: 1,
    QuestionKind.FACTS: 1,
    QuestionKind.BIOGRAPHY: 1,
}
INSTRUCTION_SEED = 58


def questions_of(group: Group) -> list[Question]:
    """Return the questions about the people of a group, without duplicates; the same on every machine."""
    rng = random.Random(f"{INSTRUCTION_SEED} {group}")
    people = people_of(group)
    asked = (
        ask(kind, group, person, _another(person, people, rng), rng)
        for person in people
        for kind, number in QUESTIONS_PER_PERSON.items()
        for _ in range(number)
    )
    return list({question.question: question for question in asked}.values())


def _another(person: Person, people: list[Person], rng: random.Random) -> Person:
    while (other := uniform_choice(rng, people)) is person:
        pass
    return other
