"""The axis arms stand on: at their alphas where these tell them apart, side by side under their names otherwise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from neftune_cli.analysis.results import ArmSummary
from neftune_cli.reporting.plots.canvas import SMALL, TEXT
from neftune_cli.reporting.plots.names import short_names, text_width
from neftune_cli.reporting.plots.scales import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_NAME: Final = 26
_CLOSEST: Final = 1 / 14
"""Alphas nearer to each other than this share of their range would be in each other's way."""
_TILT: Final = 35.0
"""Degrees."""


@dataclass(frozen=True)
class ArmAxis:
    """Where each arm stands on an axis, and what is written there."""

    places: tuple[float, ...]
    names: tuple[str, ...]
    title: str
    tilted: bool

    @property
    def spacing(self) -> float:
        """Return the distance of the two nearest places, in data coordinates."""
        return min((right - left for left, right in pairwise(sorted(self.places))), default=1.0)

    @property
    def limits(self) -> tuple[float, float]:
        """Return the ends of the axis."""
        return min(self.places) - 0.5 * self.spacing, max(self.places) + 0.5 * self.spacing

    @property
    def height(self) -> float:
        """Return the points that names and title take under the panel."""
        names = self._longest * math.sin(math.radians(_TILT)) if self.tilted else 0.0
        return 18 + names + (TEXT + 6 if self.title else 0.0)

    @property
    def overhang(self) -> float:
        """Return the points that tilted names may reach to the left of their places."""
        return self._longest * math.cos(math.radians(_TILT)) if self.tilted else 0.0

    @property
    def _longest(self) -> float:
        return max(text_width(name, SMALL) for name in self.names)

    def write(self, axes: "Axes") -> None:
        """Write the names under the panel."""
        tilt: dict[str, Any] = {"rotation": _TILT, "ha": "right", "rotation_mode": "anchor"} if self.tilted else {}
        axes.set_xticks(self.places, self.names, **tilt)
        axes.set_xlim(*self.limits)
        axes.set_xlabel(self.title)


def arm_axis(arms: Sequence[ArmSummary], width: float) -> ArmAxis:
    """Return the axis for these arms in a panel `width` points wide."""
    alphas = [arm.alpha for arm in arms if arm.alpha is not None]
    if len(alphas) == len(arms) and are_far_apart(alphas):
        return ArmAxis(tuple(alphas), tuple(map(plain, alphas)), "alpha", tilted=False)
    names = short_names((arm.name for arm in arms), LONGEST_NAME)
    widest = max(text_width(name, SMALL) for name in names.values())
    return ArmAxis(
        tuple(map(float, range(len(arms)))), tuple(names.values()), "", tilted=widest > 0.9 * width / len(arms)
    )


def are_far_apart(alphas: Sequence[float]) -> bool:
    """Return whether alphas are different enough to be their arms' places."""
    known = sorted(alphas)
    gaps = [right - left for left, right in pairwise(known)]
    return bool(gaps) and min(gaps) > _CLOSEST * sum(gaps)
