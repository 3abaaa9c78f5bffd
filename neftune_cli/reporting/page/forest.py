"""Forest plots of the page: one metric with a row for each arm, its interval as a strip, and one axis for all rows."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neftune_cli.analysis.results import Assessment, Comparison, Contrast, NoiseTest, Role
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.formatting import listed
from neftune_cli.metrics import Metric
from neftune_cli.reporting.cells import (
    DASH,
    Cell,
    Difference,
    assessed_difference,
    noise_share,
    p_statement,
    shown_interval,
)
from neftune_cli.reporting.columns import ArmRow
from neftune_cli.reporting.sections import Block, Section

ANY_NOISE = "Any noise"
"""Name of the row of the any-noise test."""
_EDGE = 4.0
"""Free space at both ends of a strip, in percent of its width."""
_NEAR_END = 14.0
"""Labels closer to an end of the strip than this percentage do not extend beyond it."""
_MARGIN_REACH = 1.5
"""A margin is inside the axis if it is at most this multiple of the largest interval end."""
_STEPS = (5, 4, 2, 1)
"""First digits of labeled values. An axis has at most three labels, which fit on a phone."""
_SHORT_SIDE = 0.6
"""A side of zero that is shorter than this share of the other side has no label of its own."""
ROLE_NAMES: Mapping[Role, str] = {
    "arm": "",
    "primary": "primary arm",
    "exploratory": "exploratory",
    "control": "control",
}


@dataclass(frozen=True)
class Strip:
    """Positions of one interval, in percent of the width of the strip."""

    low: float
    high: float
    middle: float | None
    """Position of the difference; None if it is outside the axis."""
    cut: Literal["low", "high", "both", ""] = ""
    """Ends that are outside the axis, drawn as arrows."""


@dataclass(frozen=True)
class Tick:
    """A labeled value of the axis."""

    position: float
    label: str
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Scale:
    """Linear scale of the strips of one metric, which includes zero."""

    low: float
    high: float

    def position(self, value: float) -> float:
        """Return the position of a value; values outside the scale are at its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + min(max(share, 0.0), 1.0) * (100 - 2 * _EDGE), 2)

    def includes(self, value: float) -> bool:
        """Return whether a value is on the scale."""
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[Tick]:
        """Return zero and a round value on each side, or on the longer side alone if the other one is much shorter."""
        shorter, longer = sorted((-self.low, self.high))
        step = round_step(shorter if shorter > _SHORT_SIDE * longer else longer)
        return [self._tick(value) for value in (-step, 0.0, step) if self.includes(value)]

    def _tick(self, value: float) -> Tick:
        position = self.position(value)
        anchor: Literal["start", "middle", "end"] = (
            "start" if position < _NEAR_END else "end" if position > 100 - _NEAR_END else "middle"
        )
        label = "0" if value == 0 else f"{value:+.6g}".replace("-", "\N{MINUS SIGN}")
        return Tick(position, label, anchor)


@dataclass(frozen=True)
class ForestRow:
    """One arm, the base model, or the any-noise test."""

    name: str
    kind: Literal["base", "baseline", "arm", "noise"]
    value: Cell
    difference: Difference
    strip: Strip | None
    hint: str = ""
    """Role of the arm, or arms of a contrast."""
    noise_ratio: str = ""
    order: float | None = None
    """Difference, by which the strips are sorted; None if it was not assessed."""

    @property
    def spoken(self) -> str:
        """Return the difference and its interval as a text."""
        if not self.difference.number:
            return ""
        interval = "".join(self.difference.interval_parts) if self.difference.bounds else "no interval"
        return f"{self.difference.number} {interval}"


@dataclass(frozen=True)
class Forest:
    """One metric of all arms on one scale."""

    heading: str
    unit: str
    rows: Sequence[ForestRow]
    scale: Scale | None
    """None where no interval is known."""
    margin: float | None
    """Equivalence margin, drawn as a band; None if the arms have different ones or none."""

    @property
    def has_noise_ratios(self) -> bool:
        """Return whether any arm has a measured noise ratio."""
        return any(row.noise_ratio not in ("", DASH) for row in self.rows)

    @property
    def band(self) -> tuple[float, float] | None:
        """Return position and width of the margin's band; None without one. It is cut off at the ends of the strip."""
        if self.scale is None or not self.margin:
            return None
        start = self.scale.position(-self.margin) if self.scale.includes(-self.margin) else 0.0
        end = self.scale.position(self.margin) if self.scale.includes(self.margin) else 100.0
        return start, round(end - start, 2)


def metric_forests(comparison: Comparison, section: Section) -> list[Forest]:
    """Return the forest of each metric of a section, with the any-noise test where there is one."""
    return [
        build_forest(
            comparison,
            section,
            block,
            {arm.name: comparison.assessment(arm.name, key) for arm in comparison.arms},
            _noise_rows(comparison, key),
        )
        for key, block in zip(section.keys, section.blocks, strict=True)
    ]


