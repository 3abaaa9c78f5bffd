"""Equivalence margins: their text, and their size in the unit of a metric."""

import math
from dataclasses import dataclass, replace
from decimal import Decimal


@dataclass(frozen=True)
class Margin:
    """Equivalence margin: two arms are equivalent if their difference is smaller."""

    size: float
    """In the metric's unit, or as a share of the baseline's mean."""
    relative: bool = False
    of_gain: float | None = None
    """Share of the gain of fine-tuning. `size` applies if there is no gain, and is the metric's own in a comparison."""
    stated: str = ""
    """Text of the rule from which `resolved` computed `size`; empty for a size in the metric's unit."""
    because: str = ""
    """Reason why the size replaces a share of the gain, for the end of a sentence; empty if it replaces none."""

    def at(self, baseline: float, gain: float | None = None) -> float:
        """Return the margin in the metric's unit.

        Args:
            baseline: mean of the baseline.
            gain: improvement of the baseline over the base model; None or negative if there is none.
        """
        if self.of_gain is not None and gain is not None and gain > 0:
            return self.of_gain * gain
        return self.size * abs(baseline) if self.relative else self.size

    @classmethod
    def parse(cls, text: str) -> "Margin | None":
        """Return the margin of a text: `0.02`, `10%` of the baseline, or `1% of gain`; None for any other text.

        The text has no size for the case that there is no gain. `ComparisonOptions.margin` uses that of the metric.
        """
        share, of, gain = text.partition(" of ")
        is_of_gain = bool(of) and gain.strip() == "gain"
        number = share.strip()
        try:
            size = float(number.removesuffix("%"))
        except ValueError:
            return None
        if not math.isfinite(size) or size <= 0 or (of and not (is_of_gain and number.endswith("%"))):
            return None
        if not number.endswith("%"):
            return cls(size)
        exact = Decimal(number.removesuffix("%").strip()).scaleb(-2)  # so that `written` returns the same number
        size = float(exact)
        return cls(size, relative=True, of_gain=size if is_of_gain else None)

    def written(self) -> str:
        """Return the rule as text for `parse`, such as `1% of gain`, without the size for the case of no gain."""
        percent = f"{Decimal(repr(self.of_gain or self.size)).scaleb(2).normalize():f}%"
        if self.of_gain is not None:
            return f"{percent} of gain"
        return percent if self.relative else repr(self.size)

    def resolved(self, baseline: float, gain: float | None = None) -> "Margin":
        """Return the margin in the metric's unit, with the rule that gave it. The arguments are those of `at`."""
        if self.of_gain is not None and not (gain is not None and gain > 0):
            stated = replace(self, of_gain=None).rule() if self.relative else ""
            return Margin(self.at(baseline), stated=stated, because="because fine-tuning has no measured gain")
        if not self.relative and self.of_gain is None:
            return self
        return Margin(self.at(baseline, gain), stated=self.rule())

    def rule(self) -> str:
        """Return the rule as text, for example "1% of the gain of fine-tuning"."""
        if self.stated or self.because:
            return ", ".join(filter(None, (self.stated or f"{self.size:g}", self.because)))
        share = f"{100 * (self.of_gain or self.size):g}%"
        if self.of_gain is not None:
            return f"{share} of the gain of fine-tuning"
        return f"{share} of the baseline" if self.relative else f"{self.size:g}"
