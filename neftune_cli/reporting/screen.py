"""First screen of a comparison: the decision, one table of the primary metric, and the commands to type next."""

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.decision import control_findings, decide, stopped_arm
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.results import DIFFERENT, Assessment, Comparison
from neftune_cli.config.arm_names import spoken_name
from neftune_cli.formatting import capitalized, counted, listed, listed_at_most, percent, terminal_text
from neftune_cli.metrics import Metric
from neftune_cli.reporting.cells import STATE_VERDICTS, interval_kind, p_value_text, short_seeds_text
from neftune_cli.reporting.inference_sentences import contrast_text
from neftune_cli.reporting.next_step import chance_sentence, details_command, next_step, sentence_without_command
from neftune_cli.reporting.screen_table import (
    ScreenTable,
    outside,
    screen_table,
    shown_metric,
    table_names,
)
from neftune_cli.reporting.terminal_columns import VERDICT_STYLES

MOST_LISTED = 4
"""Largest number of arms to list in a line."""
MOST_MISSING, MOST_CHANGED = 2, 4
"""Largest numbers of missing trials and of changed metrics to name."""
MOST_LINES = 25
"""Largest number of lines at 80 columns for up to four arms; each further arm adds at least one."""


@dataclass(frozen=True)
class Fact:
    """A labelled sentence under the table."""

    label: str
    sentence: str
    rank: int = 0
    """Facts of higher rank are left out first if the screen is too long; those of rank 0 stay."""


def print_screen(console: Console, comparison: Comparison, *, has_commands: bool = True, report: str = "") -> None:
    """Print the first screen, at most `MOST_LINES` lines at 80 columns for four arms.

    Args:
        console: its width determines the columns of the table.
        comparison: what to show.
        has_commands: whether to end with the commands to type next.
        report: path of the page of this comparison; empty if none is written.
    """
    table = screen_table(comparison, console.width)
    commands = _commands(comparison, report, console.width) if has_commands else []
    above, below = list(_above(comparison)), list(_lines_below(comparison, table))
    room = MOST_LINES + max(0, len(comparison.arms) - 4)
    while _height(console, *above, table.renderable(), _grid(below), *commands) > room and any(
        fact.rank for fact in below
    ):
        below.remove(max(below, key=lambda fact: fact.rank))
    if has_commands and _height(console, *above, table.renderable(), _grid(below), *commands) > room:
        commands = _commands(comparison, report, console.width, has_chance=False)
    for renderable in above:
        console.print(renderable)
    console.print(table.renderable())
    if below:
        console.print(_grid(below))
    for command in commands:
        console.print(command, soft_wrap=isinstance(command, Text), crop=False)


