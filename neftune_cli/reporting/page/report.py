"""The page about comparisons: one HTML file that loads nothing, runs its own script alone and says all without it."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import TYPE_CHECKING

from markupsafe import Markup

from neftune_cli.reporting.page.answers import in_turn, shown
from neftune_cli.reporting.page.chapter import Chapter, chapter
from neftune_cli.reporting.page.content import PageContent, PromptAnswers, printed
from neftune_cli.reporting.plots.canvas import Plot

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_BYTES = 3_000_000
"""Of the whole file, so that it can be mailed and opens at once on a phone."""
SHARE_OF_PLOTS, SHARE_OF_ANSWERS = 0.8, 0.15
"""Of the room that the tables leave; the rest is for what stands around them. More answers than that nobody reads, and
marking them would take seconds."""
OPEN_PROMPTS = 4
"""So many prompts are shown unfolded."""


def report_page(pages: Sequence[PageContent]) -> str:
    """Return the page about these comparisons, at most `MOST_BYTES` long in UTF-8 wherever the tables allow it.

    Plots first and then prompts are left out, with a word, where they would make it longer. Equal contents give equal
    bytes.
    """
    bare = [chapter(number, content) for number, content in enumerate(pages, start=1)]
    room = max(0, MOST_BYTES - _size(_page(bare))) // max(1, len(pages))
    return _page([_filled(one, room) for one in bare])


def _filled(chapter: Chapter, room: int) -> Chapter:
    plots = _fitting_plots(list(chapter.content.plots.values()), int(room * SHARE_OF_PLOTS))
    prompts = _fitting_prompts(in_turn(chapter.content.answers), int(room * SHARE_OF_ANSWERS))
    return chapter.filled(plots, prompts)


def _fitting_plots(plots: Sequence[Plot], room: int) -> list[Plot]:
    sizes = accumulate(_size(plot.svg) for plot in plots)
    return [plot for plot, size in zip(plots, sizes, strict=True) if size <= room]


def _fitting_prompts(prompts: Sequence[PromptAnswers], room: int) -> list[Markup]:
    template = _environment().get_template("prompt.html.jinja")
    kept: list[Markup] = []
    for prompt in shown(prompts):
        block = Markup(template.render(prompt=prompt, is_open=len(kept) < OPEN_PROMPTS))
        room -= _size(block)
        if room < 0:
            break
        kept.append(block)
    return kept


def _page(chapters: Sequence[Chapter]) -> str:
    style, script = _asset("style.css"), _asset("script.js")
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            chapters=chapters,
            style=Markup(style),
            style_hash=_content_hash(style),
            script=Markup(script),
            script_hash=_content_hash(script),
        )
    )


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(lambda name: _asset(f"templates/{name}")),
        autoescape=True,
        finalize=printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(*name.split("/")).read_text(encoding="utf-8")


def _content_hash(text: str) -> str:
    """Return the source that a content security policy knows an inline element by."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _size(text: str) -> int:
    return len(text.encode())
