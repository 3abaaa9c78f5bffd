"""Which comparisons get their report beside the trials, and what is said of the others."""

from collections.abc import Sequence
from pathlib import Path

import typer

from neftune_cli.reporting.reports import ComparedEvidence, write_reports
from neftune_cli.store import SweepFolder


def leave_reports(judged: Sequence[ComparedEvidence]) -> None:
    """Write the reports of sweeps that stand alone; what several show together, or others made, has no folder."""
    at_home: dict[str, list[ComparedEvidence]] = {}
    for one in judged:
        for path in one.evidence.folders if one.evidence.specs else ():
            at_home.setdefault(path, []).append(one)
    alone = {path for path, found in at_home.items() if all(one.evidence.folders == (path,) for one in found)}
    for path in sorted(alone):
        _write_report(SweepFolder(Path(path)), at_home[path])
    if homeless := [one.evidence.name for one in judged if not alone.issuperset(one.evidence.folders)]:
        names = ", ".join(homeless)
        typer.echo(f"No report lies beside {names}: --format html --output FILE writes one anywhere.", err=True)


def _write_report(folder: SweepFolder, judged: Sequence[ComparedEvidence]) -> None:
    try:
        write_reports(folder, judged)
    except OSError as error:  # someone else's results may be read-only, and the tables are out already
        typer.echo(f"{folder.path} got no summary.md, report.html and plots: {error.strerror}.", err=True)
    else:
        typer.echo(f"Wrote summary.md, report.html and plots/ to {folder.path}", err=True)
