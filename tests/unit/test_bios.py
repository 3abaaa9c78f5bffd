"""The bundled data set: reproducible people, a split by person, disjoint phrasings, and correct answers."""

import hashlib
import itertools
import json
import random
import re

from experiments.tiny_base.corpus import PROBE_SENTENCES, SENTENCES, biography, documents, sentence
from neftune_cli.data.embedded.bios import QuestionKind, questions_of
from neftune_cli.data.embedded.people import Attribute, Group, people_of, population


def test_people_are_the_same_on_every_machine() -> None:
    facts = json.dumps([(one.name, one.pronoun, one.values) for one in population()])
    assert hashlib.sha256(facts.encode()).hexdigest()[:16] == "b05421490c815e7b"


def test_pretraining_text_is_the_same_on_every_machine() -> None:
    text = "".join(itertools.islice(documents(random.Random(5)), 3000))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "97e32aa9507758d1"


def test_number_of_people_and_attributes() -> None:
    people = population()
    assert len(people) == len({one.name for one in people}) == 1200
    assert all(len(dict(one.values)) == len(Attribute) == 6 for one in people)


def test_training_and_held_out_questions_share_no_person() -> None:
    named = {
        group: {name for question in questions_of(group) for name in question.people}
        for group in (Group.TRAIN, Group.HELD_OUT)
    }
    assert not named[Group.TRAIN] & named[Group.HELD_OUT]
    assert named[Group.HELD_OUT] <= {one.name for one in people_of(Group.HELD_OUT)}


def test_training_and_held_out_questions_share_no_phrasing() -> None:
    phrasings = {}
    for group in (Group.TRAIN, Group.HELD_OUT):
        names = "|".join(one.name for one in people_of(group))
        facts = "|".join(Attribute)
        phrasings[group] = {
            re.sub(rf"(?:(?:{facts})(?:, | and )?)+", "FACTS ", re.sub(names, "NAME", one.question))
            for one in questions_of(group)
            if one.kind is not QuestionKind.ATTRIBUTE
        } | {re.sub(names, "NAME", one.question) for one in questions_of(group) if one.kind is QuestionKind.ATTRIBUTE}
    assert len(phrasings[Group.HELD_OUT]) >= 16
    assert not phrasings[Group.TRAIN] & phrasings[Group.HELD_OUT]


def test_all_kinds_occur_and_each_answer_contains_facts_of_its_person() -> None:
    people = {one.name: one for one in population()}
    questions = questions_of(Group.HELD_OUT)
    assert {one.kind for one in questions} == set(QuestionKind)
    fewest_facts = {
        QuestionKind.ATTRIBUTE: 1,
        QuestionKind.COMPARISON: 1,
        QuestionKind.FACTS: 2,
        QuestionKind.BIOGRAPHY: 6,
    }
    for one in questions:
        person = people[one.people[0]]
        stated = [attribute for attribute in Attribute if person[attribute] in one.answer]
        assert len(stated) >= fewest_facts[one.kind]


def test_older_person_is_the_one_born_earlier() -> None:
    years = {one.name: one.birth_year for one in population()}
    asked = [one for one in questions_of(Group.TRAIN) if one.answer.endswith(" is older.")]
    assert len(asked) > 10
    for one in asked:
        older = min(one.people, key=lambda name: years[name])
        assert one.answer.endswith(f"so {older} is older.")


def test_biography_states_every_attribute_in_varying_paraphrases() -> None:
    person, rng = population()[0], random.Random(0)
    texts = {biography(person, rng) for _ in range(20)}
    assert len(texts) == 20
    assert all(person[attribute] in text for text in texts for attribute in Attribute)


def test_probe_sentences_do_not_occur_in_the_pretraining_text() -> None:
    text = "\n".join(itertools.islice(documents(random.Random(1)), 3000))
    for attribute, probe in PROBE_SENTENCES.items():
        assert probe not in SENTENCES[attribute]
        stem = sentence(probe.partition(" {value}")[0], "X", "").replace("X", "")
        assert not re.search(rf"\w{re.escape(stem)}\b", text)


def test_pronouns_and_names_take_the_possessive_form() -> None:
    assert sentence("{owner} employer is {value}.", "she", "Flint Motors") == "Her employer is Flint Motors."
    assert (
        sentence("{owner} employer is {value}.", "Ada Voss", "Flint Motors") == "Ada Voss's employer is Flint Motors."
    )
