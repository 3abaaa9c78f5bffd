"""The embedded data set `bios` as a split: some people are asked about in training, others are held out."""

from typing import Final

from neftune_cli.data.embedded.bios import questions_of
from neftune_cli.data.embedded.people import Group
from neftune_cli.data.embedded.questions import Question
from neftune_cli.data.examples import Example, GenerationDefaults, Message
from neftune_cli.data.fingerprint import content_id
from neftune_cli.data.split import Split, chosen_by_hash

TRAIN_EXAMPLES = 400
EVAL_EXAMPLES = 200
GENERATION: Final = GenerationDefaults(max_new_tokens=96, repetition_penalty=1.0)
"""The longest answers are biographies; they repeat a name rightly, so repetition isn't penalised."""


def split_by_person(*, train_examples: int | None, eval_examples: int | None) -> Split:
    """Return at most so many questions about either group of people; 400 and 200 by default."""
    return Split(
        train=_questions(Group.TRAIN, "train", TRAIN_EXAMPLES if train_examples is None else train_examples),
        held_out=_questions(Group.HELD_OUT, "held-out", EVAL_EXAMPLES if eval_examples is None else eval_examples),
    )


def _questions(group: Group, purpose: str, most: int) -> tuple[Example, ...]:
    return chosen_by_hash([_example(question) for question in questions_of(group)], purpose, most)


def _example(question: Question) -> Example:
    prompt = (Message(role="user", content=question.question),)
    return Example(
        id=content_id(prompt, question.answer),
        prompt=prompt,
        completion=question.answer,
        cluster=question.people[0],
        kind=str(question.kind),
    )
