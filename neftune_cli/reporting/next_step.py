"""Next step after a comparison: the command that can decide what is open, its cost, and its chance of a decision."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from neftune_cli.analysis.decision import arms_to_train, continuation, decide, excluded_trials
from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import DEFAULT_ALPHAS, DEFAULT_LOOKS
from neftune_cli.formatting import counted, rough_duration
from neftune_cli.metrics import HELD_OUT_LOSS
from neftune_cli.reporting.cells import share_range
from neftune_cli.store import folder_label


@dataclass(frozen=True)
class NextStep:
    """A command with its largest cost."""

    command: tuple[str, ...]
    seeds: int | None
    """Largest number of seeds of an arm; None for the missing trials of a sweep."""
    trials: int
    """Largest number of trials that the command trains."""
    seconds: float | None
    """Time of these trials; None if no trial of this sweep was timed."""
    workers: int
    is_new_sweep: bool = False
    """Whether all trials are those of a new sweep."""

    @property
    def cost(self) -> str:
        """Return the largest cost as text."""
        further, in_all = ("", "") if self.is_new_sweep else ("more ", " in all")
        seeds = "" if self.seeds is None else f" ({counted(self.seeds, 'seed')}{in_all})"
        trials = f"at most {counted(self.trials, f'{further}trial')}{seeds}"
        if self.seconds is None:
            return trials
        side_by_side = f" with {self.workers} workers" if self.workers > 1 else ""
        return f"{trials}, about {rough_duration(self.seconds)}{side_by_side}"


def next_step(comparison: Comparison) -> NextStep | None:
    """Return the command that can decide the open arms; None if nothing is open, or if no command can decide it."""
    match continuation(comparison):
        case "looks":
            return _further_looks(comparison)
        case "missing trials":
            return _missing_trials(comparison)
        case "new sweep" if not comparison.studied:
            alphas = ",".join(f"{one:g}" for one in DEFAULT_ALPHAS)
            return _new_sweep(comparison, len(DEFAULT_ALPHAS), ("--alphas", alphas))
        case "new sweep":
            return _new_sweep(comparison, len({*comparison.declared_arms, *comparison.declared.controls}), ())
    return None


def sentence_without_command(comparison: Comparison) -> str:
    """Return what can be done about open arms that no command can decide; empty if nothing is open or known."""
    is_open = bool(comparison.treated and decide(comparison).open_arms)
    if comparison.origin.of_other_version and (is_open or comparison.unfinished):
        return (
            "these trials are from another version of neftune, and only that version can continue their sweep; "
            "start a new one with this version (--output)"
        )
    if not is_open:
        return ""
    if not comparison.origin.is_sweep:
        return "train more seeds, their number chosen in advance, and compare again"
    plan, is_planned = comparison.declared, not comparison.departures and comparison.origin.decides_looks
    if plan.has_planned_looks and plan.is_finished and is_planned and comparison.learning.has_learned is not False:
        # seeds that are added because of this result would raise the rate of false positives (docs/statistics.md)
        return (
            "the last planned look was taken, so this sweep gets no more seeds; report what is open as not decided, "
            "or test new seeds alone, in another sweep (--seeds, --output)"
        )
    return ""


_SMALL_CHANCE = 0.05
"""Chance of a decision below which the advice is another experiment than more seeds."""
_OTHER_WAYS = (
    "; more seeds are unlikely to decide the open arms: in a new sweep, train longer, use a larger learning rate, or "
    "declare a larger margin"
)


def chance_sentence(comparison: Comparison) -> str:
    """Return the chance of a decision with the last planned number of seeds; empty if nothing is open.

    The range covers all open arms, and the uncertainty of the variance between seeds.
    """
    found = [one for arm in decide(comparison).open_arms for one in comparison.outlooks.get(arm, ())]
    if not found:
        return ""
    last = max(one.seeds for one in found)
    ranges = {
        effect: (min(one.low for one in of), max(one.high for one in of))
        for effect in dict.fromkeys(one.effect for one in found)
        if (of := [one for one in found if one.seeds == last and one.effect == effect])
    }
    none, largest = min(ranges, key=abs), max(ranges, key=abs)
    metric = comparison.metric
    is_small = max(high for _, high in ranges.values()) < _SMALL_CHANCE
    return (
        f"of a decision on an open arm by {last} seeds: {share_range(*ranges[none])} if its true difference is 0, "
        f"{share_range(*ranges[largest])} if it is {metric.assumed(largest)}{metric.unit_suffix} (twice the margin)"
        f"{_OTHER_WAYS if is_small else ''}"
    )


def _further_looks(comparison: Comparison) -> NextStep:
    """Return the command that continues the planned looks of a sweep. Failed trials are not run again."""
    arms = arms_to_train(comparison, retry_failed=False)
    missing = set(_missing(comparison, arms)) - {*comparison.origin.failed_trials}
    return _step(comparison, _same_sweep(comparison), comparison.declared.looks[-1], len(missing))


def _missing_trials(comparison: Comparison) -> NextStep:
    """Return the command that trains the missing trials of a sweep, failed ones included, without excluded ones."""
    retry = ("--retry", "failed") if comparison.origin.failed_trials else ()
    command = (*_same_sweep(comparison), *retry)
    if not comparison.declared.has_planned_looks:
        return _step(comparison, command, None, len(comparison.unfinished))
    missing = set(_missing(comparison, arms_to_train(comparison, retry_failed=True))) - excluded_trials(comparison)
    return _step(comparison, command, comparison.declared.looks[-1], len(missing))


def _missing(comparison: Comparison, arms: Collection[str]) -> list[str]:
    """Return the labels of the planned trials of some arms that have not finished."""
    finished = {arm.name: arm.seeds for arm in comparison.arms}
    seeds = comparison.declared.seeds
    return [folder_label(arm, seed) for arm in arms for seed in seeds if seed not in finished.get(arm, ())]


def _same_sweep(comparison: Comparison) -> tuple[str, ...]:
    folder = comparison.origin.folders[0]
    return "neftune", "sweep", f"{folder}/sweep.yaml", "--output", folder


def _new_sweep(comparison: Comparison, arms: int, options: Sequence[str]) -> NextStep:
    """Return the command for a sweep with planned looks in a folder of its own."""
    folder = comparison.origin.folders[0].rstrip("/")
    declared = comparison.declared
    is_declared = comparison.primary == (declared.metric or HELD_OUT_LOSS)
    metric = () if is_declared else ("--metric", comparison.primary)
    # a declared margin is that of the declared metric
    chosen = comparison.chosen_margin or (comparison.metric.margin if declared.margin and not is_declared else None)
    margin = ("--margin", chosen.written()) if chosen else ()
    output = ("--output", f"{folder}-until-decided")
    command = ("neftune", "sweep", f"{folder}/sweep.yaml", *options, "--until-decided", *metric, *margin, *output)
    step = _step(comparison, command, DEFAULT_LOOKS[-1], DEFAULT_LOOKS[-1] * arms)
    return replace(step, is_new_sweep=True)


def _step(comparison: Comparison, command: Sequence[str], seeds: int | None, trials: int) -> NextStep:
    """Return the step of a command, which runs its trials where those of the sweep ran."""
    origin = comparison.origin
    seconds = None if origin.seconds is None else origin.seconds * trials / origin.workers
    return NextStep((*command, *origin.run_options), seeds, trials, seconds, origin.workers)


def details_command(comparison: Comparison) -> str:
    """Return the command that shows more of the same comparison."""
    return shlex.join(("neftune", "compare", *comparison.origin.folders, *comparison.chosen_options, "--full"))
