"""Output of a command beside its results on stdout: lines on stderr, and a file at the path that the user names."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import typer

from neftune_cli.errors import DISK_FULL, FREE_SPACE, Problem, UsageError

RECOGNIZED_BYTES = 2**22
"""Number of bytes at the start of a file in which a document of this program is recognized."""


def say_line(line: str) -> None:
    """Print a line on stderr, which may be closed."""
    with suppress(OSError, ValueError):
        typer.echo(line, err=True)


def say_nothing(line: str) -> None:
    """Print nothing."""


@dataclass(frozen=True)
class OutputFile:
    """A file to write, named by an option. It replaces what this program wrote, nothing else."""

    option: str
    """For example `--html`."""
    path: Path
    example: str
    """Name of a file, for messages."""

    def check(self) -> None:
        """Check that the file can be written, before anything is computed.

        Raises:
            UsageError: the path is "-", a folder, in no folder, or not valid, or it has a file of another program.
        """
        with self._explained():
            if str(self.path) == "-":
                fix = f"Use the path of a file, for example {self.option} {self.example}."
                raise UsageError(Problem(f"{self._place}: this is not the name of a file.", fix))
            if self.path.is_dir():
                fix = f"Use the path of a file, for example {self.option} {self.path / self.example}."
                raise UsageError(Problem(f"{self._place}: this is a folder.", fix))
            if not self.path.parent.is_dir():
                what = f"{self._place}: there is no folder '{self.path.parent}'."
                raise UsageError(Problem(what, "Create it, or use another path."))
            if self.path.is_file() and not _is_own(self.path):  # it may be the data set or the record of a sweep
                what = f"{self._place}: the file exists, and neftune did not write it as a page or a comparison."
                raise UsageError(Problem(what, "Use another path, or delete the file."))

    def write(self, text: str) -> None:
        """Write the file, and say so.

        Raises:
            UsageError: the system refuses it.
        """
        with self._explained():
            self.path.write_text(text, encoding="utf-8")
        typer.echo(f"Wrote {self.path}", err=True)

    @property
    def _place(self) -> str:
        return f"{self.option} {self.path}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{self._place}: the file cannot be written: {error.strerror}."
            fix = FREE_SPACE if error.errno in DISK_FULL else "Use a file in a folder that is writable."
            raise UsageError(Problem(what, fix)) from error


def _is_own(file: Path) -> bool:
    """Return whether this program wrote a file, or it is empty."""
    from neftune_cli.reporting.output_formats import is_document

    with file.open("rb") as content:
        start = content.read(RECOGNIZED_BYTES)
    return not start.strip() or is_document(start.decode("utf-8", errors="replace"))
