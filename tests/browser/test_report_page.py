"""Page in a browser: scripts, keyboard, narrow screens, dark mode and print."""

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neftune_cli.reporting.page.report import report_page
from tests.browser.devtools import Browser, Tab, browser, chromium
from tests.page_contents import PLOT, comparison, content, responses

CHROMIUM = chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

HAS_SEARCH = "document.querySelectorAll('input[type=search]').length"
ROWS = "[...document.querySelectorAll('table.primary tbody tr:not(.metric) th bdi')].map(name => name.textContent)"
SORTED = "document.querySelectorAll('table.primary thead th')[1].getAttribute('aria-sort')"
TABLES = "[...document.querySelectorAll('.scroll')].filter(one => one.checkVisibility())"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page([content(), content(responses=responses(30))]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attack = "</script></style><script>document.title = 'run'</script><img src=https://example.org/x onerror=alert(1)>"
    whole = comparison()
    arms = tuple(replace(arm, name=attack) if arm.name == "alpha=15" else arm for arm in whole.arms)
    prompt = responses(1)[0]
    response = prompt.responses["base"].model_copy(
        update={"response": attack + "\x00\u202e" * 50, "exact_match": False}
    )
    prompt = replace(prompt, prompt=attack, reference="x" * 50_000, responses={attack: response})
    page = content(
        comparison=replace(whole, arms=arms, sweep=attack), responses=[prompt], manifest_texts=(attack,), advice=attack
    )
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(report_page([page]), encoding="utf-8")
    return path


def test_script_runs_without_requests_or_errors(started: Browser, file: Path) -> None:
    tab = started.open(file)

    assert tab.run(HAS_SEARCH) == 2
    assert tab.requested == [file.as_uri()]
    assert tab.log_entries == []


def test_hostile_text_does_not_run_or_load_anything(started: Browser, hostile: Path) -> None:
    tab = started.open(hostile)

    assert tab.run("document.title") != "run"
    assert tab.run(HAS_SEARCH) == 1
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.requested == [hostile.as_uri()]
    assert tab.log_entries == []


def test_page_is_complete_without_scripts(started: Browser, file: Path) -> None:
    with_scripts, without = started.open(file), started.open(file, scripts=False)

    assert without.run("document.querySelectorAll('button, input').length") == 0
    words = "document.querySelector('main').textContent.replace(/Search prompts and responses|\\s+/g, '')"
    assert without.run(words) == with_scripts.run(words)
    assert _visible(without, "table.primary") == [True, True]
    assert _visible(without, "details.prompt > summary") == [True] * 36


def test_heading_sorts_ascending_descending_and_back(started: Browser, file: Path) -> None:
    tab = started.open(file)
    tab.run("window.mean = document.querySelectorAll('table.primary thead th')[1].querySelector('button'); 0")
    given = tab.run(ROWS)[:6]

    seen = [(tab.run("mean.click()"), tab.run(SORTED), tab.run(ROWS)[:6])[1:] for _ in range(3)]

    up = ["alpha=5", "alpha=0", "alpha=10", "alpha=15", "base"]
    ascending, descending = [*up, "Any noise"], [*up[::-1], "Any noise"]
    assert seen == [("ascending", ascending), ("descending", descending), (None, given)]
    assert tab.run("document.querySelector('table.primary tbody tr').className") == "metric"


def test_missing_values_sort_last(started: Browser, file: Path) -> None:
    tab = started.open(file)
    heading = "document.querySelectorAll('table.primary thead th')[2].querySelector('button')"

    orders = [(tab.run(f"{heading}.click()"), tab.run(ROWS)[:5])[1] for _ in range(2)]

    assert orders == [
        ["alpha=5", "alpha=10", "alpha=15", "base", "alpha=0"],
        ["alpha=15", "alpha=10", "alpha=5", "base", "alpha=0"],
    ]


def test_sorting_is_within_each_metric(started: Browser, file: Path) -> None:
    tab = started.open(file)
    rows = "[...document.querySelector('#c1-table1 + .scroll table').rows]"
    names = f"{rows}.slice(1).map(row => row.cells[0].textContent.trim())"
    given = tab.run(names)

    tab.run(f"{rows}[0].cells[1].querySelector('button').click()")
    tab.run(f"{rows}[0].cells[1].querySelector('button').click()")

    groups = [tab.run(names)[place : place + 6] for place in (0, 6)]
    assert [group[0] for group in groups] == [given[0], given[6]]
    assert groups[0][1:] == ["base", "alpha=15", "alpha=10", "alpha=5", "alpha=0"]
    assert groups[1][1:3] == ["base", "alpha=15"]


def test_headings_sort_by_keyboard(started: Browser, file: Path) -> None:
    tab = started.open(file)
    tab.run("document.querySelector('table.primary').closest('.scroll').focus()")

    focused = []
    for _ in range(3):
        tab.press("Tab", 9)
        focused.append(tab.run("document.activeElement.textContent"))
    tab.press("Enter", 13, "\r")

    assert focused == ["arm", "mean ± sd", "vs alpha=0, 95% interval"]
    assert tab.run(SORTED.replace("[1]", "[2]")) == "ascending"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_first_tab_stop_skips_to_content(started: Browser, file: Path) -> None:
    tab = started.open(file)

    tab.press("Tab", 9)
    shown = tab.run("document.activeElement.getBoundingClientRect().top >= 0 && document.activeElement.textContent")
    tab.press("Enter", 13, "\r")

    assert shown == "Skip to content"
    assert tab.run("document.activeElement.id") == "content"


def test_search_filters_prompts_and_restores_them(started: Browser, file: Path) -> None:
    tab = started.open(file)
    section = "document.querySelectorAll('section.responses')[1]"
    shown = f"[...{section}.querySelectorAll('details.prompt:not([hidden])')]"
    box = f"{section}.querySelector('input[type=search]')"

    def search(words: str) -> None:
        tab.run(f"{box}.value = {words!r}; {box}.dispatchEvent(new Event('input')); 0")

    opened = tab.run(f"{shown}.map(one => one.open)")
    search("PERSON 17 born")
    assert tab.run(f"{shown}.map(one => one.querySelector('.question').textContent)") == ["Where was person 17 born?"]
    assert tab.run(f"{shown}.map(one => one.open)") == [True]
    assert tab.run(f"{section}.querySelector('output').textContent") == "1 of 30 match"
    assert tab.run(f"{box}.labels[0].textContent") == "Search prompts and responses"

    search("")
    assert tab.run(f"{shown}.map(one => one.open)") == opened
    assert len(opened) == 30


@pytest.mark.parametrize("width", [320, 360, 768, 1400])
def test_page_is_not_wider_than_the_screen(started: Browser, file: Path, hostile: Path, width: int) -> None:
    for path in (file, hostile):
        tab = started.open(path, width=width)

        assert tab.run("document.documentElement.scrollWidth") <= width


def test_tables_fit_a_small_laptop(started: Browser, file: Path) -> None:
    tab = started.open(file, width=1200)

    tab.run("for (const one of document.querySelectorAll('details')) one.open = true; 0")
    regions = tab.run(f"{TABLES}.map(one => [one.scrollWidth, one.clientWidth])")
    assert len(regions) == 22
    assert [inner for inner, outer in regions if inner > outer] == []


def test_tables_have_one_width_and_their_axes_are_below_each_other(started: Browser, file: Path) -> None:
    tab = started.open(file, width=1280)

    widths = tab.run(f"{TABLES}.flatMap(one => [...one.querySelectorAll('table')]).map(one => one.offsetWidth)")
    zeros = tab.run(
        "[...document.querySelectorAll('#c1 ~ section table.forest td.axis, article:first-of-type td.axis')]"
        ".map(cell => cell.getBoundingClientRect()).map(box => [Math.round(box.left), Math.round(box.right)])"
    )
    assert len(widths) >= 10
    assert len(set(widths)) == 1
    assert len(zeros) == 1 + 3 + 2 + 2
    assert len({tuple(ends) for ends in zeros}) == 1


def test_dot_of_a_strip_is_at_the_difference(started: Browser, file: Path) -> None:
    tab = started.open(file, width=1280)
    primary = "document.querySelector('table.primary')"
    ticks = tab.run(
        f"[...{primary}.querySelectorAll('td.axis text')].map((text, place) => [text.textContent, "
        f"{primary}.querySelectorAll('td.axis .tick')[place].getBoundingClientRect().left])"
    )
    dots = tab.run(
        f"[...{primary}.querySelectorAll('tr.arm')].map(row => [row.querySelector('td.strip').dataset.value, "
        "row.querySelector('circle').getBoundingClientRect()]).map(([value, box]) => "
        "[Number(value), (box.left + box.right) / 2])"
    )

    known = {float(label.replace("\N{MINUS SIGN}", "-")): x for label, x in ticks}
    other = next(value for value in known if value)
    assert len(dots) == 3
    for value, x in dots:
        expected = known[0.0] + value / other * (known[other] - known[0.0])
        assert x == pytest.approx(expected, abs=1.0)


def test_tables_scroll_in_regions_on_a_phone(started: Browser, file: Path) -> None:
    tab = started.open(file, width=360)

    regions = tab.run(f"{TABLES}.map(one => [one.scrollWidth > one.clientWidth, one.tabIndex])")
    assert [True, 0] in regions
    assert {place for _, place in regions} == {0}


@pytest.mark.parametrize("dark", [False, True])
def test_shadow_shows_where_a_table_continues(started: Browser, file: Path, dark: bool) -> None:
    tab = started.open(file, width=400, dark=dark)
    region = "document.querySelector('table.primary').closest('.scroll')"
    assert tab.run(f"{region}.scrollWidth > {region}.clientWidth")

    at_start = _edge_colors(tab, region)
    tab.run(f"{region}.scrollLeft = 10000; 0")
    at_end = _edge_colors(tab, region)

    paper = _channels(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert at_start["left"] == at_end["right"] == paper
    assert sum(at_start["right"]) < sum(paper) - 20


@pytest.mark.parametrize("dark", [False, True])
def test_text_contrast(started: Browser, file: Path, dark: bool) -> None:
    tab = started.open(file, dark=dark)

    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(_channels(background)) < 3 * 128) is dark
    for selector in (
        "body",
        ".facts dt",
        "a",
        "ins",
        "del",
        ".hint",
        ".verdict.better",
        ".verdict.worse",
        ".inconclusive",
    ):
        assert _contrast(tab, selector) >= 4.5, selector


def test_print_hides_controls_and_opens_files(started: Browser, file: Path) -> None:
    tab = started.open(file, dark=True)
    tab.ask("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    assert _visible(tab, "nav, .search, .skip") == [False] * 4
    assert _visible(tab, "details.file:not(.paste) pre") == [True] * 4
    assert _visible(tab, "details.paste pre") == [False] * 2
    assert set(_visible(tab, "details.numbers table, .answers, table.seeds, .statement p")) == {True}
    assert tab.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert _channels(tab.run("getComputedStyle(document.body).backgroundColor"))[:3] == [255, 255, 255]
    pdf = base64.b64decode(tab.ask("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 4 <= pages <= 30, "each comparison starts on a new page"


def test_many_arms_and_long_names_fit_a_printed_page(started: Browser, tmp_path: Path) -> None:
    whole = comparison()
    names = [f"alpha={n}" for n in range(20, 40)] + ["w" * 200]
    arms = (*whole.arms, *(replace(whole.arms[-1], name=name) for name in names))
    page = tmp_path / "report.html"
    page.write_text(report_page([content(comparison=replace(whole, arms=arms))]), encoding="utf-8")
    a4 = 718  # pixels between the margins
    tab = started.open(page, width=a4)
    tab.ask("Emulation.setEmulatedMedia", media="print")

    assert tab.run("document.documentElement.scrollWidth") <= a4
    assert tab.run("document.querySelectorAll('table.seeds').length") == 3
    headings = "new Set([...document.querySelectorAll('table.seeds thead th')].map(th => th.textContent)).size"
    assert tab.run(headings) == len(arms) + 1


def test_plots_use_the_text_color(started: Browser, file: Path) -> None:
    assert "currentColor" in PLOT.svg
    strokes = [
        started.open(file, dark=dark).run("getComputedStyle(document.querySelector('.plot path')).stroke")
        for dark in (False, True)
    ]

    assert sum(_channels(strokes[0])) < sum(_channels(strokes[1]))


def _edge_colors(tab: Tab, region: str) -> dict[str, list[float]]:
    """Return the color of the free space at both edges of a region's heading, from a screenshot of the viewport."""
    left, right, top = tab.run(f"(({{left, right, top}}) => [left, right, top])({region}.getBoundingClientRect())")
    return {side: _pixel(tab, x, top + 3) for side, x in {"left": left + 1, "right": right - 2}.items()}


def _pixel(tab: Tab, x: float, y: float) -> list[float]:
    clip = {"x": x, "y": y, "width": 1, "height": 1, "scale": 1}
    return _first_pixel(base64.b64decode(tab.ask("Page.captureScreenshot", format="png", clip=clip)["data"]))


def _first_pixel(png: bytes) -> list[float]:
    """Return red, green and blue of the first pixel of a PNG file. The first row can have any filter but needs none."""
    chunks, place = b"", 8
    while place < len(png):
        length, kind = int.from_bytes(png[place : place + 4]), png[place + 4 : place + 8]
        chunks += png[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    return [float(value) for value in zlib.decompress(chunks)[1:4]]


def _visible(tab: Tab, selector: str) -> list[bool]:
    found: list[bool] = tab.run(
        f"[...document.querySelectorAll({selector!r})].map(one => one.checkVisibility({{contentVisibilityAuto: true}}) "
        "&& one.getBoundingClientRect().bottom > 0)"
    )
    return found


def _channels(color: str) -> list[float]:
    return [float(part) for part in color[color.index("(") + 1 : -1].split(",")][:3]


def _contrast(tab: Tab, selector: str) -> float:
    """Return the WCAG 2.2 contrast ratio of a text and the first opaque background behind it."""
    colors = tab.run(
        f"""(() => {{
          let element = document.querySelector({selector!r});
          const ink = getComputedStyle(element).color;
          while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
          return [ink, getComputedStyle(element).backgroundColor];
        }})()"""
    )
    lighter, darker = sorted((_luminance(_channels(color)) for color in colors), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(channels: list[float]) -> float:
    shares = [channel / 255 for channel in channels]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
