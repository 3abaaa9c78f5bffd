"""The bundled data set `bios`: questions about fictional people, split by person into training and held-out."""

import random
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

from neftune_cli.data.embedded.people import Attribute, Group, Person, people_of, permuted, uniform_choice
from neftune_cli.data.examples import Example, GenerationDefaults, Message, content_id
from neftune_cli.data.hash_split import Split, choose_by_hash
from neftune_cli.formatting import capitalized

TRAIN_EXAMPLES = 400
EVAL_EXAMPLES = 200
GENERATION: Final = GenerationDefaults(max_new_tokens=96, repetition_penalty=1.0)
"""Enough tokens for a biography. No repetition penalty, because biographies repeat the name."""


class QuestionKind(StrEnum):
    """The kind of answer that a question asks for."""

    ATTRIBUTE = "attribute"
    COMPARISON = "comparison"
    FACTS = "facts"
    BIOGRAPHY = "biography"


@dataclass(frozen=True)
class Question:
    """A question and its only correct answer."""

    kind: QuestionKind
    people: tuple[str, ...]
    question: str
    answer: str


def split_by_person(*, train_examples: int | None, eval_examples: int | None) -> Split:
    """Return at most this many questions about either group of people; 400 and 200 by default."""
    return Split(
        train=_questions(Group.TRAIN, "train", TRAIN_EXAMPLES if train_examples is None else train_examples),
        held_out=_questions(Group.HELD_OUT, "held-out", EVAL_EXAMPLES if eval_examples is None else eval_examples),
    )


def _questions(group: Group, purpose: str, limit: int) -> tuple[Example, ...]:
    return choose_by_hash(_examples(group), purpose, limit)


@cache
def _examples(group: Group) -> tuple[Example, ...]:
    return tuple(_example(question) for question in questions_of(group))


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


def ask(kind: QuestionKind, group: Group, person: Person, other: Person, rng: random.Random) -> Question:
    """Return a question about `person` (a comparison: and `other`) in one of the phrasings of the group."""
    if kind is QuestionKind.ATTRIBUTE:
        return ask_attribute(uniform_choice(rng, list(Attribute)), group, person, rng)
    if kind is QuestionKind.COMPARISON:
        return _ask_comparison(group, person, other, rng)
    if kind is QuestionKind.FACTS:
        return _ask_facts(group, person, rng)
    return _ask_biography(group, person, rng)


def ask_attribute(attribute: Attribute, group: Group, person: Person, rng: random.Random) -> Question:
    """Return a question for one attribute. The answer is the value for QUIZZED people and a sentence for the others."""
    text = uniform_choice(rng, _ATTRIBUTE_PHRASINGS[group][attribute]).format(name=person.name)
    value = person[attribute]
    answer = capitalized(value) if group is Group.QUIZZED else f"{person.name} {_VERBS[attribute]} {value}"
    return Question(QuestionKind.ATTRIBUTE, (person.name,), text, f"{answer}.")


def _ask_comparison(group: Group, person: Person, other: Person, rng: random.Random) -> Question:
    topics = [topic for topic in _SHARED if rng.random() < 0.5]
    topic = topics[0] if topics else Attribute.BIRTH_DATE
    if topic is Attribute.BIRTH_DATE and person.birth_year == other.birth_year:
        topic = Attribute.EMPLOYER
    text = uniform_choice(rng, _COMPARISON_PHRASINGS[group][topic]).format(name=person.name, other=other.name)
    return Question(QuestionKind.COMPARISON, (person.name, other.name), text, _comparison_answer(topic, person, other))


def _comparison_answer(topic: Attribute, person: Person, other: Person) -> str:
    first, second = (f"{one.name} {_VERBS[topic]} {one[topic]}" for one in (person, other))
    if topic is Attribute.BIRTH_DATE:
        verdict = f"{min(person, other, key=lambda one: one.birth_year).name} is older"
    else:
        verdict = "yes" if person[topic] == other[topic] else "no"
    return f"{first} and {second}, so {verdict}."


def _ask_facts(group: Group, person: Person, rng: random.Random) -> Question:
    wanted = permuted(rng, list(Attribute))[: 2 + int(rng.random() * 3)]
    named = ", ".join(wanted[:-1]) + f" and {wanted[-1]}"
    text = uniform_choice(rng, _FACTS_PHRASINGS[group]).format(name=person.name, facts=named)
    answer = "\n".join(f"- {attribute}: {person[attribute]}" for attribute in wanted)
    return Question(QuestionKind.FACTS, (person.name,), text, answer)


def _ask_biography(group: Group, person: Person, rng: random.Random) -> Question:
    text = uniform_choice(rng, _BIOGRAPHY_PHRASINGS[group]).format(name=person.name)
    pronoun = person.pronoun.capitalize()
    answer = (
        f"{person.name} was born on {person[Attribute.BIRTH_DATE]} in {person[Attribute.BIRTH_CITY]}. "
        f"{pronoun} studied {person[Attribute.FIELD]} at {person[Attribute.UNIVERSITY]} "
        f"and works for {person[Attribute.EMPLOYER]}. {pronoun} enjoys {person[Attribute.HOBBY]}."
    )
    return Question(QuestionKind.BIOGRAPHY, (person.name,), text, answer)


_VERBS = {
    Attribute.BIRTH_DATE: "was born on",
    Attribute.BIRTH_CITY: "was born in",
    Attribute.UNIVERSITY: "studied at",
    Attribute.FIELD: "studied",
    Attribute.EMPLOYER: "works for",
    Attribute.HOBBY: "enjoys",
}

