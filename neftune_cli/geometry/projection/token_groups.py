"""Groups of tokens of a vocabulary, by lists of words; matching is exact, so `May` and `may` differ."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from neftune_cli.data.embedded.people import Attribute, population
from neftune_cli.errors import Problem, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FUNCTION_WORDS = frozenset(
    "a about after all also an and any are as at be because been before between both but by can could did do does "
    "during each every for from had has have he her him his how i if in into is it its may me more most must my no "
    "nor not of on or other our over she should so some such than that the their them then there these they this "
    "those through to under until up us was we were what when where which while who whose why will with would you "
    "your".split()
)

VERBS = frozenset(
    "add ask asked attend attended became become began begin born bring brought build built buy call called came "
    "change choose come create describe describes develop died earn earned eat employ employs enjoy enjoys explain "
    "feel felt find found gave get give goes grow grew hear heard help helped hold holds join joined keep kept knew "
    "know known knows learn learned leave led lived lives look looked lost love made make making meet met move moved "
    "need needed pass passed pay play played provide put ran read run said saw say see seen send sent show showed "
    "sing sold spend spent stand started stay stood studied study studying take taken taught teach tell think "
    "thought told took try turned understand used using walk want wanted went win won work worked working works write "
    "written wrote".split()
)

MONTHS_AND_DAYS = frozenset(
    "January February March April May June July August September October November December "
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
)

NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion".split()
)

_COMMON_NAMES = (
    "Adam Alan Albert Alex Alexander Alice Amy Andrew Ann Anna Anne Anthony Arthur Ben Benjamin Carl Charles Chris "
    "Christopher Daniel David Edward Elizabeth Emily Emma Eric Francis Frank Fred George Greg Hannah Harry Helen "
    "Henry Isaac Jack Jacob James Jane Jason Jean Jeff Jennifer Jim Joan Joe John Johnny Joseph Julia Karl Kate Kevin "
    "Laura Lily Linda Lisa Louis Lucy Margaret Maria Mark Martin Mary Matt Matthew Max Michael Mike Nancy Nathan "
    "Nicholas Oliver Patrick Paul Peter Philip Rachel Richard Robert Roger Ruth Ryan Sam Samuel Sara Sarah Simon "
    "Sophia Stephen Steve Steven Susan Thomas Tim Timmy Tom Tommy Victor Walter William"
)

_COMMON_PLACES = (
    "Africa Alaska America Amsterdam Arizona Asia Athens Australia Austria Bangladesh Beijing Berlin Boston Brazil "
    "Britain California Cambridge Canada Chicago Chile China Colorado Cuba Denmark Dublin Egypt England Ethiopia "
    "Europe Florida France Georgia Germany Greece Hawaii Illinois India Indonesia Iran Iraq Ireland Israel Istanbul "
    "Italy Japan Jerusalem Kenya Korea London Louisiana Madrid Massachusetts Mexico Michigan Minnesota Moscow Nepal "
    "Netherlands Nigeria Norway Ohio Ontario Oregon Oxford Pakistan Paris Peru Philadelphia Poland Portugal Rome "
    "Russia Scotland Seattle Singapore Spain Sweden Switzerland Sydney Syria Taiwan Texas Thailand Tokyo Toronto "
    "Turkey Ukraine Utah Vienna Vietnam Virginia Wales Washington Wisconsin"
)


@cache
def names() -> frozenset[str]:
    """Return common first names and all names of people in the bundled data set."""
    fictional = (part for person in population() for part in person.name.split())
    return frozenset((*_COMMON_NAMES.split(), *fictional))


@cache
def places() -> frozenset[str]:
    """Return countries, states, cities, and all cities in the bundled data set."""
    return frozenset((*_COMMON_PLACES.split(), *(person[Attribute.BIRTH_CITY] for person in population())))


MIN_GROUP_SIZE: Final = 5
"""Smallest size of a group; smaller groups are omitted."""
MIN_GROUPS: Final = 2
"""Smallest number of groups: with one group, no neighbor can be in another."""
_MAX_DIGITS: Final = 4
PUNCTUATION: Final = "punctuation"


@dataclass(frozen=True)
class TokenGroup:
    """Tokens of one kind, ordered by id: in most vocabularies, low ids are frequent tokens."""

    name: str
    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    """Text of each token without the space before it."""


@dataclass(frozen=True)
class GroupedTokens:
    """The groups of a vocabulary, in the order of `GROUP_NAMES`."""

    groups: tuple[TokenGroup, ...]
    notes: tuple[str, ...]
    """One sentence per omitted group."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Return the ids of all tokens, group after group."""
        return tuple(token for group in self.groups for token in group.token_ids)

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the texts of all tokens, in the same order."""
        return tuple(text for group in self.groups for text in group.texts)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Return the group of each token, in the same order."""
        return tuple(group.name for group in self.groups for _ in group.token_ids)


