"""The figure of an embedding shift: reproducible bytes, arrow lengths, and labels without overlaps."""

import io
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from neftune_cli.config.choices import ProjectionMethod
from neftune_cli.geometry.projection import plot
from neftune_cli.geometry.projection.embedding_shift import NoiseDraw, Shift, neighbour_sentences
from neftune_cli.geometry.projection.plot import BAR, DISTANT_LABELS, MAX_ARROW_LENGTH, LabelPlacer, draw_shift
from neftune_cli.geometry.projection.token_groups import GroupedTokens, TokenGroup
from neftune_cli.geometry.projection.token_map import TokenMap, project

COUNT = 12
TOKENS = GroupedTokens(
    (
        TokenGroup("names", tuple(range(COUNT)), tuple(f"Name{place}" for place in range(COUNT))),
        TokenGroup("punctuation", tuple(range(COUNT, 2 * COUNT)), tuple("!?.,;:$_^{}%")),
    ),
    notes=(),
)
RNG = np.random.default_rng(2)
BEFORE = RNG.normal(size=(2 * COUNT, 9)).astype(np.float32)
UNIT = RNG.normal(size=(2 * COUNT, 9)).astype(np.float32)


def _shift(size: float) -> tuple[Shift, TokenMap]:
    shift = Shift(TOKENS, BEFORE, BEFORE + size * UNIT)
    return shift, project(shift.before, shift.after, "pca", perplexity=5, seed=0)


def test_the_same_input_gives_the_same_bytes_for_any_matplotlib_settings() -> None:
    shift, token_map = _shift(0.5)
    one = draw_shift(shift, token_map, model="m", noise=NoiseDraw(5, 30))
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "savefig.dpi": 20, "text.usetex": False}):
        two = draw_shift(shift, token_map, model="m", noise=NoiseDraw(5, 30))

    assert one == two


def test_the_png_is_1920_pixels_wide_and_has_no_time_or_program_metadata() -> None:
    shift, token_map = _shift(0.0)

    with Image.open(io.BytesIO(draw_shift(shift, token_map, model="m", noise=NoiseDraw(0, 30)).png)) as image:
        assert image.width == 1920
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert set(image.info) == {"dpi"}


def test_texts_are_inside_the_figure_and_apart_from_the_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest sentences have numbers of three digits."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plot, "render", drawn.append)
    monkeypatch.setattr(plot, "neighbour_sentences", lambda _: neighbour_sentences(_many()))
    draw_shift(*_shift(0.5), model="m", noise=NoiseDraw(5, 30))
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    titles = [one.get_window_extent(renderer) for panel in figure.axes for one in panel.texts[:2]]
    assert max(box.x1 for box in boxes) < figure.bbox.x1
    assert not any(box.overlaps(other) for box, other in combinations([*boxes, *titles], 2))


def _many() -> Shift:
    """Return a shift of 216 tokens whose neighbors change their groups."""
    places = tuple(range(108)), tuple(range(108, 216))
    groups = (TokenGroup(name, one, tuple(map(str, one))) for name, one in zip("ab", places, strict=True))
    points = np.random.default_rng(0).normal(size=(2, 216, 4)).astype(np.float32)
    return Shift(GroupedTokens(tuple(groups), ()), points[0], points[1])


@pytest.mark.parametrize("size", [0.01, 30.0])
def test_arrow_lengths_are_to_the_scale_of_the_bar(size: float) -> None:
    shift, token_map = _shift(size)

    bar, arrows = plot._arrows(shift, *plot._fill_panel(token_map))

    lengths = np.hypot(*arrows.T)
    moved = np.sqrt(((size * UNIT.astype(np.float64)) ** 2).sum(1))
    assert lengths / bar == pytest.approx(moved / shift.neighbour_distance, rel=1e-3)
    assert lengths.max() <= MAX_ARROW_LENGTH + 1e-9
    assert (bar == BAR) == (size == 0.01)


def _shift_of_equal_embeddings(size: float, method: ProjectionMethod) -> tuple[Shift, TokenMap]:
    equal = np.ones_like(BEFORE)
    shift = Shift(TOKENS, equal, equal + size * UNIT)
    return shift, project(shift.before, shift.after, method, perplexity=5, seed=0)


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("size", [0.0, 0.5])
def test_arrows_of_equal_embeddings_are_to_the_scale_of_the_longest_shift(
    method: ProjectionMethod, size: float
) -> None:
    shift, token_map = _shift_of_equal_embeddings(size, method)

    bar, arrows = plot._arrows(shift, *plot._fill_panel(token_map))

    assert np.isfinite(token_map.after).all()
    assert np.hypot(*arrows.T).max() == pytest.approx(bar if size else 0)


@pytest.mark.parametrize("size", [0.0, 0.5])
def test_equal_embeddings_are_drawn(size: float) -> None:
    shift, token_map = _shift_of_equal_embeddings(size, "pca")

    assert draw_shift(shift, token_map, model="m", noise=NoiseDraw(5, 30)).png.startswith(b"\x89PNG")


def test_labels_cover_neither_each_other_nor_dots() -> None:
    figure = Figure(figsize=(4, 4), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    points = np.random.default_rng(3).uniform(0.1, 0.9, (40, 2))

    LabelPlacer(axes, points).add(range(40), [f"word{place}" for place in range(40)], colour="black", maximum=10)

    boxes = [text.get_window_extent() for text in axes.texts]
    dots = axes.transData.transform(points)
    assert DISTANT_LABELS <= len(boxes) <= 10
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert not any(box.contains(*dot) for box in boxes for dot in dots)
