"""Worker processes that are killed, crash, are asked to stop, or lose the main process, each at a given milestone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.running import RunSettings
from neftune_cli.errors import NeftuneError
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, Started, WorkerDied
from neftune_cli.sweeps.executors.inline import InlineExecutor
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.plan import make_plan, trial_folder
from neftune_cli.training.trial import Trial

SMALL = {"train_examples": 16, "eval_examples": 4, "alphas": [5.0], "seeds": [0]}
QUICK = {"evaluation": {"max_new_tokens": 4}}
WAIT_SECONDS = 180.0

STARTED = "neftune.trial-started"
RunOnce = Callable[..., None]
RUN_AT_MILESTONE = """
import os, sys

def hook(event, arguments):
    waiting = os.path.join(os.path.dirname(__file__), event + ".waiting")
    if os.path.exists(waiting):
        os.rename(waiting, waiting + ".taken")
        exec(open(waiting + ".taken").read())

sys.addaudithook(hook)
"""
"""Startup code of a worker: at each audit event, run the code that waits for this event, once."""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


@pytest.fixture(scope="module")
def milestone_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for code that workers run at milestones."""
    folder = tmp_path_factory.mktemp("milestones")
    (folder / "sitecustomize.py").write_text(RUN_AT_MILESTONE)
    return folder


@pytest.fixture
def run_once(milestone_code: Path) -> Iterator[RunOnce]:
    """Return a function that makes the next worker at a milestone run code, once."""

    def run_once_at(code: str, *, at: str = STARTED) -> None:
        (milestone_code / f"{at}.waiting").write_text(code)

    yield run_once_at
    for file in milestone_code.glob("*.waiting"):
        file.unlink()


@pytest.fixture
def new_executor(milestone_code: Path) -> Iterator[LocalExecutor]:
    """Return an executor for tests that end all workers."""
    yield from started_executor(milestone_code)


@pytest.fixture(scope="module")
def executor(milestone_code: Path) -> Iterator[LocalExecutor]:
    """Return an executor with one worker, shared because the imports of a worker take seconds."""
    yield from started_executor(milestone_code)


def started_executor(milestone_code: Path) -> Iterator[LocalExecutor]:
    with LocalExecutor({**os.environ, "PYTHONPATH": str(milestone_code)}) as started:
        started.start(1, 1, 0)
        yield started


def trials_of(sweep: SweepFolder, **train: object) -> tuple[Trial, ...]:
    """Return the trials of a plan: the base model and one training."""
    spec = resolve_sweep(None, {**SMALL, **QUICK, "train": {"max_steps": 2, **train}})
    plan = make_plan(spec, sweep, InlineExecutor().inspect)
    sweep.open(plan.spec)
    return plan.trials