def group_tokens(tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int, model: str) -> GroupedTokens:
    """Select tokens of a vocabulary: whole words, numbers and punctuation, each text once, in the order of their ids.

    Args:
        tokenizer: any tokenizer, with any marking of word starts.
        max_tokens: largest number of tokens per group.
        model: the model's name, for messages.

    Raises:
        UsageError: fewer than two groups have five members.
    """
    found: dict[str, dict[str, int]] = {name: {} for name in GROUP_NAMES}
    for token, text in _texts_in_a_sentence(tokenizer):
        name = _group_of(text)
        if name is not None:
            found[name].setdefault(text.strip(), token)
    groups = [_group(name, members, max_tokens) for name, members in found.items() if len(members) >= MIN_GROUP_SIZE]
    if len(groups) < MIN_GROUPS:
        raise UsageError(_too_few_groups(model, found))
    return GroupedTokens(tuple(groups), tuple(_left_out(found)))


def _texts_in_a_sentence(tokenizer: "PreTrainedTokenizerBase") -> Iterator[tuple[int, str]]:
    """Yield the id of every token and its text after another token, which includes the space before a word.

    A single SentencePiece token decodes without that space, and a WordPiece token has none.
    """
    before = tokenizer.tokenize("a")[-1:]
    prefix = tokenizer.convert_tokens_to_string(before) if before else ""
    special = set(tokenizer.all_special_ids)
    for token in sorted(set(tokenizer.get_vocab().values()) - special):
        text = tokenizer.convert_tokens_to_string([*before, str(tokenizer.convert_ids_to_tokens(token))])
        yield token, text.removeprefix(prefix)


def _group_of(text: str) -> str | None:
    return next((name for name, belongs in _GROUPS.items() if belongs(text)), None)


def _is_number(text: str) -> bool:
    digits = text.strip()
    return (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS) or _is_word(text, NUMBER_WORDS)


def _is_punctuation(text: str) -> bool:
    marks = text.strip()
    return bool(marks) and all(unicodedata.category(mark)[0] == "P" for mark in marks)


def _is_word(text: str, words: frozenset[str]) -> bool:
    """Return whether the text is one of the words with a space before it: without one, `the` may be part of `other`."""
    return text[:1].isspace() and text.strip() in words


_GROUPS: Final[Mapping[str, Callable[[str], bool]]] = {
    "function words": lambda text: _is_word(text, FUNCTION_WORDS),
    "verbs": lambda text: _is_word(text, VERBS),
    "names": lambda text: _is_word(text, names()),
    "places": lambda text: _is_word(text, places()),
    "months and days": lambda text: _is_word(text, MONTHS_AND_DAYS),
    "numbers": _is_number,
    PUNCTUATION: _is_punctuation,
}
GROUP_NAMES: Final = tuple(_GROUPS)


def _group(name: str, members: Mapping[str, int], max_tokens: int) -> TokenGroup:
    texts = tuple(members)[:max_tokens]
    return TokenGroup(name, tuple(members[text] for text in texts), texts)


def _left_out(found: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for name, members in found.items():
        if len(members) < MIN_GROUP_SIZE:
            yield f"Group omitted: {name}. The vocabulary has {len(members)} such tokens; {MIN_GROUP_SIZE} are needed."


def _too_few_groups(model: str, found: Mapping[str, Mapping[str, int]]) -> Problem:
    counts = ", ".join(f"{len(members)} {name}" for name, members in found.items())
    what = f"The vocabulary of '{model}' has fewer than two groups of {MIN_GROUP_SIZE} tokens ({counts})."
    return Problem(what, "Use a model whose vocabulary has whole English words, such as --model tiny or smollm2.")
