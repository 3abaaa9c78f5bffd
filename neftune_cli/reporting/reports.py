"""Reports of comparisons: render the HTML page, and write the files in a sweep's folder."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.comparison import ComparedEvidence
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.results import Comparison
from neftune_cli.evidence.folders import trial_folders
from neftune_cli.evidence.judgments import JUDGE_SCORE, JUDGE_WIN_RATE
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.records import Generation
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.store import REPORT_FILE, SUMMARY_FILE, SWEEP_FILE, SweepFolder

if TYPE_CHECKING:
    from neftune_cli.reporting.page.chapter import PageContent
    from neftune_cli.reporting.plots import Plot


def write_reports(folder: SweepFolder, compared: Sequence[ComparedEvidence]) -> None:
    """Write summary.md, report.html and plots/ into the sweep's folder, replacing existing ones.

    Raises:
        OSError: the folder is not writable.
    """
    from neftune_cli.reporting.markdown import to_markdown
    from neftune_cli.reporting.plots import standalone

    drawn = [draw_plots(one) for one in compared]
    texts = {
        SUMMARY_FILE: to_markdown([one.comparison for one in compared]),
        REPORT_FILE: render_page(compared, drawn),
    }
    plot_files = {
        f"{plot.name}{f'-{number}' if number > 1 else ''}.svg": standalone(plot.svg)
        for number, plots in enumerate(drawn, start=1)
        for plot in plots.values()
    }
    for name, text in texts.items():
        folder.write_text(name, text)
    folder.write_plots(plot_files)
    sys.audit("neftune.reports-written", str(folder.path))


def render_page(compared: Sequence[ComparedEvidence], plots: Sequence[Mapping[str, "Plot"]] | None = None) -> str:
    """Return the page of these comparisons, one self-contained HTML file."""
    from neftune_cli.reporting.page.report import report_page

    drawn = plots or [draw_plots(one) for one in compared]
    return report_page([_content(one, plots_by_name) for one, plots_by_name in zip(compared, drawn, strict=True)])


def draw_plots(compared: ComparedEvidence) -> Mapping[str, "Plot"]:
    """Return the plots of a comparison by name."""
    from neftune_cli.reporting.plots import all_plots

    return all_plots(compared.comparison, compared.evidence.trials)


def _content(compared: ComparedEvidence, plots: Mapping[str, "Plot"]) -> "PageContent":
    from neftune_cli.reporting.page.chapter import PageContent
    from neftune_cli.reporting.page.responses import responses_by_prompt

    comparison, evidence = compared.comparison, compared.evidence
    seed = _responses_seed(comparison)
    return PageContent(
        comparison=comparison,
        advice=advice(comparison),
        footnotes=footnotes(comparison),
        plots=plots,
        responses=responses_by_prompt(_responses(evidence, seed)),
        responses_seed=seed,
        spec_texts=evidence.spec_texts,
        manifest_texts=evidence.manifest_texts,
        command="\n".join(reproduction_commands(evidence, compared.options)),
    )


def reproduction_commands(evidence: Evidence, options: ComparisonOptions) -> list[str]:
    """Return the commands that run these sweeps and their comparison again; none for runs of other programs.

    The ratings of a judge are about the responses of these trials. A comment says that new ones are needed.
    """
    if not evidence.origin.is_sweep:
        return []
    names = [Path(folder).resolve().name for folder in evidence.origin.folders]
    outputs = [
        f"results/{name}-again{f'-{place}' if names.count(name) > 1 else ''}" for place, name in enumerate(names, 1)
    ]
    sweeps = [
        ["neftune", "sweep", str(Path(folder) / SWEEP_FILE), "--output", output]
        for folder, output in zip(evidence.origin.folders, outputs, strict=True)
    ]
    compare = ["neftune", "compare", *outputs, *options.arguments(evidence.measured_metrics)]
    judged = [_NEW_RATINGS] if {JUDGE_SCORE.key, JUDGE_WIN_RATE.key} & evidence.metrics.keys() else []
    return [*(shlex.join(command) for command in (*sweeps, compare)), *judged]


_NEW_RATINGS = "# Let the judge score the new responses first, and add --judge-results FILE to the last command."


def _responses_seed(comparison: Comparison) -> int | None:
    """Return the lowest seed that every arm has; None where they share none."""
    shared = set.intersection(*(set(arm.seeds) for arm in comparison.arms))
    return min(shared, default=None)


def _responses(evidence: Evidence, seed: int | None) -> dict[str, list[Generation]]:
    """Return the responses of the base and of each arm with this seed; none for runs of other programs."""
    folders = trial_folders(evidence) if evidence.origin.is_sweep else {}
    shown = (trial for trial in evidence.trials if trial.trial_id in folders and (trial.is_base or trial.seed == seed))
    found = {trial.arm: folders[trial.trial_id].generations() for trial in shown}
    return {arm: responses for arm, responses in found.items() if responses}
