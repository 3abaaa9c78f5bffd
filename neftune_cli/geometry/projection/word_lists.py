"""The words that say which group a token belongs to; matched exactly, so that `May` and `may` differ."""

from functools import cache

from neftune_cli.data.embedded.people import Attribute, population

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
    """Return common first names, and every name of the people that the embedded model knows."""
    fictional = (part for person in population() for part in person.name.split())
    return frozenset((*_COMMON_NAMES.split(), *fictional))


@cache
def places() -> frozenset[str]:
    """Return countries, states and cities, and every city that the embedded model knows."""
    return frozenset((*_COMMON_PLACES.split(), *(person[Attribute.BIRTH_CITY] for person in population())))
