"""Axes that show what there is to see: linear or logarithmic, with ticks in plain numbers."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from neftune_cli.evidence.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDE: Final = 8.0
"""Positive values whose largest is this many times the smallest are drawn on a logarithmic axis."""
_STEPS: Final = {2.0: (1.0, 2.0, 5.0), 3.0: (1.0, 3.0), math.inf: (1.0,)}
"""Most decades of an axis to the ticks in each of them."""


def is_wide(values: Iterable[float], wide: float = WIDE) -> bool:
    """Return whether a linear axis would squeeze most of these values together."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > wide * min(finite)


def limits(values: Iterable[float], *, logarithmic: bool, room: float = 0.06) -> tuple[float, float]:
    """Return the ends of an axis that holds all finite values, those above 0 on a logarithmic one, with some room."""
    shown = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = (math.log10(end) if logarithmic else end for end in (min(shown), max(shown)))
    spare = room * (high - low) or 0.05 * abs(high) or 0.05
    ends = low - spare, high + spare
    return (10 ** ends[0], 10 ** ends[1]) if logarithmic else ends


def set_scale(axes: "Axes", axis: "Axis", *, logarithmic: bool, ticks: int = 5) -> None:
    """Give an axis its scale and a few ticks; the limits must be set before."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if not logarithmic:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
        return
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else math.inf
    steps = next(steps for reach, steps in _STEPS.items() if decades <= reach)
    axis.set_major_locator(LogLocator(subs=steps, numticks=ticks + 5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def heading(metric: Metric) -> str:
    """Return what stands above a panel of a metric: its name, an arrow in the direction that is good, and its unit."""
    arrow = metric.title.removeprefix(metric.heading)
    return f"{metric.name}{arrow}, {metric.unit}" if metric.unit else metric.name + arrow


def plain(value: float) -> str:
    """Return a number for a tick, with a true minus sign."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
