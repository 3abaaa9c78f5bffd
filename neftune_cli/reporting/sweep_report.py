"""From evidence to comparisons, and from those to the page and to the report beside a sweep's trials."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.aligned import DEFAULT_CHOICES, Choices
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import NothingToCompareError
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.records import Generation
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.store import SWEEP_FILE, SweepFolder

if TYPE_CHECKING:
    from neftune_cli.reporting.page.content import PageContent
    from neftune_cli.reporting.plots import Plot


@dataclass(frozen=True)
class Judged:
    """Comparable trials and what was found in them."""

    evidence: Evidence
    comparison: Comparison
    choices: Choices


def judge_all(evidence: Sequence[Evidence], choices: Choices = DEFAULT_CHOICES) -> tuple[list[Judged], list[str]]:
    """Compare each of several, and say of which no trained trial has finished.

    Raises:
        NothingToCompareError: that is so of all of them.
        UsageError: the choices don't fit one of them.
    """
    judged, empty = [], []
    for one in evidence:
        try:
            judged.append(Judged(one, compare_arms(one, choices), choices))
        except NothingToCompareError as error:
            empty.append(str(error))
    if not judged:
        raise NothingToCompareError("\n".join(empty))
    return judged, empty


def judge_sweep(folder: SweepFolder) -> list[Judged]:
    """Compare the finished trials of one sweep: several comparisons where they differ in more than they should.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    return judge_all(sweep_evidence([folder]))[0]


def write_reports(folder: SweepFolder, judged: Sequence[Judged]) -> None:
    """Write summary.md, report.html and plots/ into the sweep's folder, in place of those of an earlier time.

    Raises:
        OSError: the folder can't be written.
    """
    from neftune_cli.reporting.markdown import to_markdown
    from neftune_cli.reporting.plots import standalone

    drawn = [plots_of(one) for one in judged]
    texts = {
        "summary.md": to_markdown([one.comparison for one in judged]),
        "report.html": page(judged, drawn),
    }
    pictures = {
        f"{plot.name}{f'-{number}' if number > 1 else ''}.svg": standalone(plot.svg)
        for number, plots in enumerate(drawn, start=1)
        for plot in plots.values()
    }
    for name, text in texts.items():
        folder.write_text(name, text)
    folder.write_plots(pictures)
    sys.audit("neftune.reports-written", str(folder.path))


def page(judged: Sequence[Judged], plots: Sequence[Mapping[str, "Plot"]] | None = None) -> str:
    """Return the page about these comparisons, one HTML file that needs nothing else."""
    from neftune_cli.reporting.page.report import report_page

    drawn = plots or [plots_of(one) for one in judged]
    return report_page([_content(one, pictures) for one, pictures in zip(judged, drawn, strict=True)])


def plots_of(judged: Judged) -> Mapping[str, "Plot"]:
    """Return the pictures of a comparison by name."""
    from neftune_cli.reporting.plots import all_plots

    return all_plots(judged.comparison, judged.evidence.trials)


def _content(judged: Judged, plots: Mapping[str, "Plot"]) -> "PageContent":
    from neftune_cli.reporting.page.content import PageContent, side_by_side

    comparison, evidence = judged.comparison, judged.evidence
    seed = _answers_seed(comparison)
    return PageContent(
        comparison=comparison,
        advice=advice(comparison),
        footnotes=footnotes(comparison),
        plots=plots,
        answers=side_by_side(_answers(evidence, seed)),
        answers_seed=seed,
        spec="---\n".join(evidence.specs),
        manifest=evidence.manifest,
        command="\n".join(commands_again(evidence, judged.choices)),
    )


def commands_again(evidence: Evidence, choices: Choices) -> list[str]:
    """Return what to type to make these sweeps and their comparison once more; nothing for runs that others made."""
    if not evidence.specs:
        return []
    names = [Path(folder).resolve().name for folder in evidence.folders]
    outputs = [
        f"results/{name}-again{f'-{place}' if names.count(name) > 1 else ''}" for place, name in enumerate(names, 1)
    ]
    sweeps = [
        ["neftune", "sweep", str(Path(folder) / SWEEP_FILE), "--output", output]
        for folder, output in zip(evidence.folders, outputs, strict=True)
    ]
    compare = ["neftune", "compare", *outputs, *_options(choices)]
    return [shlex.join(command) for command in (*sweeps, compare)]


def _options(choices: Choices) -> Iterator[str]:
    """Yield the options that say what differs from what happens when the user chooses nothing."""
    if choices.baseline is not None:
        yield from ("--baseline", choices.baseline)
    if choices.metric is not None:
        yield from ("--metric", choices.metric)
    if choices.confidence != DEFAULT_CHOICES.confidence:
        yield from ("--confidence", f"{choices.confidence:g}")
    for key, margin in choices.margins.items():
        yield from ("--margin", f"{key}={f'{100 * margin.size:g}%' if margin.relative else f'{margin.size:g}'}")


def _answers_seed(comparison: Comparison) -> int | None:
    """Return the first seed that every arm has."""
    shared = set.intersection(*(set(arm.seeds) for arm in comparison.arms))
    return min(shared, default=None)


def _answers(evidence: Evidence, seed: int | None) -> dict[str, list[Generation]]:
    """Return what each arm, the base first, answered with this seed; nothing for runs that others made."""
    folders = [SweepFolder(Path(folder)) for folder in evidence.folders] if evidence.specs else []
    found: dict[str, list[Generation]] = {}
    for trial in evidence.trials:
        if trial.is_base or trial.seed == seed:
            places = (folder.trial(trial.trial, trial.arm, trial.seed) for folder in folders)
            answers = next((answers for place in places if (answers := place.generations())), [])
            found |= {BASE_ARM if trial.is_base else trial.arm: answers} if answers else {}
    return found
