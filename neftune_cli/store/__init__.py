"""results/ on disk: the only package that reads or writes there; what it writes appears whole or not at all."""

from neftune_cli.store.checkpoints import KEPT_CHECKPOINTS, Checkpoint
from neftune_cli.store.files import check_writable, write_atomically, write_files
from neftune_cli.store.sweeps import MANIFEST_FILE, SWEEP_FILE, SweepFolder, find_sweeps, is_sweep, trial_label
from neftune_cli.store.trials import RECORD_FILE, ClaimedTrial, TrialFolder

__all__ = [
    "KEPT_CHECKPOINTS",
    "MANIFEST_FILE",
    "RECORD_FILE",
    "SWEEP_FILE",
    "Checkpoint",
    "ClaimedTrial",
    "SweepFolder",
    "TrialFolder",
    "check_writable",
    "find_sweeps",
    "is_sweep",
    "trial_label",
    "write_atomically",
    "write_files",
]
