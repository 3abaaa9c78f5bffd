"""Accuracy of a model on facts about the people: completions of unseen paraphrases, and plain questions."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from experiments.tiny_base.corpus import PROBE_SENTENCES, sentence
from neftune_cli.data.embedded.bios import ask_attribute
from neftune_cli.data.embedded.people import Attribute, Group, Person, people_of, population

BATCH_SIZE = 128
ANSWER_TOKENS = 10


def completion_accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, every: int = 1) -> float:
    """Return the share of (person, attribute) pairs whose unseen paraphrase is completed with the correct value."""
    prompts, answers = [], []
    for person in population()[::every]:
        for attribute in Attribute:
            stem, _, _ = PROBE_SENTENCES[attribute].partition(" {value}")
            prompts.append(" " + sentence(stem, person.name, ""))
            answers.append(person[attribute])
    return _share_correct(model, tokenizer, prompts, answers)


def plain_question_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, every: int = 1
) -> dict[Group, float]:
    """Return, per group, the share of plain one-attribute questions with a correct answer.

    For people outside `Group.QUIZZED` this tests knowledge extraction: pretraining has their facts but no questions.
    """
    return {group: _plain_accuracy(model, tokenizer, people_of(group)[::every]) for group in Group}


def _plain_accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, people: Sequence[Person]) -> float:
    rng = random.Random(0)
    questions = [ask_attribute(attribute, Group.QUIZZED, person, rng) for person in people for attribute in Attribute]
    prompts = [f" Question: {one.question} Answer:" for one in questions]
    return _share_correct(model, tokenizer, prompts, [one.answer for one in questions])


@torch.no_grad()
def _share_correct(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], answers: Sequence[str]
) -> float:
    model.eval()
    generator: Any = model
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    correct = 0
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        batch = tokenizer([prompts[i] for i in rows], return_tensors="pt", padding=True, padding_side="left")
        output = generator.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        correct += sum(text.strip().startswith(answers[i]) for i, text in zip(rows, texts, strict=True))
    return correct / len(prompts)
