"""What `neftune compare` does: gather, judge, and print or write what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from neftune_cli.analysis.aligned import DEFAULT_CHOICES, Choices
from neftune_cli.commands.leaving_reports import leave_reports
from neftune_cli.commands.options.margins import parse_margins
from neftune_cli.commands.printing import print_tables
from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.gathering import gather
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.reporting.documents import OutputFormat, document
from neftune_cli.reporting.reports import ComparedEvidence, compare_all, render_page


@dataclass(frozen=True)
class Request:
    """What a user wants compared, and how, as typed."""

    paths: tuple[Path, ...]
    baseline: str | None
    metric: str | None
    margins: tuple[str, ...]
    confidence: float
    hypotheses: bool


def compare_and_report(request: Request, format_: OutputFormat, output: Path | None) -> None:
    """Compare what is there; as tables with nothing chosen, leave the report beside the trials as well.

    Raises:
        UsageError: a path, an option or a file is wrong.
        NothingToCompareError: no trained trial has finished.
    """
    _check_confidence(request.confidence)
    evidence = gather(request.paths)
    margins = parse_margins(request.margins, _measured(evidence))
    choices = Choices(request.baseline, request.metric, request.confidence, margins)
    judged, empty = compare_all(evidence, choices)
    for message in empty:
        typer.echo(message, err=True)
    if output is not None:
        _write(output, _text(judged, format_, hypotheses=request.hypotheses))
        typer.echo(f"Wrote {output}", err=True)
    elif format_ is OutputFormat.TABLE:
        print_tables([one.comparison for one in judged], hypotheses=request.hypotheses)
    else:
        typer.echo(_text(judged, format_, hypotheses=request.hypotheses), nl=False)
    if format_ is OutputFormat.TABLE and choices == DEFAULT_CHOICES:
        leave_reports(judged)


def _check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        what = f"--confidence {confidence:g} is no confidence level."
        raise UsageError(Problem(what, "Give a number from 0.5 up to, but not, 1, like 0.95."))


def _measured(evidence: Sequence[Evidence]) -> list[str]:
    return list(dict.fromkeys(key for one in evidence for key in one.metrics))


def _text(judged: Sequence[ComparedEvidence], format_: OutputFormat, *, hypotheses: bool) -> str:
    if format_ is OutputFormat.HTML:
        return render_page(judged)
    return document([one.comparison for one in judged], format_, hypotheses=hypotheses)


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fix = "Name a file in a folder that exists and that you can write to."
        raise UsageError(Problem(f"--output {output} can't be written: {error.strerror}.", fix)) from None
