"""Results on disk: the only package that reads or writes result folders. All writes are atomic."""

from neftune_cli.store.checkpoints import KEPT_CHECKPOINTS, Checkpoint
from neftune_cli.store.files import check_writable, write_atomically, write_files
from neftune_cli.store.sweeps import MANIFEST_FILE, SWEEP_FILE, SweepFolder, find_sweeps, is_sweep, trial_label
from neftune_cli.store.trials import RECORD_FILE, LeasedTrial, TrialFolder

__all__ = [
    "KEPT_CHECKPOINTS",
    "MANIFEST_FILE",
    "RECORD_FILE",
    "SWEEP_FILE",
    "Checkpoint",
    "LeasedTrial",
    "SweepFolder",
    "TrialFolder",
    "check_writable",
    "find_sweeps",
    "is_sweep",
    "trial_label",
    "write_atomically",
    "write_files",
]