def build_forest(
    comparison: Comparison,
    section: Section,
    block: Block,
    assessed: Mapping[str, Assessment | None],
    noise: Sequence[tuple[ForestRow, Assessment]] = (),
) -> Forest:
    """Return the forest of one quantity with these assessments by arm, and with further rows."""
    known = {arm: one for arm, one in assessed.items() if one}
    scale = common_scale([*known.values(), *(one for _, one in noise)])
    margins = {one.margin for one in known.values()}
    rows = [
        *(_row(comparison, row, known.get(row.arm), scale) for row in section.arm_rows(block)),
        *(replace(row, strip=_strip(one, scale)) for row, one in noise),
    ]
    return Forest(block.heading, block.unit, rows, scale, margins.pop() if len(margins) == 1 else None)


def common_scale(assessments: Sequence[Assessment]) -> Scale | None:
    """Return the scale of all intervals and of the margin, if it is near; None without a known interval.

    Controls, which are chosen to differ much, do not extend the scale if other arms have an interval.
    """
    ends = _ends(one for one in assessments if one.role != "control") or _ends(assessments)
    if not ends:
        return None
    low, high = min(0.0, *ends), max(0.0, *ends)
    margins = [one.margin for one in assessments if one.margin <= _MARGIN_REACH * max(-low, high)]
    low, high = min(low, *(-margin for margin in margins), 0.0), max(high, *margins, 0.0)
    return Scale(low, high) if low < high else Scale(-1.0, 1.0)


def round_step(most: float) -> float:
    """Return the largest of 1, 2, 4, 5, 10, ... times a power of ten that is not more than `most`.

    >>> round_step(0.33), round_step(0.049), round_step(1.0)
    (0.2, 0.04, 1.0)
    """
    power = math.floor(math.log10(most))
    # The logarithm of a number just below a power of ten can be rounded up.
    steps = (float(f"{digit}e{place}") for place in (power, power - 1) for digit in _STEPS)
    return next(step for step in steps if step <= most)


def contrast_sentences(comparison: Comparison, key: str) -> Iterator[str]:
    """Yield the numbers of the any-noise test on a metric; nothing without the test."""
    test, metric = comparison.noise_tests.get(key), comparison.metrics[key]
    if test is None:
        return
    yield f"{ANY_NOISE}, null hypothesis that no arm with noise differs from {comparison.baseline}: {_p(test)}."
    for contrast in test.contrasts:
        words = {"mean": f"Mean of {listed(contrast.arms)}", "trend": "Change from the smallest to the largest alpha"}
        shown = assessed_difference(contrast.assessment, metric)
        yield f"{words[contrast.name]}: {shown.number} {''.join(shown.interval_parts)}, {shown.verdict_text}."


def _row(comparison: Comparison, row: ArmRow, assessment: Assessment | None, scale: Scale | None) -> ForestRow:
    kinds: Mapping[str, Literal["base", "baseline"]] = {BASE_ARM: "base", comparison.baseline: "baseline"}
    return ForestRow(
        name=row.arm,
        kind=kinds.get(row.arm, "arm"),
        value=row.value,
        difference=row.difference,
        strip=_strip(assessment, scale),
        hint=ROLE_NAMES[assessment.role] if assessment else "",
        noise_ratio=next((noise_share(arm) for arm in comparison.arms if arm.name == row.arm), ""),
        order=assessment.paired.difference if assessment else None,
    )


def _noise_rows(comparison: Comparison, key: str) -> list[tuple[ForestRow, Assessment]]:
    """Return the row of the mean of the arms with noise, without its strip; none without the any-noise test."""
    test, metric = comparison.noise_tests.get(key), comparison.metrics[key]
    contrasts = [one for one in test.contrasts if one.name == "mean"] if test else []
    return [(_noise_row(test, one, metric), one.assessment) for one in contrasts if test]


def _noise_row(test: NoiseTest, contrast: Contrast, metric: Metric) -> ForestRow:
    difference = assessed_difference(contrast.assessment, metric)
    return ForestRow(
        name=ANY_NOISE,
        kind="noise",
        value=Cell(""),
        difference=replace(difference, remark=f"any-noise test: {_p(test)}"),
        strip=None,
        hint=f"mean of {len(contrast.arms)} arms",
        order=contrast.assessment.paired.difference,
    )


def _p(test: NoiseTest) -> str:
    return p_statement(test.p_value).replace(" ", "\N{NO-BREAK SPACE}")


def _strip(assessment: Assessment | None, scale: Scale | None) -> Strip | None:
    if assessment is None or scale is None:
        return None
    low, high = shown_interval(assessment)
    if not math.isfinite(low) or not math.isfinite(high):
        return None
    middle = assessment.paired.difference
    outside = {"low": low < scale.low, "high": high > scale.high}
    cut: Literal["low", "high", "both", ""] = (
        "both" if all(outside.values()) else "low" if outside["low"] else "high" if outside["high"] else ""
    )
    place = scale.position(middle) if scale.includes(middle) else None
    return Strip(scale.position(low), scale.position(high), place, cut)


def _ends(assessments: Iterable[Assessment]) -> list[float]:
    """Return the finite ends of the shown intervals."""
    return [end for one in assessments for end in shown_interval(one) if math.isfinite(end)]
