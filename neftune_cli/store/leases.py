"""Claims: which process may write to a trial. One that dies or falls silent loses its claim; nobody has to clear it.

Claims are numbered, and the highest number holds. Whoever takes a trial over creates the next number, which of several
processes exactly one can do, and never touches the file of another: so no process can undo what a later one did. On one
machine a lock tells at once that a claim's process has died; from another machine, or if it hangs, its silence does, by
the observer's own clock.
"""

import os
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from neftune_cli.errors import LeaseLost
from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.store.files import link, pretty, read_record, sync_folder
from neftune_cli.store.locks import is_locked, is_name_of, machine, open_temporary

BEATS_A_LEASE = 6
"""Signs of life within the time after which their absence counts as death."""


class Claim(Record):
    """The content of a claim."""

    schema_version: int = SCHEMA_VERSION
    host: str
    machine: str
    """Machine and boot, on which locks of the file system tell who is alive."""
    process: int
    lease_seconds: float


class Silence:
    """Remembers since when, by this process's clock, each claim has given no sign of life."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    def lasts(self, path: Path, seconds: float) -> bool:
        """Return whether a claim has given no sign of life for so long; the first look only begins to count."""
        try:
            seen = path.stat()
        except OSError as error:
            return isinstance(error, FileNotFoundError)
        key = (str(path), seen.st_ino)
        beat, since = self._seen.get(key, (None, 0.0))
        if beat != seen.st_mtime_ns:
            since = time.monotonic()
            self._seen[key] = (seen.st_mtime_ns, since)
        return time.monotonic() - since > seconds


class HeldClaim:
    """A claim that this process holds and gives signs of life for, until it is released."""

    def __init__(self, path: Path, file: int, lease_seconds: float) -> None:
        self._path, self._file = path, file
        self._released = threading.Event()
        self._beat = threading.Thread(target=self._give_signs, args=(lease_seconds / BEATS_A_LEASE,), daemon=True)
        self._beat.start()

    def check(self) -> None:
        """See that the claim still holds.

        Raises:
            LeaseLost: another process has taken the trial over, or the claim was removed.
        """
        if not is_name_of(self._path, self._file) or _newest(self._path.parent) != self._path:
            raise LeaseLost(f"Another process has taken over {self._path.parent}, as this one was silent for too long.")

    def release(self) -> None:
        """Give the claim back, with those that earlier holders left; calling it again does nothing."""
        if self._released.is_set():
            return
        self._released.set()
        self._beat.join()
        try:
            self.check()
            for number, path in sorted(_numbered(self._path.parent)):  # the own one last
                if number <= _number(self._path):
                    path.unlink(missing_ok=True)
        except LeaseLost:
            pass
        finally:
            os.close(self._file)

    def _give_signs(self, seconds: float) -> None:
        while not self._released.wait(seconds):
            with suppress(OSError):
                os.utime(self._file)


def take_claim(folder: Path, *, lease_seconds: float, silence: Silence) -> HeldClaim | None:
    """Return a claim on a trial's folder, None while another process holds one."""
    newest = _newest(folder)
    if newest is not None and is_alive(newest, silence):
        return None
    number = 1 + (_number(newest) if newest else 0)
    path = folder / f"claim-{number}.json"
    temporary, file = open_temporary(path)
    try:
        os.write(file, _content(lease_seconds).encode())
        os.fsync(file)
        sys.audit("neftune.claim-written", str(path))
        link(temporary, path)
    except BaseException as error:
        os.close(file)
        temporary.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            return None
        raise
    temporary.unlink(missing_ok=True)
    sync_folder(folder)
    sys.audit("neftune.claim-taken", str(path))
    return HeldClaim(path, file, lease_seconds)


def holder(folder: Path, silence: Silence) -> Claim | None:
    """Return the claim that a living process holds on a trial's folder, None if none does."""
    newest = _newest(folder)
    return read_record(newest, Claim) if newest and is_alive(newest, silence) else None


def is_alive(path: Path, silence: Silence) -> bool:
    """Return whether the process that holds a claim lives; one that makes no sense is nobody's.

    One that can't be looked at, because of missing rights or a network that is down, is taken for somebody's.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    claim = read_record(path, Claim)
    if claim is None or (claim.machine == machine() and not is_locked(path)):
        return False
    return not silence.lasts(path, claim.lease_seconds)


def _content(lease_seconds: float) -> str:
    claim = Claim(host=socket.gethostname(), machine=machine(), process=os.getpid(), lease_seconds=lease_seconds)
    return pretty(claim.model_dump())


def _newest(folder: Path) -> Path | None:
    return max(_numbered(folder), default=(0, None))[1]


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    return [(_number(path), path) for path in folder.glob("claim-*.json") if _NAME.fullmatch(path.name)]


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("claim-"))


_NAME = re.compile(r"claim-\d+\.json")
