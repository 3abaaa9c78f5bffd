"""From `--margin` to margins: what counts as no difference."""

import math
from collections.abc import Mapping, Sequence

from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.metrics import Margin

_FIX = "Write eval_loss=0.02 (in its unit), or response_chars=10% (of the baseline's mean)."


def parse_margins(texts: Sequence[str], known: Sequence[str]) -> Mapping[str, Margin]:
    """Read `eval_loss=0.02` (in the metric's unit) and `response_chars=10%` (of the baseline's mean).

    `known` are the keys of the metrics that were measured.

    Raises:
        UsageError: something isn't written so, a size isn't positive and finite, or nobody measured the metric; every
            problem is named.
    """
    margins: dict[str, Margin] = {}
    problems = []
    for text in texts:
        key, _, written = (part.strip() for part in text.partition("="))
        margin = _margin(written)
        if margin is None:
            problems.append(Problem(f"--margin {text}: {_what(written)}.", _FIX))
        elif key not in known:
            what = f"--margin {text}: no metric {key!r} was measured."
            problems.append(Problem(what, f"Give one of {', '.join(known)}."))
        elif key in margins:
            problems.append(Problem(f"--margin {text}: {key} is there twice.", "Give each metric one margin."))
        else:
            margins[key] = margin
    if problems:
        raise UsageError(*problems)
    return margins


def _margin(written: str) -> Margin | None:
    relative = written.endswith("%")
    try:
        size = float(written.removesuffix("%"))
    except ValueError:
        return None
    if not math.isfinite(size) or size <= 0:
        return None
    return Margin(size / 100, relative=True) if relative else Margin(size)


def _what(written: str) -> str:
    return f"{written!r} is not a size above 0" if written else "there is no size in it"
