"""`neftune compare`: verdict, tables, report or export of finished sweeps."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands.output import OutputFile, say_line
from neftune_cli.errors import DISK_FULL, FREE_SPACE, ExitCode, NothingToCompareError, Problem, Problems
from neftune_cli.reporting.output_formats import FORMATS_BY_SUFFIX, OutputFormat, ScreenOptions, document

if TYPE_CHECKING:
    from neftune_cli.analysis.comparison import ComparedEvidence


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
        bool,
        typer.Option(
            "--hypotheses", help="Show the claims of the paper, and two further hypotheses, with the evidence for each."
        ),
    ] = False,
    format_: Annotated[OutputFormat, typer.Option("--format", help="Output format.")] = OutputFormat.TABLE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Output file (default: the terminal).")] = None,
) -> None:
    """Compare the finished trials of sweeps, paired by seed and example: print the decision, and write a report."""
    from neftune_cli.analysis.comparison import compare_all
    from neftune_cli.analysis.options import DEFAULT_OPTIONS, ComparisonOptions, check_confidence, parse_margins
    from neftune_cli.evidence.gathering import gather, measured_metrics

    problems = Problems()
    problems.attempt(lambda: check_confidence(confidence))
    problems.add(_problems_of_format(format_, {"--full": full, "--hypotheses": hypotheses}))
    file = OutputFile("--output", output, "comparison.txt") if output else None
    if file:
        problems.attempt(file.check)
        problems.add(_problems_of_suffix(file.path, format_))
    evidence = problems.attempt(
        lambda: gather(paths, metric=metric, judge_results=judge_results, cluster_by=cluster_by, say=say_line)
    )
    margins = problems.attempt(lambda: parse_margins(margin or (), measured_metrics(evidence) if evidence else None))
    if problems.found and evidence:
        with suppress(NothingToCompareError):  # baseline and metric may have problems, too
            problems.attempt(lambda: compare_all(evidence, ComparisonOptions(baseline, metric)))
    problems.raise_any()
    options = ComparisonOptions(baseline, metric, confidence, margins or {})
    compared, empty = compare_all(evidence or (), options)
    for message in empty:
        say_line(message)
    writes_reports = format_ is OutputFormat.TABLE and options == DEFAULT_OPTIONS and judge_results is None
    reports = _write_reports(compared) if writes_reports else _Reports()
    if format_ is OutputFormat.TABLE:
        _print_compared(compared, file, ScreenOptions(full=full, hypotheses=hypotheses, reported=reports.folders))
    elif file is None:
        typer.echo(document(compared, format_), nl=False)
    else:
        file.write(document(compared, format_))
    for line in reports.lines:
        say_line(line)
    if reports.has_failed:
        raise typer.Exit(ExitCode.FAILED)


_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers of a folder that may not be written, as the results of other users. Comparing it is no failure."""


@dataclass
class _Reports:
    """Reports that were written, and those that were not."""

    folders: set[str] = field(default_factory=set)
    """Paths of the sweeps whose report was written."""
    lines: list[str] = field(default_factory=list)
    """Lines for the user, one for each report that was written or not."""
    has_failed: bool = False
    """Whether a report could not be written for another reason than a read-only folder."""


def _problems_of_suffix(path: Path, format_: OutputFormat) -> Iterator[Problem]:
    """Yield a problem for the table of the terminal in a file whose suffix announces another format."""
    meant = FORMATS_BY_SUFFIX.get(path.suffix.lower())
    if format_ is OutputFormat.TABLE and meant:
        what = f"--output {path}: without --format, the file would contain the table as the terminal shows it."
        yield Problem(what, f"Add --format {meant}, or use the suffix .txt.")


def _problems_of_format(format_: OutputFormat, shown: Mapping[str, bool]) -> Iterator[Problem]:
    """Yield a problem for each option on the printed tables if the format does not print them."""
    for option, is_given in shown.items():
        if is_given and format_ is not OutputFormat.TABLE:
            yield Problem(
                f"{option} has no effect with --format {format_}.", f"Remove {option}, or --format {format_}."
            )


def _write_reports(compared: Sequence["ComparedEvidence"]) -> _Reports:
    """Write the report of each sweep that is compared alone into its folder.

    A comparison of several sweeps, or of runs of other tools, belongs to no single folder.
    """
    from neftune_cli.reporting.reports import write_reports
    from neftune_cli.store import SweepFolder

    alone, reports = _compared_alone(compared), _Reports()
    for path in sorted(alone):
        folder = SweepFolder(Path(path))
        try:
            write_reports(folder, [one for one in compared if one.evidence.origin.folders == (path,)])
        except OSError as error:
            fix = FREE_SPACE if error.errno in DISK_FULL else "Use --format html --output FILE to write one elsewhere."
            what = f"Cannot write summary.md, report.html and plots to {folder.path}: {error.strerror or error}."
            reports.lines.append(f"{what} {fix}")
            reports.has_failed |= error.errno not in _READ_ONLY
        else:
            reports.lines.append(f"Wrote summary.md, report.html and plots/ to {folder.path}")
            reports.folders.add(path)
    if others := [one.evidence.name for one in compared if not alone.issuperset(one.evidence.origin.folders)]:
        names = ", ".join(others)
        reports.lines.append(f"{names}: no report was written. Use --format html --output FILE to write one.")
    return reports


def _compared_alone(compared: Sequence["ComparedEvidence"]) -> set[str]:
    """Return the folders of sweeps of which no trial is compared with another folder's."""
    sweeps = [one.evidence.origin.folders for one in compared if one.evidence.origin.is_sweep]
    together = {path for folders in sweeps for path in folders if len(folders) > 1}
    return {path for folders in sweeps for path in folders} - together


def _print_compared(compared: Sequence["ComparedEvidence"], file: OutputFile | None, options: ScreenOptions) -> None:
    """Print the first screen of each comparison, or write it into a file."""
    from neftune_cli.commands.printed_results import print_screens, screens

    comparisons = [one.comparison for one in compared]
    if file is None:
        print_screens(comparisons, options)
    else:
        file.write(screens(comparisons, options))