def wait_for(executor: LocalExecutor, kinds: type[Event] | tuple[type[Event], ...] = (Finished, WorkerDied)) -> Event:
    """Wait for an event of one of these types, and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for event in executor.wait(1.0):
            if isinstance(event, kinds):
                return event
    raise TimeoutError


def run(executor: LocalExecutor, sweep: SweepFolder, trial: Trial, settings: RunSettings | None = None) -> Event:
    executor.submit(Job(trial, settings or RunSettings()), sweep)
    return wait_for(executor)


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_output_of_native_code_is_in_the_log_of_the_trial_only(
    executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    run_once("os.system('echo printed by another program')")
    base, _ = trials_of(sweep)
    run(executor, sweep, base)
    assert "printed by another program" in trial_folder(sweep, base).log_path.read_text()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "kind"),
    [("__import__('neftune_cli.errors').errors.TrialError", "failed"), ("MemoryError", "out-of-memory")],
)
def test_a_worker_is_replaced_after_running_out_of_memory_only(
    error: str, kind: str, executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder
) -> None:
    run_once(f"raise {error}('Out of memory.')")
    base, _ = trials_of(sweep)
    before = worker_pid(executor)
    ended = run(executor, sweep, base)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == kind
    assert (worker_pid(executor) != before) == (kind == "out-of-memory")


def worker_pid(executor: LocalExecutor) -> int:
    worker = executor._slots[0].worker
    assert worker is not None
    return worker.pid


def test_a_worker_that_dies_during_a_request_raises_and_is_replaced(executor: LocalExecutor, run_once: RunOnce) -> None:
    spec = resolve_sweep(None, {**SMALL, **QUICK})
    assert not executor.inspect(spec).problems
    run_once("os.kill(os.getpid(), 9)", at="open")
    other_data = resolve_sweep(None, {**SMALL, **QUICK, "train_examples": 12})
    with pytest.raises(NeftuneError, match=r"was killed .* during the request 'inspect'"):
        executor.inspect(other_data)
    assert not executor.inspect(other_data).problems


def test_a_killed_worker_is_reported_with_its_trial_and_replaced(
    executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder
) -> None:
    run_once("os.kill(os.getpid(), 9)")
    base, _ = trials_of(sweep)
    died = run(executor, sweep, base)
    assert isinstance(died, WorkerDied)
    assert died.trial == base
    assert died.out_of_memory
    assert "killed by the system" in died.reason
    assert not trial_folder(sweep, base).is_leased()
    assert executor.capacity() == 1
    ended = run(executor, sweep, base)
    assert isinstance(ended, Finished)
    assert ended.record is not None
    assert (status := trial_folder(sweep, base).status()) is not None
    assert (status.state, status.attempts) == (TrialState.DONE, 2)


def test_the_traceback_of_a_native_crash_is_in_the_log_of_the_trial(
    executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder
) -> None:
    run_once("import ctypes; ctypes.string_at(0)")
    base, _ = trials_of(sweep)
    died = run(executor, sweep, base)
    assert isinstance(died, WorkerDied)
    assert not died.out_of_memory
    assert "SIGSEGV" in died.reason
    assert died.last_log_line == "Fatal Python error: Segmentation fault"
    assert "string_at" in died.log_end
    assert "string_at" in trial_folder(sweep, base).log_path.read_text()


def test_workers_that_cannot_start_raise_with_the_end_of_their_log(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pydantic'] = None\n")
    broken = {**os.environ, "PYTHONPATH": str(tmp_path)}
    message = r"(?s)cannot be started: .* exit code 1\..*pydantic"
    with LocalExecutor(broken) as executor, pytest.raises(NeftuneError, match=message):
        executor.inspect(resolve_sweep(None, {**SMALL, **QUICK}))


@pytest.mark.slow
@pytest.mark.crash
def test_out_of_memory_halves_the_batch_size_on_request(
    executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder
) -> None:
    run_once("raise MemoryError('40 GiB')", at="neftune.step-logged")
    _, trial = trials_of(sweep)
    ended = run(executor, sweep, trial, RunSettings(halve_batch=True))
    assert isinstance(ended, Finished)
    assert ended.record is not None
    assert any("2 x 8" in note for note in ended.record.notes)
    assert "Out of memory (40 GiB)" in trial_folder(sweep, trial).log_path.read_text()


@pytest.mark.slow
@pytest.mark.crash
def test_a_full_disk_is_not_a_failure_of_the_trial(
    executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder
) -> None:
    run_once("raise OSError(28, 'No space left on device')", at="neftune.step-logged")
    _, trial = trials_of(sweep)
    ended = run(executor, sweep, trial)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "disk-full"
    assert (status := trial_folder(sweep, trial).status()) is not None
    assert status.state is TrialState.STOPPED


@pytest.mark.slow
@pytest.mark.crash
def test_a_stop_during_training_writes_a_checkpoint(new_executor: LocalExecutor, sweep: SweepFolder) -> None:
    executor = new_executor
    _, trial = trials_of(sweep, max_steps=500)
    executor.submit(Job(trial, RunSettings()), sweep)
    assert isinstance(wait_for(executor, Started), Started)
    while not trial_folder(sweep, trial).curve():
        time.sleep(0.05)
    executor.stop()
    ended = wait_for(executor)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "stopped"
    folder = trial_folder(sweep, trial)
    assert (status := folder.status()) is not None
    assert status.state is TrialState.STOPPED
    with folder.acquire_lease() as leased:  # type: ignore[union-attr]
        assert leased.checkpoints()[0].step >= 1


@pytest.mark.slow
@pytest.mark.crash
def test_a_worker_that_receives_sigterm_stops_its_trial_and_is_replaced(
    executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder
) -> None:
    run_once("os.kill(os.getpid(), 15)")
    base, _ = trials_of(sweep)
    ended = run(executor, sweep, base)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "stopped"
    second = run(executor, sweep, base)
    assert isinstance(second, Finished)
    assert second.record is not None


@pytest.mark.slow
@pytest.mark.crash
def test_kill_ends_the_trial_and_its_lease(new_executor: LocalExecutor, run_once: RunOnce, sweep: SweepFolder) -> None:
    executor = new_executor
    run_once("import time; time.sleep(600)")
    base, _ = trials_of(sweep)
    executor.submit(Job(base, RunSettings()), sweep)
    wait_for(executor, Started)
    assert trial_folder(sweep, base).is_leased()
    executor.kill()
    assert not trial_folder(sweep, base).is_leased()
    died = wait_for(executor)
    assert isinstance(died, WorkerDied)
    assert "on request" in died.reason


def test_a_signal_ends_wait(executor: LocalExecutor) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        started = time.monotonic()
        assert executor.wait(WAIT_SECONDS) == []
        assert time.monotonic() - started < WAIT_SECONDS / 2
    finally:
        signal.signal(signal.SIGALRM, before)


SWEEP = """
import os, sys, time
from pathlib import Path

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Finished, Job
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.plan import make_plan
from neftune_cli.config.running import RunSettings

