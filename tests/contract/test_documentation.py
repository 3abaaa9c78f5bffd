"""The documentation agrees with the code: named files exist, and generated pages are up to date."""

import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import pytest

from experiments.reference import PAGE, reference
from experiments.site_hooks import on_page_content
from neftune_cli.analysis.results import Status, Verdict
from neftune_cli.metrics import METRICS
from neftune_cli.records import Phase
from neftune_cli.reporting.columns import TABLE_COLUMNS
from neftune_cli.sweeps.cost_table import DONE, ELSEWHERE, FAILED, TO_RESUME, TO_RUN
from neftune_cli.sweeps.progress.views import ObservedState

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:neftune_cli|tests|experiments|docs)/[\w./-]+)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in linked if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_sections_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        f"{file}#{section}" for file, section in links if section not in _sections(page.parent / file if file else page)
    ]
    assert not missing


def _sections(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_folder_of_the_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "neftune_cli").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))


GLOSSARY = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)[1:]


def test_the_glossary_is_sorted_and_has_no_repeated_term() -> None:
    terms = [term.lower() for term, _ in GLOSSARY]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize(
    "names",
    [
        [metric.name_within for metric in METRICS.values()],
        [column.heading.format(against="vs", confidence="95%") for column in TABLE_COLUMNS.values()],
        [*ObservedState, DONE, FAILED, ELSEWHERE, TO_RESUME, TO_RUN],
        list(Phase),
        [*get_args(Verdict), *get_args(Status)],
    ],
    ids=["metrics", "columns", "states", "phases", "verdicts"],
)
def test_texts_of_tables_are_in_the_glossary(names: list[str]) -> None:
    terms = {word for term, _ in GLOSSARY for word in term.split(", ")}
    meanings = " ".join(meaning for _, meaning in GLOSSARY)
    assert not [name for name in names if name not in terms and not re.search(rf"\b{re.escape(name)}", meanings)]


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make reference`"


def test_module_docstrings_are_noun_phrases_or_imperatives() -> None:
    wrong = []
    for path in (ROOT / "neftune_cli").rglob("*.py"):
        first = path.read_text(encoding="utf-8").partition("\n")[0].strip('"')
        if re.match(r"(What|Which|How|Who|Where|From|Whether|Everything|Whatever)\b", first):
            wrong.append(f"{path.relative_to(ROOT)}: {first}")
    assert not wrong


def test_class_names_are_unique() -> None:
    names: dict[str, list[str]] = {}
    for path in (ROOT / "neftune_cli").rglob("*.py"):
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            names.setdefault(name.lstrip("_"), []).append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in names.items() if len(files) > 1}


def test_no_module_exceeds_400_lines() -> None:
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "neftune_cli").rglob("*.py")
    }
    assert not {str(path): length for path, length in lengths.items() if length > 400}


def test_no_module_of_the_tests_hides_a_library() -> None:
    """pytest puts the folder `tests` first on the path, so `tests/requests.py` would replace the library requests."""
    modules = {file.stem for file in (ROOT / "tests").glob("*.py")}
    assert modules & {*sys.stdlib_module_names, *packages_distributions(), "requests"} == set()


def test_code_in_tables_of_the_site_has_no_backslash() -> None:
    page = (
        r"<table><td><code>a \| b</code> or \|</td><td class='x'><code>c\|d</code></td></table><code>grep 'e\|f'</code>"
    )
    wanted = (
        r"<table><td><code>a | b</code> or \|</td><td class='x'><code>c|d</code></td></table><code>grep 'e\|f'</code>"
    )
    assert on_page_content(page) == wanted