def _above(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield the parts above the table."""
    yield Text.assemble((terminal_text(comparison.sweep), "bold"), "  ", terminal_text(_scope(comparison)))
    if comparison.difference_from_first:
        yield Text(terminal_text(comparison.difference_from_first))
    yield ""
    line = headline(comparison)
    problems = (Fact("PROBLEM", problem) for problem in comparison.learning.problems)
    notes = (Fact("NOTE", departure.sentence) for departure in comparison.departures)
    verdict = STATE_VERDICTS[line.state]
    styles = {"PROBLEM": "bold red", line.state: f"bold {VERDICT_STYLES[verdict]}" if verdict else "bold"}
    yield _grid([*problems, Fact(line.state, line.sentence), *notes], styles)
    yield ""
    yield _title(comparison)


def _height(console: Console, *parts: RenderableType) -> int:
    return sum(len(console.render_lines(part, pad=False)) for part in parts)


def scope_parts(comparison: Comparison) -> Iterator[str]:
    """Yield the setting, the seeds and the items of the primary metric."""
    yield comparison.setting.name
    for part in comparison.setting.recipe_parts:
        if not part.startswith("batch size"):
            yield part.replace("learning rate", "lr")
    yield _look(comparison) or short_seeds_text([arm.seeds for arm in comparison.arms])
    if comparison.items:
        yield counted(comparison.items, comparison.metric.item)


def _scope(comparison: Comparison) -> str:
    return " · ".join(scope_parts(comparison))


def _look(comparison: Comparison) -> str:
    """Return the look that a plan has reached; empty without planned looks."""
    plan = comparison.declared
    if not plan.has_planned_looks:
        return ""
    last = plan.looks[-1]
    if not plan.looks_taken:
        return f"none of {len(plan.looks)} looks taken yet, the first is at {plan.looks[0]} seeds"
    return f"look {plan.looks_taken} of {len(plan.looks)}: {plan.seeds_taken} of at most {last} seeds"


def _title(comparison: Comparison) -> Text:
    metric = comparison.metric
    unit = "nats per completion token" if metric.unit == "nats" else metric.unit
    goal = f"{metric.goal} is better" if metric.goal else "no preferred direction"
    title = Text(terminal_text(f"{metric.name} ({', '.join(filter(None, (unit, goal)))})"), style="bold")
    before = (comparison.base_scores or {}).get(metric.key)
    return title if before is None else title.append(f"   base model {shown_metric(comparison).number(before)}", "dim")


def facts(comparison: Comparison, *, has_noise_test: bool) -> Iterator[Fact]:
    """Yield what the table of the primary metric does not show.

    These are roles, unadjusted intervals beside adjusted ones, differences over fewer seeds than the mean, equivalence,
    the any-noise test if `has_noise_test`, other metrics, and early stopping.
    """
    yield from _roles(comparison)
    yield from _unadjusted(comparison)
    yield from _shared_seeds(comparison)
    yield from _equivalent(comparison)
    if has_noise_test:
        yield from _any_noise(comparison)
    yield from _other_metrics(comparison)
    yield from _early_stopping(comparison)


def _lines_below(comparison: Comparison, table: ScreenTable) -> Iterator[Fact]:
    """Yield the lines under the table."""
    names = list(table_names(comparison).values())
    labels = {"noise": "Noise ratio", "response": " ".join(filter(None, _response_heading(table)))}
    for column in table.left_out:
        if column.key in labels and len(names) <= MOST_LISTED + 1 and all(len(name) < 12 for name in names):
            yield Fact(labels[column.key], outside(column, names), rank=4)
    yield from facts(comparison, has_noise_test=True)
    if missing := comparison.unfinished:
        yield Fact("Missing", listed_at_most(missing, MOST_MISSING, separator="; "))


def _response_heading(table: ScreenTable) -> tuple[str, str]:
    upper, lower = next((column.heading for column in table.left_out if column.key == "response"), ("", ""))
    return capitalized(upper), lower


def _roles(comparison: Comparison) -> Iterator[Fact]:
    by_role: dict[str, list[str]] = {}
    for arm, assessment in comparison.assessments(comparison.primary).items():
        by_role.setdefault(assessment.role, []).append(spoken_name(arm))
    parts = [f"{listed(arms)}: {_ROLES[role]}" for role, arms in by_role.items() if role in _ROLES]
    if parts:
        yield Fact("Arms", "; ".join(parts))
    if findings := [finding.sentence for finding in control_findings(comparison)]:
        yield Fact("Controls", "; ".join(findings))


_ROLES = {
    "primary": "primary arm, whose test was declared in advance",
    "exploratory": "exploratory",
    "control": "check of the sweep",
}


def _unadjusted(comparison: Comparison) -> Iterator[Fact]:
    """Yield the arms with few seeds whose intervals stand in a column of adjusted ones."""
    few = [
        spoken_name(arm)
        for arm, assessment in comparison.assessments(comparison.primary).items()
        if not assessment.paired.has_enough_seeds and math.isfinite(assessment.paired.ci_low)
    ]
    if few and interval_kind(comparison) != "unadjusted":
        of = f"interval of {few[0]}" if len(few) == 1 else f"intervals of {listed_at_most(few, MOST_LISTED)}"
        yield Fact("Unadjusted", f"{of}, with fewer than three paired seeds: for other items only, not for other seeds")


def _shared_seeds(comparison: Comparison) -> Iterator[Fact]:
    """Yield the arms whose differences use fewer seeds than their mean or that of the baseline."""
    of_baseline = comparison.arm(comparison.baseline).estimates.get(comparison.primary)
    arms_by_numbers: dict[tuple[int, str], list[str]] = {}
    for arm in comparison.treated:
        estimate = arm.estimates.get(comparison.primary)
        if not (estimate and estimate.difference and of_baseline):
            continue
        shared, seeds, most = (len(one.by_seed) for one in (estimate.difference, estimate, of_baseline))
        means = f"mean over all {seeds}" if shared < seeds else f"whose mean is over all {most}"
        if shared < max(seeds, most):
            arms_by_numbers.setdefault((shared, means), []).append(spoken_name(arm.name))
    baseline = spoken_name(comparison.baseline)
    parts = [
        f"{listed_at_most(arms, MOST_LISTED)}: difference over the {counted(shared, 'seed')} shared with {baseline}, "
        f"{means}"
        for (shared, means), arms in arms_by_numbers.items()
    ]
    if parts:
        yield Fact("Seeds", "; ".join(parts))


def _equivalent(comparison: Comparison) -> Iterator[Fact]:
    assessed = comparison.assessments(comparison.primary).values()
    margins = {assessment.margin for assessment in assessed if assessment.verdict == "equivalent"}
    if margins:
        level = percent(comparison.equivalence_confidence)
        resolved = comparison.margins[comparison.primary]
        parts = (comparison.metric.margin_size(max(margins)), resolved.stated, resolved.because)
        yield Fact("Equivalent", f"within {', '.join(filter(None, parts))}; {level} interval")


def _any_noise(comparison: Comparison) -> Iterator[Fact]:
    """Yield the any-noise test: the mean of the arms, and the trend if it is significant."""
    if test := comparison.noise_tests.get(comparison.primary):
        metric = shown_metric(comparison)
        shown = [
            contrast
            for contrast in test.contrasts
            if contrast.name == "mean" or contrast.assessment.verdict in DIFFERENT
        ]
        yield Fact("Any noise", "; ".join(contrast_text(comparison, contrast, metric) for contrast in shown))


def _other_metrics(comparison: Comparison) -> Iterator[Fact]:
    """Yield the other metrics that differ after the adjustment for the arms, or the one that is closest to it."""
    assessed = [
        (metric, arm, assessment)
        for metric in comparison.other_metrics
        for arm, assessment in comparison.assessments(metric.key).items()
        if assessment.verdict and assessment.role != "control"
    ]
    if not assessed:
        return
    if changed := [item for item in assessed if item[2].verdict in DIFFERENT]:
        metrics = dict.fromkeys((metric.key, str(assessment.verdict)) for metric, _, assessment in changed)
        texts = [_changed(comparison, *key, changed) for key in metrics]
        yield Fact(
            "Other metrics",
            f"{listed_at_most(texts, MOST_CHANGED, '; ', 'difference')} (not adjusted for the number of metrics)",
        )
        return
    undecided = [item for item in assessed if item[2].verdict == "inconclusive"]
    metric, arm, assessment = min(undecided or assessed, key=lambda item: item[2].p_adjusted)
    where = "" if assessment.p_adjusted >= 1 else f" ({metric.name_within}, {spoken_name(arm)})"
    smallest = (
        f"; smallest adj. p {p_value_text(assessment.p_adjusted, short=True)}{where}"
        if assessment.verdict == "inconclusive"
        else ""
    )
    yield Fact("Other metrics", f"none better or worse{smallest}", rank=1)


def _changed(comparison: Comparison, key: str, verdict: str, changed: Sequence[tuple[Metric, str, Assessment]]) -> str:
    arms = [
        spoken_name(arm) for metric, arm, assessment in changed if (metric.key, assessment.verdict) == (key, verdict)
    ]
    named = listed(arms) if len(arms) <= MOST_LISTED else f"{len(arms)} arms"
    return f"{comparison.metrics[key].name_within} {verdict} with {named}"


def _early_stopping(comparison: Comparison) -> Iterator[Fact]:
    stopping = comparison.primary_early_stopping
    if stopping is None or not comparison.treated or math.isnan(stopping.arms[0].best_epoch):
        return
    baseline, last = stopping.arms[0], max(stopping.epochs)
    spoken = spoken_name(comparison.baseline)
    if baseline.best_epoch == last:
        # steps or a part of an epoch may end the training within the last epoch
        recipe = comparison.setting.recipe
        ends_within = bool(recipe.get("max_steps")) or recipe.get("epochs", last) != last
        end = "at the end of its training" if ends_within else f"after its last epoch (epoch {last})"
        yield Fact("Early stopping", f"{spoken} has its lowest loss {end}", rank=2)
        return
    with_both, changed = [], []
    for arm in decide(comparison).with_verdict:
        stopped, after_last = stopped_arm(stopping, arm), comparison.assessment(arm, comparison.primary)
        if stopped and stopped.best and stopped.best.verdict and after_last:
            with_both.append(arm)
            if stopped.best.verdict != after_last.verdict:
                changed.append(f"{spoken_name(arm)} {stopped.best.verdict}")
    epoch = f"best epoch of {spoken}: {baseline.best_epoch:.1f} of {last}"
    if changed:
        yield Fact("Early stopping", f"verdicts that differ at best epochs: {'; '.join(changed)} ({epoch})")
    elif not with_both:
        yield Fact("Early stopping", epoch, rank=2)
    else:
        yield Fact("Early stopping", f"changes no verdict ({epoch})", rank=2)


# Commands

_GAP = 2
_LABEL_WIDTH = len("Details") + _GAP
"""Width of the labels of commands."""
FURTHER_DETAILS = "further options: --metric KEY, --hypotheses"
"""Other options of `neftune compare` than that in the command for details."""


def _commands(comparison: Comparison, report: str, width: int, *, has_chance: bool = True) -> list[RenderableType]:
    """Return an empty line and the commands. Texts must not be wrapped, because they are commands to copy."""
    parts: list[RenderableType] = [Text("")]
    if step := next_step(comparison):
        parts += [_command("Next", shlex.join(step.command), width), _grid([Fact("", step.cost)])]
    elif sentence := sentence_without_command(comparison):
        parts.append(_grid([Fact("Next", sentence)]))
    if has_chance and (chance := chance_sentence(comparison)):
        parts.append(_grid([Fact("Chance", chance)]))
    if comparison.origin.folders:
        parts += [_command("Details", details_command(comparison), width), _grid([Fact("", FURTHER_DETAILS)])]
    if report:
        parts.append(_command("Report", report, width))
    return parts if len(parts) > 1 else []


def _command(label: str, command: str, width: int) -> Text:
    """Return a command in one line, or in several of which each but the last ends with a backslash."""
    lines = _command_lines(terminal_text(command), width - _LABEL_WIDTH)
    starts = [label, *("  " for _ in lines[1:])]
    parts = ((f"{start:<{_LABEL_WIDTH}}", line) for start, line in zip(starts, lines, strict=True))
    return Text("\n").join(Text.assemble((start, "dim"), line) for start, line in parts)


def _command_lines(command: str, width: int) -> list[str]:
    """Return a command in lines of at most this width, broken before options. A longer word stays whole."""
    if len(command) <= width:
        return [command]
    lines, continued = [""], " \\"
    for word in re.split(r" (?=--)", command):
        joined = f"{lines[-1]} {word}".lstrip()
        if len(joined) + len(continued) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return [*(line + continued for line in lines[:-1]), lines[-1]]


def _grid(facts: Sequence[Fact], styles: Mapping[str, str] | None = None) -> Table:
    """Return labels and sentences in two columns, the sentences wrapped."""
    grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, min_width=_LABEL_WIDTH - _GAP)
    grid.add_column(overflow="fold")
    for fact in facts:
        style = (styles or {}).get(fact.label, "dim")
        grid.add_row(Text(fact.label, style=style), Text(terminal_text(fact.sentence)))
    return grid
