"""From evidence to comparisons, and from those to the page and to the report beside a sweep's trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.choices import DEFAULT_CHOICES, Choices
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import NothingToCompareError
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.records import Generation
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.store import SweepFolder

if TYPE_CHECKING:
    from neftune_cli.reporting.page.content import PageContent
    from neftune_cli.reporting.plots import Plot


@dataclass(frozen=True)
class Judged:
    """Comparable trials and what was found in them."""

    evidence: Evidence
    comparison: Comparison


def judge_all(evidence: Sequence[Evidence], choices: Choices = DEFAULT_CHOICES) -> tuple[list[Judged], list[str]]:
    """Compare each of several, and say of which no trained trial has finished.

    Raises:
        NothingToCompareError: that is so of all of them.
        UsageError: the choices don't fit one of them.
    """
    judged, empty = [], []
    for one in evidence:
        try:
            judged.append(Judged(one, compare_arms(one, choices)))
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
    """Write summary.md, report.html and plots/ into the sweep's folder.

    Raises:
        OSError: the folder can't be written.
    """
    from neftune_cli.reporting.markdown import to_markdown
    from neftune_cli.reporting.plots import standalone

    folder.write_text("summary.md", to_markdown([one.comparison for one in judged]))
    plots = [plots_of(one) for one in judged]
    for number, drawn in enumerate(plots):
        behind = f"-{number + 1}" if number else ""
        for plot in drawn.values():
            folder.write_text(f"plots/{plot.name}{behind}.svg", standalone(plot.svg))
    folder.write_text("report.html", page(judged, plots))


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

    comparison, folders = judged.comparison, [SweepFolder(Path(path)) for path in judged.evidence.folders]
    seed = _answers_seed(comparison)
    return PageContent(
        comparison=comparison,
        advice=advice(comparison),
        footnotes=footnotes(comparison),
        plots=plots,
        answers=side_by_side(_answers(judged.evidence, folders, seed)),
        answers_seed=seed,
        spec="\n".join(folder.written_spec() for folder in folders),
        manifest=judged.evidence.manifest,
        command="\n".join(_commands(folders)),
    )


def _answers_seed(comparison: Comparison) -> int | None:
    """Return the first seed that every arm has."""
    shared = set.intersection(*(set(arm.seeds) for arm in comparison.arms))
    return min(shared, default=None)


def _answers(evidence: Evidence, folders: Sequence[SweepFolder], seed: int | None) -> dict[str, list[Generation]]:
    found: dict[str, list[Generation]] = {}
    for trial in evidence.trials:
        if trial.is_base or trial.seed == seed:
            places = (folder.trial(trial.trial, trial.arm, trial.seed) for folder in folders)
            answers = next((answers for place in places if (answers := place.generations())), [])
            found |= {BASE_ARM if trial.is_base else trial.arm: answers} if answers else {}
    return found


def _commands(folders: Sequence[SweepFolder]) -> list[str]:
    again = [(folder.path, f"results/{folder.name}-again") for folder in folders]
    sweeps = [f"neftune sweep {path}/sweep.yaml --output {output}" for path, output in again]
    return [*sweeps, f"neftune compare {' '.join(output for _, output in again)}"] if again else []
