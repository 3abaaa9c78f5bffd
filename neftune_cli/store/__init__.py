"""Results on disk: the files of sweeps and trials, their leases and their checkpoints.

Records, states, tables and checkpoints are written atomically. Logs and metrics are appended.
"""

from neftune_cli.store.checkpoints import KEPT_CHECKPOINTS, Checkpoint
from neftune_cli.store.files import check_writable, write_atomically, write_files
from neftune_cli.store.sweeps import (
    LABEL_LENGTH,
    MANIFEST_FILE,
    REPORT_FILE,
    RESULTS,
    SUMMARY_FILE,
    SWEEP_FILE,
    SweepFolder,
    finished_in_another_sweep,
    folder_label,
    is_sweep,
)
from neftune_cli.store.tables import EVAL_FILE, LOSS_FILE
from neftune_cli.store.trials import (
    RECORD_FILE,
    TASK_DOCUMENTS_FILE,
    TASK_SCORES_FILE,
    LeasedTrial,
    TrialFolder,
)

__all__ = [
    "EVAL_FILE",
    "KEPT_CHECKPOINTS",
    "LABEL_LENGTH",
    "LOSS_FILE",
    "MANIFEST_FILE",
    "RECORD_FILE",
    "REPORT_FILE",
    "RESULTS",
    "SUMMARY_FILE",
    "SWEEP_FILE",
    "TASK_DOCUMENTS_FILE",
    "TASK_SCORES_FILE",
    "Checkpoint",
    "LeasedTrial",
    "SweepFolder",
    "TrialFolder",
    "check_writable",
    "finished_in_another_sweep",
    "folder_label",
    "is_sweep",
    "write_atomically",
    "write_files",
]
