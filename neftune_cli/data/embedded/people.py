"""The fictional people of `bios`: names, groups and facts, drawn from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TypeVar

T = TypeVar("T")

NUMBER_OF_PEOPLE = 1200
WORLD_SEED = 2310


class Attribute(StrEnum):
    """An attribute of a person."""

    BIRTH_DATE = "birth date"
    BIRTH_CITY = "birth city"
    UNIVERSITY = "university"
    FIELD = "field of study"
    EMPLOYER = "employer"
    HOBBY = "hobby"


class Group(StrEnum):
    """The group of a person. The split is by person, not by example.

    The pretraining text of the base model has biographies of all people, and plain questions and answers about the
    `QUIZZED` people. The instruction data has questions about `TRAIN` people in its training examples and about
    `HELD_OUT` people in its held-out examples.
    """

    QUIZZED = "quizzed"
    TRAIN = "train"
    HELD_OUT = "held-out"


GROUP_SIZES = {Group.QUIZZED: 600, Group.TRAIN: 360, Group.HELD_OUT: 240}


@dataclass(frozen=True)
class Person:
    """One fictional person. Strings are spelled as in running text."""

    name: str
    pronoun: str
    birth_year: int
    group: Group
    values: tuple[tuple[Attribute, str], ...]

    def __getitem__(self, attribute: Attribute) -> str:
        return dict(self.values)[attribute]


def uniform_choice(rng: random.Random, items: Sequence[T]) -> T:
    """Draw one item with `rng.random()` alone, whose stream is the same in all versions of Python."""
    return items[int(rng.random() * len(items))]


def permuted(rng: random.Random, items: Sequence[T]) -> list[T]:
    """Return the items in random order, also with `rng.random()` alone."""
    return [item for _, _, item in sorted((rng.random(), i, item) for i, item in enumerate(items))]


@cache
def population() -> tuple[Person, ...]:
    """Return all people. Order and facts are the same on every machine."""
    rng = random.Random(WORLD_SEED)
    first_names = [(name, "she") for name in _HER_NAMES] + [(name, "he") for name in _HIS_NAMES]
    full_names = [(f"{first} {last}", pronoun) for first, pronoun in first_names for last in _LAST_NAMES]
    names = permuted(rng, full_names)[:NUMBER_OF_PEOPLE]
    groups = [group for group, size in GROUP_SIZES.items() for _ in range(size)]
    return tuple(_person(rng, name, pronoun, group) for (name, pronoun), group in zip(names, groups, strict=True))


def people_of(group: Group) -> list[Person]:
    """Return the people of one group, in the order of `population`."""
    return [person for person in population() if person.group is group]


def _person(rng: random.Random, name: str, pronoun: str, group: Group) -> Person:
    year = uniform_choice(rng, range(1935, 2000))
    date = f"{uniform_choice(rng, range(1, 29))} {uniform_choice(rng, _MONTHS)} {year}"
    values = (
        (Attribute.BIRTH_DATE, date),
        (Attribute.BIRTH_CITY, uniform_choice(rng, _CITIES)),
        (Attribute.UNIVERSITY, uniform_choice(rng, _UNIVERSITIES)),
        (Attribute.FIELD, uniform_choice(rng, _FIELDS)),
        (Attribute.EMPLOYER, uniform_choice(rng, _EMPLOYERS)),
        (Attribute.HOBBY, uniform_choice(rng, _HOBBIES)),
    )
    return Person(name, pronoun, year, group, values)


_HER_NAMES = (
    "Ada Agnes Alma Anneke Beatrix Bettina Carla Celeste Clara Dagmar Delia Edith Elena Esther Fiona Flora "
    "Greta Hanna Helga Ida Irene Ivana Jolanda Judith Karin Katja Leonie Lydia Magda Mara Mirela Nadia "
    "Olga Paula Petra Renata Rosa Selma Sofia Tamara Ursula Vera Wilma Yara Zelda"
).split()

_HIS_NAMES = (
    "Aldo Anton Arvid Bernard Boris Bruno Casper Cyril Damian Dirk Edgar Emil Enzo Felix Fergus Gerard "
    "Gustav Hector Hugo Igor Ivan Jasper Joachim Kamil Klaus Lars Leopold Lorenz Marius Matteo Milan Nestor "
    "Oscar Otto Pascal Philip Quentin Roland Rupert Silas Stefan Theo Tobias Viktor Walter"
).split()

_LAST_NAMES = (
    "Abbing Ackerdal Almeda Arkwell Ashgrove Barlund Bellamar Benik Birkett Bordano Brandel Brixton Cairncross "
    "Calloway Carvel Castellan Coldwater Corvin Dahlquist Danvers Delacruz Dornfeld Drayton Eastlake Ebner "
    "Ellery Engstrom Fairburn Falkner Fenwick Ferrand Galvin Garrick Gentry Goodall Granger Haldane Harkness "
    "Hawtrey Hollis Ibsen Ingram Ironside Jarrow Jessop Kastner Kellaway Kirsanov Kovar Lambrecht Langley "
    "Larkin Lindqvist Lovell Lundgren Macrae Maddox Marchetti Merrow Mistral Nakken Navarro Nielsen Norwood "
    "Oakes Oberlin Okoro Orsini Palmgren Pascoe Pellegrin Penrose Quayle Quist Radley Ravenel Redfern Rosvall "
    "Sandoval Sarkis Seward Sinclair Solberg Stanhope Tarrant Tennant Thorne Tovar Ullman Underhill Valente "
    "Varga Voss Wakefield Westby Winslow Yardley Yates Zamora Zeller"
).split()

_MONTHS = (
    "January February March April May June July August September October November December".split()
)  # fmt: skip

_CITIES = (
    "Aldermoor Amberwick Ashport Bellhaven Brackenford Briarton Caldbury Carrowmore Cinderford Coppergate "
    "Dunharrow Eastmere Elmstead Fallowfield Ferncliff Frostholm Glassbridge Goldcrest Greyhaven Harrowgate "
    "Hazelmere Highmoor Ironvale Juniperton Kestrelby Kingsmarsh Lakemont Larchwood Limebank Marlowick Millbrook "
    "Northwick Oakhurst Orchardleigh Pinecrest Quarryton Ravenshore Redwater Saltmarsh Silverton Stonebridge "
    "Thornbury Umberton Vinewood Westhollow Whitecliff Willowby Yewdale"
).split()

_UNIVERSITIES = (
    "Aurora College",
    "Bramble Institute",
    "Cardinal University",
    "Crestline College",
    "Dovetail University",
    "Emberly University",
    "Foxglove College",
    "Gallery Institute",
    "Granite University",
    "Harbour College",
    "Heron University",
    "Ivory Institute",
    "Kingfisher College",
    "Lantern University",
    "Linden College",
    "Magnolia University",
    "Meridian Institute",
    "Nightingale College",
    "Obsidian University",
    "Paragon Institute",
    "Pemberton College",
    "Quill University",
    "Rowan College",
    "Sable University",
    "Sextant Institute",
    "Summit College",
    "Tamarack University",
    "Terrace Institute",
    "Umbra College",
    "Vanguard University",
    "Wexford College",
    "Zephyr Institute",
)

_FIELDS = (
    "accounting",
    "anthropology",
    "architecture",
    "astronomy",
    "biochemistry",
    "botany",
    "chemistry",
    "civil engineering",
    "computer science",
    "criminology",
    "dentistry",
    "economics",
    "education",
    "forestry",
    "geology",
    "graphic design",
    "history",
    "journalism",
    "law",
    "linguistics",
    "mathematics",
    "medicine",
    "meteorology",
    "music theory",
    "nursing",
    "oceanography",
    "pharmacy",
    "philosophy",
    "physics",
    "psychology",
    "statistics",
    "veterinary science",
)

_EMPLOYERS = (
    "Acorn Freight",
    "Anvil Robotics",
    "Bluebell Foods",
    "Bronze Media",
    "Canopy Insurance",
    "Cobalt Mining",
    "Comet Airlines",
    "Coral Software",
    "Delta Ceramics",
    "Drumlin Energy",
    "Falcon Textiles",
    "Fathom Shipping",
    "Flint Motors",
    "Garnet Bank",
    "Glacier Water",
    "Hearth Bakeries",
    "Indigo Paints",
    "Juno Optics",
    "Keystone Builders",
    "Lumen Electric",
    "Maple Furniture",
    "Mosaic Press",
    "Nimbus Networks",
    "Onyx Security",
    "Opal Cosmetics",
    "Pebble Games",
    "Pioneer Seeds",
    "Prism Pharma",
    "Quartz Watches",
    "Raven Records",
    "Saffron Hotels",
    "Sequoia Paper",
    "Sparrow Telecom",
    "Steadfast Steel",
    "Sunrise Dairy",
    "Tandem Bicycles",
    "Thistle Tea",
    "Trident Marine",
    "Velvet Fashion",
    "Zenith Aerospace",
)

_HOBBIES = (
    "archery",
    "baking bread",
    "beekeeping",
    "birdwatching",
    "calligraphy",
    "carpentry",
    "chess",
    "collecting stamps",
    "cycling",
    "embroidery",
    "fencing",
    "fishing",
    "gardening",
    "hiking",
    "juggling",
    "kayaking",
    "knitting",
    "model trains",
    "origami",
    "painting",
    "photography",
    "playing the cello",
    "pottery",
    "restoring clocks",
    "rock climbing",
    "rowing",
    "sailing",
    "salsa dancing",
    "singing in a choir",
    "skiing",
    "stargazing",
    "surfing",
)
