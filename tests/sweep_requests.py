"""Builder of requests for sweeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neftune_cli.commands.request import SweepRequest
from neftune_cli.config.run_settings import SweepSettings


def request_for(
    output: Path,
    fields: Mapping[str, Any],
    *,
    file: Path | None = None,
    settings: SweepSettings | None = None,
    pause_at: int | None = None,
) -> SweepRequest:
    """Return a request for a sweep in a folder."""
    return SweepRequest(file, fields, output, settings or SweepSettings(), pause_at)
