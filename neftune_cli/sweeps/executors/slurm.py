"""The executor `slurm`: trials as jobs of a SLURM cluster, submitted with submitit; without SLURM, as processes here.

A job is found again by the list of jobs in the results folder. A command therefore collects the trials that an earlier
command has submitted, whether it was detached or killed.
"""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_cli.config.process import user_cache, with_this_package
from neftune_cli.config.slurm_settings import DEFAULT_MINUTES, SIGNAL_SECONDS, SLURM_KEYS, SlurmValue
from neftune_cli.errors import Problem, UsageError
from neftune_cli.sweeps.executors.cluster import ClusterExecutor, ClusterTask
from neftune_cli.sweeps.executors.messages import WorkerMessage
from neftune_cli.sweeps.executors.slurm_job import SlurmRequest, cancelled_mark
from neftune_cli.sweeps.inspection import ClusterSlots
from neftune_cli.sweeps.measurement_cache import machine_key
from neftune_cli.training.hardware import available_cores
from neftune_cli.training.trial_log import log_tail

if TYPE_CHECKING:
    from submitit import Job

DEFAULT_PARALLEL = 256
"""Largest number of trials in parallel if --workers does not limit it."""
MAX_REQUEUES = 1000
"""Number of times that a job may reach its time limit."""
RESULT_SECONDS = 15.0
"""Time after the end of a job in which its result may become visible on a shared disk."""
_QUEUE_SECONDS = 5.0
_COMMAND_SECONDS = 30.0
_LOST_STATES = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED")


def make_slurm_executor(
    slurm: Mapping[str, SlurmValue] | None = None, *, detach: bool = False
) -> "ClusterExecutor[SlurmJob]":
    """Return an executor whose jobs have these settings."""
    return ClusterExecutor(SlurmCluster(slurm or {}), detached=detach)


def sbatch_parameters(settings: Mapping[str, SlurmValue], *, name: str, parallel: int) -> dict[str, Any]:
    """Return the parameters of submitit for the settings of `--slurm`.

    Args:
        settings: values by key.
        name: name of the job.
        parallel: number of trials that run in parallel.
    """
    given = {key: value for key, value in settings.items() if key != "cluster"}
    passed_on = {key: value for key, value in given.items() if SLURM_KEYS[key].sbatch_only}
    return {
        "job_name": name,
        "time": DEFAULT_MINUTES,
        "signal_delay_s": SIGNAL_SECONDS,
        "array_parallelism": parallel,
        **{key: value for key, value in given.items() if key not in passed_on},
        "additional_parameters": {"requeue": True, **passed_on},
    }


