"""Two specs on one results folder: where they differ, and the sweep that holds the arms and seeds of both."""

from collections.abc import Iterator
from typing import Any

from neftune_cli.config.spec import SweepSpec


def differences(there: SweepSpec, here: SweepSpec) -> Iterator[str]:
    """Yield, in words, where two specs differ in anything but their arms and seeds."""
    yield from _differences(_comparable(there), _comparable(here))


def _comparable(spec: SweepSpec) -> dict[str, Any]:
    values = spec.model_dump(mode="json", exclude={"arms", "seeds"})
    for section in ("train", "evaluation"):
        fields = values.pop(section)
        values |= {f"{section}.{name}": value for name, value in {**fields.pop("sft", {}), **fields}.items()}
    return values


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            yield f"{name} is {_said(there.get(name))} there and {_said(here.get(name))} here"


def merged(there: SweepSpec, here: SweepSpec) -> SweepSpec:
    """Return `here` with the arms and seeds that only `there` has: a sweep grows, it never forgets.

    Arms that are alphas in ascending order stay so, so that growing a sweep in any order gives the same tables.
    """
    arms = {arm.name: arm for arm in (*there.arms, *here.arms)}
    ordered = list(arms.values())
    if _ascending(there) and _ascending(here):
        ordered.sort(key=lambda arm: arm.alpha or 0.0)
    return here.model_copy(update={"arms": tuple(ordered), "seeds": tuple(sorted({*there.seeds, *here.seeds}))})


def _ascending(spec: SweepSpec) -> bool:
    alphas = [arm.alpha or 0.0 for arm in spec.arms]
    return all(arm.varies_only_alpha for arm in spec.arms) and alphas == sorted(alphas)


def _said(value: Any) -> str:
    return "not set" if value is None else repr(value)
