"""First screen of a comparison: the decision, one table of the primary metric, and the commands to type next."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.decision import decide, stopped_arm
from neftune_cli.analysis.headline import Word, headline
from neftune_cli.analysis.results import DIFFERENT, Assessment, Comparison
from neftune_cli.formatting import counted, listed, listed_at_most, percent
from neftune_cli.metrics import HELD_OUT_LOSS, Metric
from neftune_cli.reporting.footnotes import contrast_text
from neftune_cli.reporting.next_step import chance_sentence, details_command, next_step
from neftune_cli.reporting.sanitizing import terminal_text
from neftune_cli.reporting.screen_table import (
    ScreenTable,
    outside,
    screen_table,
    short_names,
    shown_metric,
)

WORD_STYLES: dict[Word, str] = {
    "DECIDED": "bold green",
    "PARTLY DECIDED": "bold yellow",
    "NOT DECIDED": "bold yellow",
    "NO VERDICT": "bold",
    "NOTHING LEARNED": "bold red",
    "NOTHING TO COMPARE": "bold",
}
"""Colors repeat the words."""
MOST_LISTED = 4
"""Largest number of seeds and of arms to list in a line."""
MOST_MISSING, MOST_CHANGED = 2, 4
"""Largest numbers of missing trials and of changed metrics to name."""
_Fact = tuple[str, str]
"""A label and a sentence without its label."""


def print_screen(console: Console, comparison: Comparison, *, has_commands: bool = True, report: str = "") -> None:
    """Print the first screen, at most 25 lines at 80 columns for four arms.

    Args:
        console: its width determines the columns of the table.
        comparison: what to show.
        has_commands: whether to end with the commands to type next.
        report: path of the page of this comparison; empty if none is written.
    """
    console.print(Text.assemble((terminal_text(comparison.sweep), "bold"), "  ", terminal_text(_scope(comparison))))
    if comparison.apart:
        console.print(Text(terminal_text(comparison.apart)))
    console.print()
    found = headline(comparison)
    problems = [("PROBLEM", problem) for problem in comparison.learning.problems]
    console.print(_grid([*problems, (found.word, found.sentence)], {"PROBLEM": "bold red"} | WORD_STYLES))
    console.print()
    table = screen_table(comparison, console.width)
    console.print(_title(comparison))
    console.print(table.renderable())
    if facts := list(_facts(comparison, table)):
        console.print(_grid(facts))
    if has_commands:
        console.print()
        _print_commands(console, comparison, report)


def scope_parts(comparison: Comparison) -> Iterator[str]:
    """Yield the setting, the seeds and the held-out items of a comparison."""
    yield comparison.setting.name
    for part in comparison.setting.recipe_parts:
        if not part.startswith("batch size"):
            yield part.replace("learning rate", "lr")
    yield _look(comparison) or seeds_text([arm.seeds for arm in comparison.arms])
    if comparison.items:
        yield counted(comparison.items, "held-out example" if comparison.origin.is_sweep else "item")


def seeds_text(seeds_of_arms: Sequence[Sequence[int]]) -> str:
    """Return the seeds if all arms have the same, else the range of their numbers."""
    counts = sorted({len(seeds) for seeds in seeds_of_arms})
    if len({tuple(seeds) for seeds in seeds_of_arms}) > 1:
        return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counted(counts[0], 'seed')} per arm"
    seeds = sorted(seeds_of_arms[0])
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]}-{seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= MOST_LISTED else counted(len(seeds), "seed")


def _scope(comparison: Comparison) -> str:
    return " · ".join(scope_parts(comparison))


def _look(comparison: Comparison) -> str:
    """Return the look that a plan has reached; empty without planned looks."""
    plan = comparison.plan
    if plan is None or not plan.looks:
        return ""
    last = plan.looks[-1]
    if not plan.taken:
        return f"no look of {len(plan.looks)} taken yet, the first one at {plan.looks[0]} seeds"
    return f"look {plan.taken} of {len(plan.looks)}: {plan.looks[plan.taken - 1]} of at most {last} seeds"


def _title(comparison: Comparison) -> Text:
    metric = comparison.metric
    unit = "nats per completion token" if metric.unit == "nats" else metric.unit
    goal = f"{metric.goal} is better" if metric.goal else "no preferred direction"
    title = Text(terminal_text(f"{metric.name} ({', '.join(filter(None, (unit, goal)))})"), style="bold")
    before = (comparison.base or {}).get(metric.key)
    return title if before is None else title.append(f"   base model {shown_metric(comparison).number(before)}", "dim")


def _facts(comparison: Comparison, table: ScreenTable) -> Iterator[_Fact]:
    """Yield the lines under the table."""
    names = list(short_names(comparison).values())
    labels = {"noise": "Noise ratio", "response": " ".join(filter(None, _response_heading(table)))}
    for column in table.left_out:
        if column.key in labels and len(names) <= MOST_LISTED + 1 and all(len(name) < 12 for name in names):
            yield labels[column.key], outside(column, names)
    yield from _roles(comparison)
    yield from _equivalent(comparison)
    yield from _any_noise(comparison)
    yield from _other_metrics(comparison)
    yield from _early_stopping(comparison)
    if missing := comparison.unfinished:
        yield "Missing", listed_at_most(missing, MOST_MISSING, separator="; ")


def _response_heading(table: ScreenTable) -> tuple[str, str]:
    upper, lower = next((column.heading for column in table.left_out if column.key == "response"), ("", ""))
    return upper[:1].upper() + upper[1:], lower


def _roles(comparison: Comparison) -> Iterator[_Fact]:
    by_role: dict[str, list[str]] = {}
    for arm in comparison.treated:
        if one := comparison.assessment(arm.name, comparison.primary):
            by_role.setdefault(one.role, []).append(comparison.spoken(arm.name))
    parts = [f"{listed(arms)}: {_ROLES[role]}" for role, arms in by_role.items() if role in _ROLES]
    if parts:
        yield "Arms", "; ".join(parts)


_ROLES = {
    "primary": "primary arm, whose test was declared in advance",
    "exploratory": "exploratory",
    "control": "control of the instrument",
}


def _equivalent(comparison: Comparison) -> Iterator[_Fact]:
    assessed = [comparison.assessment(arm.name, comparison.primary) for arm in comparison.treated]
    margins = {one.margin for one in assessed if one and one.verdict == "equivalent"}
    if margins:
        level = percent(2 * comparison.confidence - 1)
        rule = comparison.margins[comparison.primary].rule()
        margin = comparison.metric.amount(max(margins))
        yield "Equivalent", f"within {margin} ({rule}); {level} interval, by which equivalence is tested"


def _any_noise(comparison: Comparison) -> Iterator[_Fact]:
    """Yield the test whether noise matters at all: the mean of the arms, and the trend if it is shown."""
    if test := comparison.noise_tests.get(comparison.primary):
        metric = shown_metric(comparison)
        shown = [one for one in test.contrasts if one.name == "mean" or one.assessment.verdict in DIFFERENT]
        yield "Any noise", "; ".join(contrast_text(comparison, one, metric) for one in shown)


def _other_metrics(comparison: Comparison) -> Iterator[_Fact]:
    """Yield the other metrics that differ after the adjustment for the arms, or the one that is closest to it."""
    assessed = [
        (metric, arm.name, one)
        for metric in comparison.other_metrics
        for arm in comparison.treated
        if (one := comparison.assessment(arm.name, metric.key)) and one.verdict and one.role != "control"
    ]
    if not assessed:
        return
    if changed := [item for item in assessed if item[2].verdict in DIFFERENT]:
        metrics = dict.fromkeys((metric.key, str(one.verdict)) for metric, _, one in changed)
        texts = [_changed(comparison, *key, changed) for key in metrics]
        yield "Other metrics", f"{listed_at_most(texts, MOST_CHANGED, '; ')} (each metric is tested by itself)"
        return
    metric, arm, one = min(assessed, key=lambda item: item[2].p_adjusted)
    yield "Other metrics", f"none shown to differ; closest: {metric.name_within}, {comparison.spoken(arm)}"


def _changed(comparison: Comparison, key: str, verdict: str, changed: Sequence[tuple[Metric, str, Assessment]]) -> str:
    arms = [comparison.spoken(arm) for metric, arm, one in changed if (metric.key, one.verdict) == (key, verdict)]
    named = listed(arms) if len(arms) <= MOST_LISTED else f"{len(arms)} arms"
    return f"{comparison.metrics[key].name_within} {verdict} with {named}"


def _early_stopping(comparison: Comparison) -> Iterator[_Fact]:
    stopping = comparison.early_stopping if comparison.primary == HELD_OUT_LOSS else None
    if stopping is None or not comparison.treated:
        return
    baseline, last = stopping.arms[0], max(stopping.epochs)
    spoken = comparison.spoken(comparison.baseline)
    if baseline.best_epoch == last:
        yield "Early stopping", f"{spoken} is best after its last epoch, {last}, so there is nothing to stop"
        return
    changed = []
    for arm in decide(comparison).with_verdict:
        stopped, after_last = stopped_arm(stopping, arm), comparison.assessment(arm, comparison.primary)
        if (
            stopped
            and stopped.best
            and stopped.best.verdict
            and after_last
            and stopped.best.verdict != after_last.verdict
        ):
            changed.append(f"{comparison.spoken(arm)} {stopped.best.verdict}")
    epoch = f"best epoch of {spoken}: {baseline.best_epoch:.1f} of {last}"
    if changed:
        yield "Early stopping", f"at best epochs the verdicts are: {'; '.join(changed)} ({epoch})"
    else:
        yield "Early stopping", f"changes no verdict ({epoch})"


# Commands

_GAP = 2
_LABEL_WIDTH = len("Details") + _GAP
"""Width of the labels of commands."""
_CONTINUED = " \\"


def _print_commands(console: Console, comparison: Comparison, report: str) -> None:
    if step := next_step(comparison):
        _print_command(console, "Next", shlex.join(step.command))
        console.print(_grid([("", step.price)]))
    elif decide(comparison).open_arms and not comparison.origin.is_sweep:
        console.print(_grid([("Next", "train more seeds, their number chosen in advance, and compare again")]))
    if chance := chance_sentence(comparison):
        console.print(_grid([("Chance", chance)]))
    _print_command(console, "Details", details_command(comparison))
    if report:
        _print_command(console, "Report", report)


def _print_command(console: Console, label: str, command: str) -> None:
    """Print a command that can be copied: on several lines if it is too long, each but the last with a backslash."""
    first, *others = _command_lines(terminal_text(command), console.width - _LABEL_WIDTH)
    for start, line in ((label, first), *(("  ", other) for other in others)):
        text = Text.assemble((f"{start:<{_LABEL_WIDTH}}", "dim"), line)
        console.print(text, soft_wrap=True, crop=False)


def _command_lines(command: str, width: int) -> list[str]:
    """Return a command in lines of at most this width, broken before options. A longer word stays whole."""
    if len(command) <= width:
        return [command]
    lines = [""]
    for word in re.split(r" (?=--|\| )", command):
        joined = f"{lines[-1]} {word}".lstrip()
        if len(joined) + len(_CONTINUED) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return [*(line + _CONTINUED for line in lines[:-1]), lines[-1]]


def _grid(facts: Sequence[_Fact], styles: Mapping[str, str] | None = None) -> Table:
    """Return labels and sentences in two columns, the sentences wrapped."""
    grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, min_width=_LABEL_WIDTH - _GAP)
    grid.add_column()
    for label, sentence in facts:
        style = (styles or {}).get(label, "dim")
        grid.add_row(Text(label, style=style), Text(terminal_text(sentence)))
    return grid
