"""`neftune compare`: verdict, tables, report or export of finished sweeps."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands.output_file import OutputFile
from neftune_cli.errors import Problem, Problems, UsageError, alternatives, did_you_mean
from neftune_cli.reporting.documents import OutputFormat

if TYPE_CHECKING:
    from neftune_cli.analysis.comparison import ComparedEvidence
    from neftune_cli.evidence.measurements import Evidence
    from neftune_cli.metrics import Margin
    from neftune_cli.store import SweepFolder


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Results folders, or folders that contain results or runs."),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="Arm to compare with, by alpha or name (default: the first arm)."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Primary metric: the headline reports the result for it, and it selects the best arm (default: the "
            "metric declared by the sweep, otherwise eval_loss). module:function is a function of your own that scores "
            "each response.",
        ),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=SIZE",
            help="Equivalence margin, for example eval_loss=0.02 or response_chars=10%; may be repeated.",
        ),
    ] = None,
    confidence: Annotated[
        float,
        typer.Option(metavar="LEVEL", help="Confidence level of intervals; tests use the level 1 - confidence."),
    ] = 0.95,
    cluster_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Metadata field of samples of Inspect AI (inspect_ai). Samples with the same value form a cluster.",
        ),
    ] = None,
    judge_results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ratings of the responses by a judge: AlpacaEval's annotations, or a CSV of id, arm, seed, score.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show all tables and footnotes below the first screen.")] = False,
    hypotheses: Annotated[
        bool, typer.Option("--hypotheses", help="Show the claims of the paper with the evidence for each.")
    ] = False,
    format_: Annotated[OutputFormat, typer.Option("--format", help="Output format.")] = OutputFormat.TABLE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Output file (default: the terminal).")] = None,
) -> None:
    """Compare the arms of finished sweeps, paired by seed and example: print the decision, and write a report."""
    from neftune_cli.analysis.comparison import compare_all
    from neftune_cli.analysis.options import DEFAULT_OPTIONS, ComparisonOptions
    from neftune_cli.evidence.gathering import gather

    problems = Problems()
    problems.attempt(lambda: _check_confidence(confidence))
    file = OutputFile("--output", output, "comparison.txt") if output else None
    if file:
        problems.attempt(file.check)
    gathered = problems.attempt(lambda: gather(paths, cluster_by=cluster_by, scored_again=metric)) or []
    evidence = problems.attempt(lambda: _with_judgments(gathered, judge_results)) or gathered
    evidence = problems.attempt(lambda: with_named_function(evidence, metric)) or evidence
    measured = list(dict.fromkeys(key for one in evidence for key in one.metrics))
    measured += [metric] if metric and ":" in metric and metric not in measured else []  # reported above
    margins = problems.attempt(lambda: parse_margins(margin or (), measured)) if evidence else None
    problems.raise_any()
    options = ComparisonOptions(baseline, metric, confidence, margins or {})
    compared, empty = compare_all(evidence, options)
    for message in empty:
        typer.echo(message, err=True)
    is_plain = options == DEFAULT_OPTIONS and evidence is gathered
    writes_reports = format_ is OutputFormat.TABLE and is_plain
    if format_ is OutputFormat.TABLE:
        reported = folders_compared_alone(compared) if writes_reports else ()
        print_compared(compared, file, full=full, hypotheses=hypotheses, reported=reported)
    elif file is None:
        typer.echo(_exported(compared, format_), nl=False)
    else:
        file.write(_exported(compared, format_))
    if writes_reports:
        write_folder_reports(compared)


def _with_judgments(evidence: "list[Evidence]", path: Path | None) -> "list[Evidence]":
    """Return the evidence with the ratings of a judge, and print how many are missing."""
    if path is None or not evidence:
        return evidence
    from neftune_cli.evidence.judgments import with_judgments

    return _noted(evidence, with_judgments(evidence, path))


def with_named_function(evidence: "list[Evidence]", metric: str | None) -> "list[Evidence]":
    """Return the evidence with the metric `module:function`, unless `metric` is the key of a measured one."""
    from neftune_cli.metrics import names_function

    is_measured = any(metric in one.metrics for one in evidence)
    if not (evidence and names_function(metric)) or is_measured:
        return evidence
    from neftune_cli.evidence.user_metrics import with_user_metric

    return _noted(evidence, with_user_metric(evidence, str(metric)))


def _noted(before: "list[Evidence]", after: "list[Evidence]") -> "list[Evidence]":
    """Print the notes that an added metric brought, and return the evidence."""
    for old, new in zip(before, after, strict=True):
        for note in new.notes:
            if note not in old.notes:
                typer.echo(note, err=True)
    return after


def write_folder_reports(compared: Sequence["ComparedEvidence"]) -> None:
    """Write the report of each sweep that is compared alone into its folder.

    A comparison of several sweeps, or of runs of other tools, belongs to no single folder.
    """
    from neftune_cli.store import SweepFolder

    alone = folders_compared_alone(compared)
    for path in sorted(alone):
        _write_report(SweepFolder(Path(path)), [one for one in compared if one.evidence.folders == (path,)])
    if others := [one.evidence.name for one in compared if not alone.issuperset(one.evidence.folders)]:
        names = ", ".join(others)
        typer.echo(f"{names}: no report was written. Use --format html --output FILE to write one.", err=True)


def folders_compared_alone(compared: Sequence["ComparedEvidence"]) -> set[str]:
    """Return the folders of sweeps of which no trial is compared with another folder's."""
    sweeps = [one.evidence.folders for one in compared if one.evidence.specs]
    together = {path for folders in sweeps for path in folders if len(folders) > 1}
    return {path for folders in sweeps for path in folders} - together


