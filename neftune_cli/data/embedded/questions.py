"""Questions about the fictional people and their exact answers: four kinds, three disjoint sets of phrasings."""

import random
from dataclasses import dataclass
from enum import StrEnum

from neftune_cli.data.embedded.people import Attribute, Group, Person, permuted, uniform_choice


class Kind(StrEnum):
    """What a question asks for."""

    ATTRIBUTE = "attribute"
    COMPARISON = "comparison"
    FACTS = "facts"
    BIOGRAPHY = "biography"


@dataclass(frozen=True)
class Question:
    """A question in natural words and the one answer that is right."""

    kind: Kind
    people: tuple[str, ...]
    question: str
    answer: str


def ask(kind: Kind, group: Group, person: Person, other: Person, rng: random.Random) -> Question:
    """Ask about `person` (and `other`, if the kind compares) in one of the phrasings the group owns."""
    if kind is Kind.ATTRIBUTE:
        return ask_attribute(uniform_choice(rng, list(Attribute)), group, person, rng)
    if kind is Kind.COMPARISON:
        return _ask_comparison(group, person, other, rng)
    if kind is Kind.FACTS:
        return _ask_facts(group, person, rng)
    return _ask_biography(group, person, rng)


def ask_attribute(attribute: Attribute, group: Group, person: Person, rng: random.Random) -> Question:
    """Ask for one attribute; the answer is the bare value."""
    text = uniform_choice(rng, _ATTRIBUTE_PHRASINGS[group][attribute]).format(name=person.name)
    return Question(Kind.ATTRIBUTE, (person.name,), text, f"{_capitalised(person[attribute])}.")


def _ask_comparison(group: Group, person: Person, other: Person, rng: random.Random) -> Question:
    topics = [topic for topic in _SAME if rng.random() < 0.5]
    topic = topics[0] if topics else Attribute.BIRTH_DATE
    if topic is Attribute.BIRTH_DATE and person.birth_year == other.birth_year:
        topic = Attribute.EMPLOYER
    text = uniform_choice(rng, _COMPARISON_PHRASINGS[group][topic]).format(name=person.name, other=other.name)
    return Question(Kind.COMPARISON, (person.name, other.name), text, _comparison_answer(topic, person, other))


def _comparison_answer(topic: Attribute, person: Person, other: Person) -> str:
    if topic is Attribute.BIRTH_DATE:
        older = min(person, other, key=lambda someone: someone.birth_year)
        first, second = (f"{one.name} was born on {one[topic]}" for one in (person, other))
        return f"{first} and {second}, so {older.name} is older."
    verb = _SAME[topic]
    first, second = (f"{one.name} {verb} {one[topic]}" for one in (person, other))
    return f"{first} and {second}, so {'yes' if person[topic] == other[topic] else 'no'}."


def _ask_facts(group: Group, person: Person, rng: random.Random) -> Question:
    wanted = permuted(rng, list(Attribute))[: 2 + int(rng.random() * 3)]
    named = ", ".join(wanted[:-1]) + f" and {wanted[-1]}"
    text = uniform_choice(rng, _FACTS_PHRASINGS[group]).format(name=person.name, facts=named)
    answer = "\n".join(f"- {attribute}: {person[attribute]}" for attribute in wanted)
    return Question(Kind.FACTS, (person.name,), text, answer)


def _ask_biography(group: Group, person: Person, rng: random.Random) -> Question:
    text = uniform_choice(rng, _BIOGRAPHY_PHRASINGS[group]).format(name=person.name)
    pronoun = person.pronoun.capitalize()
    answer = (
        f"{person.name} was born on {person[Attribute.BIRTH_DATE]} in {person[Attribute.BIRTH_CITY]}. "
        f"{pronoun} studied {person[Attribute.FIELD]} at {person[Attribute.UNIVERSITY]} "
        f"and works for {person[Attribute.EMPLOYER]}. {pronoun} enjoys {person[Attribute.HOBBY]}."
    )
    return Question(Kind.BIOGRAPHY, (person.name,), text, answer)


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


_SAME = {
    Attribute.UNIVERSITY: "studied at",
    Attribute.EMPLOYER: "works for",
    Attribute.BIRTH_CITY: "was born in",
    Attribute.FIELD: "studied",
}
"""Attributes two people can share, each with the verb that states it."""

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
        Attribute.BIRTH_DATE: ("Which day is the birthday of {name}?", "Please tell me when {name} was born."),
        Attribute.BIRTH_CITY: ("Which city is the birthplace of {name}?", "Please tell me where {name} was born."),
        Attribute.UNIVERSITY: (
            "Which university awarded the degree of {name}?",
            "Please tell me where {name} studied.",
        ),
        Attribute.FIELD: ("Which subject did {name} major in?", "Please tell me what {name} studied."),
        Attribute.EMPLOYER: ("Which company is the employer of {name}?", "Please tell me who {name} works for."),
        Attribute.HOBBY: ("Which pastime is {name} fond of?", "Please tell me what {name} enjoys."),
    },
}

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
        Attribute.BIRTH_DATE: ("Which of the two is older, {name} or {other}?",),
        Attribute.UNIVERSITY: ("Did {name} attend the same university as {other}?",),
        Attribute.EMPLOYER: ("Is {name} employed by the same company as {other}?",),
        Attribute.BIRTH_CITY: ("Does {name} come from the same city as {other}?",),
        Attribute.FIELD: ("Did {name} take the same degree as {other}?",),
    },
}

_FACTS_PHRASINGS: dict[Group, tuple[str, ...]] = {
    Group.QUIZZED: ("State these facts about {name}: {facts}.",),
    Group.TRAIN: (
        "List the following about {name}: {facts}.",
        "Make a list for {name} with {facts}.",
        "Note down {facts} of {name} as a list.",
    ),
    Group.HELD_OUT: ("Write a list about {name}: {facts}.", "As a list, give {facts} of {name}."),
}

_BIOGRAPHY_PHRASINGS: dict[Group, tuple[str, ...]] = {
    Group.QUIZZED: ("Describe {name}.",),
    Group.TRAIN: ("Write a short biography of {name}.", "Introduce {name} in a few sentences.", "Who is {name}?"),
    Group.HELD_OUT: ("Tell me about {name}.", "Please write a few sentences about {name}."),
}