class SlurmCluster:
    """Submit tasks with submitit.

    Args:
        settings: values of `--slurm` by key.
    """

    def __init__(self, settings: Mapping[str, SlurmValue]) -> None:
        self._settings = dict(settings)
        self._is_local = settings.get("cluster") == "local"
        self.queues = not self._is_local
        self.poll_seconds = 0.2 if self._is_local else 1.0
        self._threads = int(settings.get("cpus_per_task", 1))
        self._parallel = DEFAULT_PARALLEL
        self._queue = _Queue()

    @property
    def node_key(self) -> dict[str, Any]:
        """Return the kind of node and the versions of the libraries."""
        kind = {key: value for key, value in self._settings.items() if key in _KIND_OF_NODE}
        here = machine_key() if self._is_local else {"versions": machine_key()["versions"]}
        return {"executor": "slurm", "settings": kind, **here}

    def slots(self) -> ClusterSlots:
        """Return the trials in parallel.

        Raises:
            UsageError: there is no SLURM.
        """
        if self._is_local:
            return ClusterSlots(max(1, available_cores() // self._threads), self._threads)
        for command in ("sbatch", "squeue", "scancel", "srun"):
            if shutil.which(command) is None:
                what = f"--executor slurm: the command {command} was not found."
                fix = "Run this command on a login node of the cluster, or try it here with --slurm cluster=local."
                raise UsageError(Problem(what, fix))
        return ClusterSlots(self._parallel, self._threads)

    def limit(self, workers: int) -> None:
        """Limit the trials of a job array that run in parallel."""
        self._parallel = workers

    def submit(self, tasks: Sequence[ClusterTask]) -> Sequence["SlurmJob"]:
        """Submit tasks as one job array, except those that run already.

        Raises:
            UsageError: sbatch refuses the jobs.
        """
        adopted = {index: job for index, task in enumerate(tasks) if (job := self._adopted(task))}
        rest = [index for index in range(len(tasks)) if index not in adopted]
        new = dict(zip(rest, self._submit([tasks[index] for index in rest]), strict=True)) if rest else {}
        return [(adopted | new)[index] for index in range(len(tasks))]

    def cancel(self, tasks: Sequence["SlurmJob"], *, at_once: bool) -> None:
        """Cancel jobs. SLURM ends each one after the time `KillWait`, in which its trial writes a checkpoint."""
        active = [one for one in tasks if one.result() is None]
        for one in active:
            one.mark_cancelled()
        ids = [one.job.job_id for one in active]
        if self._is_local:
            for process in ids:
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGTERM)
        elif ids:
            for options in [["--signal=KILL"], []] if at_once else [[]]:
                _answer_of("scancel", *options, *ids)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _submit(self, tasks: Sequence[ClusterTask]) -> list["SlurmJob"]:
        sweep = tasks[0].folder
        folder = sweep.new_job_folder() if sweep else user_cache() / "slurm" / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True, exist_ok=True)
        executor = self._executor(folder, f"neftune-{sweep.name if sweep else tasks[0].name}")
        requests = [SlurmRequest(task.request, task.threads, str(folder)) for task in tasks]
        # submitit calls `checkpoint` of the submitted function only, so the request itself must be that function.
        # `map_array` would submit one function for all requests.
        with _submission_errors(), _package_found_by_jobs(), executor.batch():
            jobs = [executor.submit(request) for request in requests]
        if sweep:
            ids = {task.trial.id: job.job_id for task, job in zip(tasks, jobs, strict=True) if task.trial}
            sweep.write_jobs(folder, ids)
        self._queue.forget()
        return [self._job(job, folder, submitted=time.monotonic()) for job in jobs]

    def _executor(self, folder: Path, name: str) -> Any:
        import submitit

        parameters = sbatch_parameters(self._settings, name=name, parallel=self._parallel)
        if self._is_local:
            local = submitit.LocalExecutor(folder, max_num_timeout=MAX_REQUEUES)
            gpus = {"gpus_per_node": parameters["gpus_per_node"]} if "gpus_per_node" in parameters else {}
            local.update_parameters(timeout_min=parameters["time"], signal_delay_s=parameters["signal_delay_s"], **gpus)
            return local
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=MAX_REQUEUES)
        slurm.update_parameters(**parameters)
        return slurm

    def _adopted(self, task: ClusterTask) -> "SlurmJob | None":
        """Return the job of an earlier command that waits or runs, or None."""
        if task.folder is None or task.trial is None:
            return None
        for folder, jobs in task.folder.jobs():
            if (job_id := jobs.get(task.trial.id)) is not None:
                found = self._job(self._known_job(folder, job_id), folder)
                return found if found.is_active() and not found.has_result() else None
        return None

    def _known_job(self, folder: Path, job_id: str) -> "Job[WorkerMessage]":
        import submitit

        return submitit.LocalJob(folder, job_id) if self._is_local else submitit.SlurmJob(folder, job_id)

    def _job(self, job: "Job[WorkerMessage]", folder: Path, submitted: float = float("-inf")) -> "SlurmJob":
        return SlurmJob(job, folder, None if self._is_local else self._queue, submitted)


_KIND_OF_NODE = "cluster partition gres gpus_per_node constraint nodelist exclude account qos reservation".split()
"""Keys that determine the nodes on which a job runs."""


