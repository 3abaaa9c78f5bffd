"""A process that trains one trial together with rank 0, and writes nothing.

Rank 0 starts it as `python -m neftune_cli.sweeps.rank` and writes one JSON line to its stdin. When rank 0 ends, however
that happens, stdin is closed and this process ends too.
"""

import json
import os
import sys
import tempfile
import threading
from pathlib import Path

from neftune_cli.config.run_settings import Sharding, TrialSettings
from neftune_cli.config.spec import TrialSpec
from neftune_cli.training.hardware import configure_process


def main() -> None:
    """Train until rank 0 ends the training."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    configure_process()
    from neftune_cli.sweeps.model_cache import ModelCache
    from neftune_cli.training.fine_tuning import train_as_other_rank

    spec, cache = TrialSpec.model_validate(request["spec"]), ModelCache()
    sharding = Sharding(**request["sharding"]) if request["sharding"] else None
    prepared = cache.prepared_data(spec)
    with tempfile.TemporaryDirectory(prefix="neftune-") as work:
        train_as_other_rank(
            spec,
            cache.shared_model(spec),
            prepared,
            Path(work),
            settings=TrialSettings(processes=request["processes"], sharding=sharding),
            halvings=request["halvings"],
        )
    os._exit(0)  # without a barrier of the group, which rank 0 may have left


def _end_with_rank_0() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