sweep = SweepFolder(Path(sys.argv[1]))
spec = resolve_sweep(None, {spec!r})
files = lambda: len(os.listdir("/proc/self/fd"))
before = files()
with LocalExecutor() as executor:
    plan = make_plan(spec, sweep, executor.inspect)
    sweep.open(plan.spec)
    executor.prepare([trial.spec for trial in plan.trials])
    executor.start(2, 1, 0)
    workers = [slot.worker.pid for slot in executor._slots]
    print(*workers, flush=True)
    waiting = list(plan.trials)
    ended = []
    while len(ended) < len(plan.trials):
        while waiting and executor.capacity():
            executor.submit(Job(waiting.pop(0), RunSettings()), sweep)
        ended += [event for event in executor.wait(1.0) if isinstance(event, Finished)]
assert all(event.record for event in ended), ended
assert {{os.getsid(0)}}.isdisjoint(workers)
loaded = {{"torch", "transformers", "trl", "datasets", "accelerate"}} & set(sys.modules)
assert not loaded, loaded
assert files() == before, "a file descriptor is still open"
for pid in workers:
    assert not os.path.exists(f"/proc/{{pid}}"), "a worker is a zombie"
"""


def script(max_steps: int) -> list[str]:
    spec = {**SMALL, **QUICK, "train": {"max_steps": max_steps}}
    return [sys.executable, "-c", SWEEP.format(spec=spec)]


def test_the_main_process_imports_no_torch_and_leaves_no_processes_or_descriptors(tmp_path: Path) -> None:
    done = subprocess.run([*script(2), str(tmp_path / "sweep")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_of_a_killed_main_process_write_checkpoints_and_end(tmp_path: Path) -> None:
    command = [*script(5000), str(tmp_path / "sweep")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        deadline = time.monotonic() + WAIT_SECONDS
        while (
            not (logged := list(tmp_path.glob("sweep/trials/alpha=5*/metrics.jsonl"))) or not logged[0].stat().st_size
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
    assert len(workers) == 2
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    folder = next(tmp_path.glob("sweep/trials/alpha=5*"))
    assert list(folder.glob("checkpoints/step-*/index.json"))
    assert not TrialFolder(folder).is_leased()
    assert (status := TrialFolder(folder).status()) is not None
    assert status.state is TrialState.STOPPED


def test_a_keyboard_interrupt_kills_busy_workers(milestone_code: Path, run_once: RunOnce, sweep: SweepFolder) -> None:
    run_once("import time; time.sleep(600)")
    interrupted: list[float] = []

    def interrupt() -> None:
        with LocalExecutor({**os.environ, "PYTHONPATH": str(milestone_code)}) as executor:
            executor.start(1, 1, 0)
            base, _ = trials_of(sweep)
            executor.submit(Job(base, RunSettings()), sweep)
            wait_for(executor, Started)
            assert trial_folder(sweep, base).is_leased()
            interrupted.append(time.monotonic())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert time.monotonic() - interrupted[0] < 15.0  # without a kill, it waits 25 s for a checkpoint
    assert [folder.is_leased() for folder in sweep.trials()] == [False]
