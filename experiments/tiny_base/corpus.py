"""The pretraining text of `tiny`: biographies of all people, and questions and answers about the quizzed people."""

import random
from collections.abc import Iterator

from experiments.tiny_base.biographies import biography
from neftune_cli.data.embedded.people import Group, Person, people_of, population, uniform_choice
from neftune_cli.data.embedded.questions import QuestionKind, ask

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