@dataclass
class SlurmJob:
    """A job, seen through its files and, unless it is a process of this machine, through squeue."""

    job: "Job[WorkerMessage]"
    folder: Path
    queue: "_Queue | None"
    submitted: float
    """Time of the submission; before all times of this process if an earlier command submitted the job."""
    _gone_since: float = field(default=0.0, init=False)
    _answer: WorkerMessage | None = field(default=None, init=False)

    def has_result(self) -> bool:
        """Return whether the job has written its result."""
        with suppress(OSError):  # while a network drive does not answer, there is no result
            os.scandir(self.folder).close()  # makes the drive look again
            return bool(self.job.paths.result_pickle.exists())
        return False

    def is_active(self) -> bool:
        """Return whether the job waits or runs."""
        if self.queue is None:
            return _is_running(self.job)
        return self.queue.is_active(self.job.job_id, self.submitted)

    def result(self) -> WorkerMessage | None:
        """Return the answer, or None while the job waits or runs."""
        if self._answer is None:
            self._answer = self._read() if self.has_result() else self._lost()
        return self._answer

    def mark_cancelled(self) -> None:
        """Tell the job that a coming SIGTERM is the end of its sweep, and no preemption."""
        with suppress(OSError):  # the results folder may be gone, or its disk full
            cancelled_mark(self.folder, self.job.job_id).touch()

    def _read(self) -> WorkerMessage:
        try:
            answer: WorkerMessage = self.job.result()
        except Exception as error:  # submitit raises the error of the job
            reason = f"failed in job {self.job.job_id}"
            return {"event": "died", "reason": reason, "log_end": str(error), **self._log()}
        return answer

    def _log(self) -> WorkerMessage:
        """Return the place of the log, for a job that has started."""
        path = self.job.paths.stderr
        with suppress(OSError):
            return {"log": str(path)} if path.exists() else {}
        return {}

    def _lost(self) -> WorkerMessage | None:
        if self.is_active():
            self._gone_since = 0.0
            return None
        self._gone_since = self._gone_since or time.monotonic()
        if self.queue and time.monotonic() - self._gone_since < RESULT_SECONDS:
            return None
        state = self.queue.last_state(self.job.job_id) if self.queue else ""
        reason = f"of job {self.job.job_id} ended without a result{f' ({state})' if state else ''}"
        return {
            "event": "died",
            "reason": reason,
            "log_end": log_tail(self.job.paths.stderr),
            **self._log(),
            "out_of_memory": state == "OUT_OF_MEMORY",
            "machine_lost": state in _LOST_STATES,
        }


class _Queue:
    """The states of the jobs of this user, asked for at most every few seconds and for all jobs at once."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._asked = self._answered = float("-inf")

    def is_active(self, job_id: str, submitted: float) -> bool:
        """Return whether a job is in the queue, as it is until an answer of squeue after its submission lacks it.

        If squeue does not answer, the last answer counts.
        """
        if time.monotonic() - self._asked > _QUEUE_SECONDS:
            self._ask()
        return self._answered <= submitted or job_id in self._states

    def last_state(self, job_id: str) -> str:
        """Return the state in which a job ended, or an empty string if SLURM keeps no account."""
        found = _answer_of("sacct", "--noheader", "--allocations", "--format=State", "--parsable2", f"--jobs={job_id}")
        return found.split()[0] if found and found.split() else ""

    def _ask(self) -> None:
        begin = time.monotonic()
        found = _answer_of("squeue", "--me", "--array", "--noheader", "--format=%i %T")
        self._asked = time.monotonic()
        if found is not None:
            self._states = dict(line.split(maxsplit=1) for line in found.splitlines() if " " in line.strip())
            self._answered = begin

    def forget(self) -> None:
        """Ask again at the next call."""
        self._asked = float("-inf")


def _answer_of(*command: str) -> str | None:
    """Return the output of a command of SLURM; None if it fails or does not end in time."""
    try:
        found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout if found.returncode == 0 else None


def _is_running(job: "Job[WorkerMessage]") -> bool:
    """Return whether the process of a local job runs."""
    import psutil

    process = getattr(job, "_process", None)
    if process is not None:
        return process.poll() is None
    with suppress(psutil.Error, ValueError):
        found = psutil.Process(int(job.job_id))
        return found.status() != psutil.STATUS_ZOMBIE and any("submitit" in part for part in found.cmdline())
    return False


@contextmanager
def _package_found_by_jobs() -> Iterator[None]:
    """Let jobs that are submitted in the context find this package. They inherit the environment of this process."""
    before = os.environ.get("PYTHONPATH")
    os.environ.update(with_this_package(os.environ))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _submission_errors() -> Iterator[None]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        yield
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
        reason = lines[-1].removeprefix("sbatch: error: ").rstrip(".")
        raise UsageError(Problem(f"sbatch refused the job: {reason}.", "Correct the --slurm settings.")) from error