def parse_margins(texts: Sequence[str], known: Sequence[str]) -> "Mapping[str, Margin]":
    """Parse margins such as `eval_loss=0.02` (in the metric's unit) and `response_chars=10%` (of the baseline's mean).

    Args:
        texts: values of `--margin`.
        known: keys of the measured metrics.

    Raises:
        UsageError: every text with a wrong form, a size that is not positive and finite, or an unknown metric.

    """
    from neftune_cli.metrics import Margin

    margins: dict[str, Margin] = {}
    problems = []
    for text in texts:
        key, _, size = (part.strip() for part in text.partition("="))
        margin = Margin.parse(size)
        if margin is None:
            problems.append(Problem(f"--margin {text}: {_margin_fault(text, size)}.", _MARGIN_FIX))
        elif key not in known:
            what = f"--margin {text}: the metric {key!r} was not measured."
            problems.append(Problem(what, did_you_mean(key, known) or f"Use {alternatives(known)}."))
        elif key in margins:
            problems.append(Problem(f"--margin {text}: {key} has two margins.", "Use one margin for each metric."))
        else:
            margins[key] = margin
    if problems:
        raise UsageError(*problems)
    return margins


def _margin_fault(text: str, size: str) -> str:
    from neftune_cli.metrics import Margin

    if size:
        return f"the size must be a number larger than 0; {size!r} was given"
    return "the size is missing" if "=" in text or Margin.parse(text) is None else "the metric is missing"


_MARGIN_FIX = "Use eval_loss=0.02 (in its unit), response_chars=10% (of the baseline), or 'eval_loss=1% of gain'."


def _check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        what = f"--confidence must be 0.5 or larger and less than 1; {confidence:g} was given."
        raise UsageError(Problem(what, "Use --confidence 0.95."))


def print_compared(
    compared: Sequence["ComparedEvidence"],
    file: OutputFile | None,
    *,
    full: bool,
    hypotheses: bool,
    reported: Collection[str],
) -> None:
    """Print the first screen of each comparison, or write it into a file.

    Args:
        compared: the comparisons.
        file: file to write, None for the terminal.
        full: whether to print all tables and footnotes after the first screen.
        hypotheses: whether to print the claims of the paper.
        reported: folders that have a report of their comparison, which the screen names.
    """
    from neftune_cli.commands.outcome import print_screens, screens

    comparisons = [one.comparison for one in compared]
    if file is None:
        print_screens(comparisons, full=full, hypotheses=hypotheses, reported=reported)
    else:
        file.write(screens(comparisons, full=full, hypotheses=hypotheses, reported=reported))


def _exported(compared: Sequence["ComparedEvidence"], format_: OutputFormat) -> str:
    from neftune_cli.reporting.documents import document
    from neftune_cli.reporting.reports import render_page

    if format_ is OutputFormat.HTML:
        return render_page(compared)
    comparisons, evidence = [one.comparison for one in compared], [one.evidence for one in compared]
    return document(comparisons, format_, evidence=evidence)


def _write_report(folder: "SweepFolder", compared: Sequence["ComparedEvidence"]) -> None:
    from neftune_cli.reporting.reports import write_reports

    try:
        write_reports(folder, compared)
    except OSError as error:  # results of other users may be read-only, and the tables are printed already
        typer.echo(f"Cannot write summary.md, report.html and plots to {folder.path}: {error.strerror}.", err=True)
    else:
        typer.echo(f"Wrote summary.md, report.html and plots/ to {folder.path}", err=True)
