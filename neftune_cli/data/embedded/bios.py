"""The embedded data set `bios`: questions about fictional people, split by person."""

import random
from typing import Final

from neftune_cli.data.embedded.people import Group, Person, people_of, uniform_choice
from neftune_cli.data.embedded.questions import Kind, Question, ask

QUESTIONS_A_PERSON: Final = {Kind.ATTRIBUTE: 3, Kind.COMPARISON: 1, Kind.FACTS: 1, Kind.BIOGRAPHY: 1}
INSTRUCTION_SEED = 58


def questions_of(group: Group) -> list[Question]:
    """Return the questions about one group's people, each question once, the same on every machine."""
    rng = random.Random(f"{INSTRUCTION_SEED} {group}")
    people = people_of(group)
    asked = (
        ask(kind, group, person, _another(person, people, rng), rng)
        for person in people
        for kind, number in QUESTIONS_A_PERSON.items()
        for _ in range(number)
    )
    return list({question.question: question for question in asked}.values())


def _another(person: Person, people: list[Person], rng: random.Random) -> Person:
    while (other := uniform_choice(rng, people)) is person:
        pass
    return other
