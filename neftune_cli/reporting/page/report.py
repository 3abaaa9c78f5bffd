"""HTML page of comparisons: one file that loads no resources, runs only its own script and is complete without it."""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

from markupsafe import Markup

from neftune_cli.reporting.page.chapter import Chapter, PageContent, build_chapter
from neftune_cli.reporting.page.responses import display_order, shown_prompts
from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.sanitizing import template_value

if TYPE_CHECKING:
    from jinja2 import Environment

T = TypeVar("T")

MOST_BYTES = 3_000_000
"""Size of the whole file, small enough to mail and to open on a phone."""
SHARE_OF_PLOTS, SHARE_OF_RESPONSES = 0.8, 0.15
"""Shares of the space that the tables leave; the rest is for the markup around plots and responses."""
OPEN_PROMPTS = 4
"""Number of prompts that are open at first."""


def report_page(pages: Sequence[PageContent]) -> str:
    """Return the page of these comparisons, at most `MOST_BYTES` in UTF-8 unless the tables alone are larger.

    Plots and prompts that do not fit are left out, and the page says so. Equal contents give equal bytes.
    """
    bare = [build_chapter(number, content) for number, content in enumerate(pages, start=1)]
    full = [_filled(one, one.content.plots.values(), _rendered(one.content), MOST_BYTES) for one in bare]
    page = _page(full)
    least = _room_beside(page, len(full))  # the tables alone leave more
    if all(_fits(one, least) for one in full):  # rendering takes most of the time, and few pages need it again
        return page
    room = _room_beside(_page(bare), len(full))
    return _page([_filled(one, one.plots, one.prompts, room) for one in full])


def _room_beside(page: str, chapters: int) -> int:
    """Return the number of bytes for each chapter that a page leaves."""
    return max(0, MOST_BYTES - _size(page)) // max(1, chapters)


def _fits(chapter: Chapter, room: int) -> bool:
    """Return whether all plots and prompts of a chapter fit into a number of bytes."""
    plots, prompts = (sum(map(_size, texts)) for texts in ([one.svg for one in chapter.plots], chapter.prompts))
    return plots <= int(room * SHARE_OF_PLOTS) and prompts <= int(room * SHARE_OF_RESPONSES)


def _filled(chapter: Chapter, plots: Iterable[Plot], prompts: Iterable[Markup], room: int) -> Chapter:
    """Return the chapter with the first plots and prompts, as many as fit into a number of bytes."""
    return chapter.filled(
        _fitting(plots, lambda plot: plot.svg, int(room * SHARE_OF_PLOTS)),
        _fitting(prompts, str, int(room * SHARE_OF_RESPONSES)),
    )


def _fitting(parts: Iterable[T], html: Callable[[T], str], room: int) -> list[T]:
    """Return the first parts whose total size is at most `room` bytes."""
    kept = []
    for part in parts:
        room -= _size(html(part))
        if room < 0:
            break
        kept.append(part)
    return kept


def _rendered(content: PageContent) -> Iterator[Markup]:
    """Yield the prompts of a chapter as HTML, one at a time, because marking words takes time."""
    template = _environment().get_template("prompt.html.jinja")
    for number, prompt in enumerate(shown_prompts(display_order(content.responses))):
        yield Markup(template.render(prompt=prompt, is_open=number < OPEN_PROMPTS))


def styled_page(template: str, **values: object) -> str:
    """Return a page with the style of the report. The page is escaped, and its style is part of it."""
    style = _asset("style.css")
    return _environment().get_template(template).render(style=Markup(style), style_hash=_content_hash(style), **values)


def _page(chapters: Sequence[Chapter]) -> str:
    script = _asset("script.js")
    return styled_page("page.html.jinja", chapters=chapters, script=Markup(script), script_hash=_content_hash(script))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(lambda name: _asset(f"templates/{name}")),
        autoescape=True,
        finalize=template_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(*name.split("/")).read_text(encoding="utf-8")


def _content_hash(text: str) -> str:
    """Return the hash source of an inline element for the content security policy."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _size(text: str) -> int:
    return len(text.encode())
