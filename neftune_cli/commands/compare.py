"""`neftune compare`: verdict, tables, report or export of finished sweeps."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.errors import Problem, Problems, UsageError, alternatives, did_you_mean
from neftune_cli.reporting.documents import OutputFormat

if TYPE_CHECKING:
    from neftune_cli.metrics import Margin
    from neftune_cli.reporting.reports import ComparedEvidence
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
        str | None, typer.Option(metavar="KEY", help="Metric that the verdict is based on (default eval_loss).")
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
            metavar="FIELD", help="Metadata field of inspect's samples; samples with the same value form a cluster."
        ),
    ] = None,
    hypotheses: Annotated[
        bool, typer.Option("--hypotheses", help="Show the claims of the paper with the evidence for each.")
    ] = False,
    format_: Annotated[OutputFormat, typer.Option("--format", help="Output format.")] = OutputFormat.TABLE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Output file (default: the terminal).")] = None,
) -> None:
    """Compare the arms of finished sweeps, paired by seed and example, and print a verdict, tables and a report."""
    from neftune_cli.analysis.options import DEFAULT_OPTIONS, ComparisonOptions
    from neftune_cli.commands.outcome import print_tables
    from neftune_cli.evidence.gathering import gather
    from neftune_cli.reporting.reports import compare_all

    problems = Problems()
    problems.attempt(lambda: _check_confidence(confidence))
    evidence = problems.attempt(lambda: gather(paths, cluster_by=cluster_by)) or []
    measured = list(dict.fromkeys(key for one in evidence for key in one.metrics))
    margins = problems.attempt(lambda: parse_margins(margin or (), measured)) if evidence else None
    problems.raise_any()
    options = ComparisonOptions(baseline, metric, confidence, margins or {})
    compared, empty = compare_all(evidence, options)
    for message in empty:
        typer.echo(message, err=True)
    if output is not None:
        _write(output, _text(compared, format_, hypotheses=hypotheses))
        typer.echo(f"Wrote {output}", err=True)
    elif format_ is OutputFormat.TABLE:
        print_tables([one.comparison for one in compared], hypotheses=hypotheses)
    else:
        typer.echo(_text(compared, format_, hypotheses=hypotheses), nl=False)
    if format_ is OutputFormat.TABLE and options == DEFAULT_OPTIONS:
        write_folder_reports(compared)


def write_folder_reports(compared: Sequence["ComparedEvidence"]) -> None:
    """Write the report of each sweep that is compared alone into its folder.

    A comparison of several sweeps, or of runs of other tools, belongs to no single folder.
    """
    from neftune_cli.store import SweepFolder

    by_folder: dict[str, list[ComparedEvidence]] = {}
    for one in compared:
        for path in one.evidence.folders if one.evidence.specs else ():
            by_folder.setdefault(path, []).append(one)
    alone = {path for path, found in by_folder.items() if all(one.evidence.folders == (path,) for one in found)}
    for path in sorted(alone):
        _write_report(SweepFolder(Path(path)), by_folder[path])
    if others := [one.evidence.name for one in compared if not alone.issuperset(one.evidence.folders)]:
        names = ", ".join(others)
        typer.echo(f"{names}: no report was written. Use --format html --output FILE to write one.", err=True)


def parse_margins(texts: Sequence[str], known: Sequence[str]) -> "Mapping[str, Margin]":
    """Parse margins such as `eval_loss=0.02` (in the metric's unit) and `response_chars=10%` (of the baseline's mean).

    Args:
        texts: values of `--margin`.
        known: keys of the measured metrics.

    Raises:
        UsageError: every text with a wrong form, a size that is not positive and finite, or an unknown metric.

    """
    margins: dict[str, Margin] = {}
    problems = []
    for text in texts:
        key, _, size = (part.strip() for part in text.partition("="))
        margin = _margin(size)
        if margin is None:
            what = f"the size must be a number larger than 0; {size!r} was given" if size else "the size is missing"
            problems.append(Problem(f"--margin {text}: {what}.", _MARGIN_FIX))
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


_MARGIN_FIX = "Use eval_loss=0.02 (in its unit), or response_chars=10% (of the baseline's mean)."


def _margin(text: str) -> "Margin | None":
    from neftune_cli.metrics import Margin

    relative = text.endswith("%")
    try:
        size = float(text.removesuffix("%"))
    except ValueError:
        return None
    if not math.isfinite(size) or size <= 0:
        return None
    return Margin(size / 100, relative=True) if relative else Margin(size)


def _check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        what = f"--confidence must be 0.5 or larger and less than 1; {confidence:g} was given."
        raise UsageError(Problem(what, "Use --confidence 0.95."))


def _text(compared: Sequence["ComparedEvidence"], format_: OutputFormat, *, hypotheses: bool) -> str:
    from neftune_cli.reporting.documents import document
    from neftune_cli.reporting.reports import render_page

    if format_ is OutputFormat.HTML:
        return render_page(compared)
    comparisons, evidence = [one.comparison for one in compared], [one.evidence for one in compared]
    return document(comparisons, format_, hypotheses=hypotheses, evidence=evidence)


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fix = "Use a file in a folder that exists and is writable."
        raise UsageError(Problem(f"--output: cannot write {output}: {error.strerror}.", fix)) from None


def _write_report(folder: "SweepFolder", compared: Sequence["ComparedEvidence"]) -> None:
    from neftune_cli.reporting.reports import write_reports

    try:
        write_reports(folder, compared)
    except OSError as error:  # results of other users may be read-only, and the tables are printed already
        typer.echo(f"Cannot write summary.md, report.html and plots to {folder.path}: {error.strerror}.", err=True)
    else:
        typer.echo(f"Wrote summary.md, report.html and plots/ to {folder.path}", err=True)