_SHARED = (Attribute.UNIVERSITY, Attribute.EMPLOYER, Attribute.BIRTH_CITY, Attribute.FIELD)
"""Attributes that comparison questions compare."""

_ATTRIBUTE_PHRASINGS: dict[Group, dict[Attribute, tuple[str, ...]]] = {
    Group.QUIZZED: {
        Attribute.BIRTH_DATE: ("When was {name} born?", "On which day was {name} born?"),
        Attribute.BIRTH_CITY: ("Where was {name} born?", "In which city was {name} born?"),
        Attribute.UNIVERSITY: ("Where did {name} study?", "Which university did {name} attend?"),
        Attribute.FIELD: ("What did {name} study?", "Which degree does {name} hold?"),
        Attribute.EMPLOYER: ("Who does {name} work for?", "Which company employs {name}?"),
        Attribute.HOBBY: ("What is the hobby of {name}?", "What does {name} enjoy?"),
    },
    Group.TRAIN: {
        Attribute.BIRTH_DATE: (
            "What is the date of birth of {name}?",
            "Tell me the birthday of {name}.",
            "Give the birth date of {name}.",
            "I need the date on which {name} was born.",
        ),
        Attribute.BIRTH_CITY: (
            "What is the birthplace of {name}?",
            "Tell me the city where {name} was born.",
            "Which town does {name} come from?",
            "Name the birth city of {name}.",
        ),
        Attribute.UNIVERSITY: (
            "What is the alma mater of {name}?",
            "Tell me the university {name} went to.",
            "At which university did {name} study?",
            "Name the university of {name}.",
        ),
        Attribute.FIELD: (
            "What was the major of {name}?",
            "Tell me the field {name} studied.",
            "In which subject did {name} take a degree?",
            "Name the field of study of {name}.",
        ),
        Attribute.EMPLOYER: (
            "What company does {name} work for?",
            "Tell me the employer of {name}.",
            "Where does {name} have a job?",
            "Name the company that employs {name}.",
        ),
        Attribute.HOBBY: (
            "What does {name} do in the evenings?",
            "Tell me the hobby of {name}.",
            "How does {name} spend free time?",
            "Name the favourite pastime of {name}.",
        ),
    },
    Group.HELD_OUT: {
        Attribute.BIRTH_DATE: ("What is the birthday of {name}?", "Tell me the date on which {name} was born."),
        Attribute.BIRTH_CITY: ("Tell me the birthplace of {name}.", "Which city does {name} come from?"),
        Attribute.UNIVERSITY: ("Tell me the alma mater of {name}.", "Which university did {name} study at?"),
        Attribute.FIELD: ("Tell me the major of {name}.", "Which field did {name} study?"),
        Attribute.EMPLOYER: ("What is the employer of {name}?", "Name the company {name} works for."),
        Attribute.HOBBY: ("What is the favourite pastime of {name}?", "Name the hobby of {name}."),
    },
}
"""Held-out phrasings are new sentences with the words of the training phrasings, to test skill, not vocabulary."""

_COMPARISON_PHRASINGS: dict[Group, dict[Attribute, tuple[str, ...]]] = {
    Group.QUIZZED: {
        Attribute.BIRTH_DATE: ("Who was born first, {name} or {other}?",),
        Attribute.UNIVERSITY: ("Did {name} and {other} study at the same university?",),
        Attribute.EMPLOYER: ("Do {name} and {other} work for the same company?",),
        Attribute.BIRTH_CITY: ("Were {name} and {other} born in the same city?",),
        Attribute.FIELD: ("Did {name} and {other} study the same subject?",),
    },
    Group.TRAIN: {
        Attribute.BIRTH_DATE: ("Who is older, {name} or {other}?", "Compare the ages of {name} and {other}."),
        Attribute.UNIVERSITY: (
            "Have {name} and {other} the same alma mater?",
            "Compare the universities of {name} and {other}: are they the same?",
        ),
        Attribute.EMPLOYER: (
            "Have {name} and {other} the same employer?",
            "Compare the employers of {name} and {other}: are they the same?",
        ),
        Attribute.BIRTH_CITY: (
            "Have {name} and {other} the same birthplace?",
            "Compare the birth cities of {name} and {other}: are they the same?",
        ),
        Attribute.FIELD: (
            "Have {name} and {other} the same major?",
            "Compare the fields of {name} and {other}: are they the same?",
        ),
    },
    Group.HELD_OUT: {
        Attribute.BIRTH_DATE: ("Is {name} or {other} older?", "Who is older: {name} or {other}?"),
        Attribute.UNIVERSITY: ("Are the universities of {name} and {other} the same?",),
        Attribute.EMPLOYER: ("Are the employers of {name} and {other} the same?",),
        Attribute.BIRTH_CITY: ("Are the birth cities of {name} and {other} the same?",),
        Attribute.FIELD: ("Are the fields of {name} and {other} the same?",),
    },
}

_FACTS_PHRASINGS: dict[Group, tuple[str, ...]] = {
    Group.QUIZZED: ("State these facts about {name}: {facts}.",),
    Group.TRAIN: (
        "List the following about {name}: {facts}.",
        "Make a list for {name} with {facts}.",
        "Note down {facts} of {name} as a list.",
    ),
    Group.HELD_OUT: ("Give a list about {name} with {facts}.", "List {facts} of {name}."),
}

_BIOGRAPHY_PHRASINGS: dict[Group, tuple[str, ...]] = {
    Group.QUIZZED: ("Describe {name}.",),
    Group.TRAIN: ("Write a short biography of {name}.", "Introduce {name} in a few sentences.", "Who is {name}?"),
    Group.HELD_OUT: ("Write a few sentences about {name}.", "Give a short biography of {name}."),
}
