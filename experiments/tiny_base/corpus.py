"""The pretraining text of `tiny`: biographies of all people, and questions and answers about the quizzed people."""

import random
from collections.abc import Iterator

from neftune_cli.data.embedded.bios import QuestionKind, ask
from neftune_cli.data.embedded.people import Attribute, Group, Person, people_of, permuted, population, uniform_choice

QUIZ_SHARE = 0.4
"""Share of documents with questions and answers. The others are biographies."""

QUESTIONS_PER_DOCUMENT = 5
_KINDS = (QuestionKind.ATTRIBUTE,) * 6 + (QuestionKind.COMPARISON, QuestionKind.FACTS, QuestionKind.BIOGRAPHY)


def documents(rng: random.Random) -> Iterator[str]:
    """Yield an endless stream of documents with random paraphrases."""
    everyone, quizzed = population(), people_of(Group.QUIZZED)
    while True:
        if rng.random() < QUIZ_SHARE:
            yield quiz(rng, quizzed)
        else:
            yield biography(uniform_choice(rng, everyone), rng)


def quiz(rng: random.Random, people: list[Person]) -> str:
    """Return questions, each with its answer, in plain text."""
    lines = []
    for _ in range(QUESTIONS_PER_DOCUMENT):
        person, other = uniform_choice(rng, people), uniform_choice(rng, people)
        asked = ask(uniform_choice(rng, _KINDS), Group.QUIZZED, person, other, rng)
        lines.append(f"Question: {asked.question} Answer: {asked.answer}")
    return "\n".join(lines)


SENTENCES: dict[Attribute, tuple[str, ...]] = {
    Attribute.BIRTH_DATE: (
        "{subject} was born on {value}.",
        "{subject} came into the world on {value}.",
        "{subject} has celebrated every birthday since {value}.",
        "{subject} arrived on {value}.",
        "{owner} life began on {value}.",
        "{owner} parents welcomed their child on {value}.",
        "{owner} birth took place on {value}.",
        "{subject} gives as date of birth {value}.",
        "According to the register, {subject} was born on {value}.",
        "{owner} birthday goes back to {value}.",
    ),
    Attribute.BIRTH_CITY: (
        "{subject} was born in {value}.",
        "{subject} came into the world in {value}.",
        "{subject} hails from {value}.",
        "{subject} is a native of {value}.",
        "{owner} birthplace is {value}.",
        "{owner} early years passed in {value}.",
        "{subject} grew up in the town of birth, {value}.",
        "{subject} comes originally from {value}.",
        "{owner} home town is {value}.",
        "{owner} family lived in {value}.",
    ),
    Attribute.UNIVERSITY: (
        "{subject} studied at {value}.",
        "{subject} graduated from {value}.",
        "{subject} earned a degree at {value}.",
        "{subject} attended {value}.",
        "{subject} spent the student years at {value}.",
        "{owner} alma mater is {value}.",
        "{owner} degree was awarded by {value}.",
        "{subject} is an alumnus of {value}.",
        "{subject} was educated at {value}.",
        "For higher education {subject} went to {value}.",
    ),
    Attribute.FIELD: (
        "{subject} majored in {value}.",
        "{subject} holds a degree in {value}.",
        "{subject} specialised in {value}.",
        "{subject} took a degree in {value}.",
        "{subject} is trained in {value}.",
        "The subject {subject} chose was {value}.",
        "{owner} studies were in {value}.",
        "{owner} major was {value}.",
        "{subject} devoted the student years to {value}.",
        "{owner} field of study was {value}.",
    ),
    Attribute.EMPLOYER: (
        "{subject} works for {value}.",
        "{subject} is employed by {value}.",
        "{subject} has a job at {value}.",
        "{subject} made a career at {value}.",
        "{subject} joined the staff of {value}.",
        "{owner} employer is {value}.",
        "The company {subject} works for is {value}.",
        "{subject} earns a living at {value}.",
        "{subject} is on the payroll of {value}.",
        "{owner} working days are spent at {value}.",
    ),
    Attribute.HOBBY: (
        "{subject} enjoys {value}.",
        "{subject} spends weekends on {value}.",
        "{subject} is fond of {value}.",
        "{subject} relaxes with {value}.",
        "{subject} has a passion for {value}.",
        "{owner} favourite pastime is {value}.",
        "{owner} hobby is {value}.",
        "In the evenings {subject} likes {value}.",
        "{subject} is keen on {value}.",
        "{owner} free time goes into {value}.",
    ),
}

PROBE_SENTENCES: dict[Attribute, str] = {
    Attribute.BIRTH_DATE: "{owner} date of birth is {value}.",
    Attribute.BIRTH_CITY: "{owner} birth city is {value}.",
    Attribute.UNIVERSITY: "{owner} university is {value}.",
    Attribute.FIELD: "{subject} has a degree in {value}.",
    Attribute.EMPLOYER: "{subject} is on the staff of {value}.",
    Attribute.HOBBY: "{owner} favourite hobby is {value}.",
}
"""Paraphrases that do not occur in the pretraining text, in words that do. Completing them measures knowledge."""


def biography(person: Person, rng: random.Random) -> str:
    """Return a biography of six sentences, with random paraphrases and order.

    Half of the biographies use the full name in every sentence. The others use a pronoun after the first sentence.
    """
    attributes = permuted(rng, list(Attribute))
    full_name_throughout = rng.random() < 0.5
    sentences = []
    for position, attribute in enumerate(attributes):
        subject = person.name if position == 0 or full_name_throughout else person.pronoun
        sentences.append(sentence(uniform_choice(rng, SENTENCES[attribute]), subject, person[attribute]))
    return " ".join(sentences)


def sentence(template: str, subject: str, value: str) -> str:
    """Fill in a template with its subject (a full name or a pronoun) and value, and capitalize the first letter."""
    owner = _POSSESSIVES.get(subject, f"{subject}'s")
    text = template.format(subject=subject, owner=owner, value=value)
    return text[0].upper() + text[1:]


_POSSESSIVES = {"she": "her", "he": "his"}
