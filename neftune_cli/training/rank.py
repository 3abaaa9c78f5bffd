"""A process that trains one trial together with rank 0, and writes nothing.

Rank 0 starts it as `python -m neftune_cli.training.rank` and writes a `RankRequest` to its stdin. When rank 0 ends,
however that happens, stdin is closed and this process ends too.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path

from neftune_cli.training.data_parallel import RankRequest
from neftune_cli.training.hardware import configure_process


def main() -> None:
    """Train until rank 0 ends the training."""
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    configure_process()
    from neftune_cli.training.fine_tuning import train_as_other_rank
    from neftune_cli.training.model_cache import ModelCache

    request, cache = RankRequest.from_json(line), ModelCache()
    prepared = cache.prepared_data(request.spec)
    with tempfile.TemporaryDirectory(prefix="neftune-") as work:
        train_as_other_rank(
            request.spec,
            cache.shared_model(request.spec),  # not a copy: this process trains one trial and ends
            prepared,
            Path(work),
            settings=request.settings,
            halvings=request.halvings,
        )
    os._exit(0)  # without a barrier of the group, which rank 0 may have left


def _end_with_rank_0() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
