"""Worker processes that are killed, crash, are asked to stop, or lose the main process, each at a given milestone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.errors import NeftuneError
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, Started, WorkerDied, worker_handle
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.plan import make_plan, trial_folder
from neftune_cli.training.trial import Trial
from tests.crash.forked_workers import forked_workers
from tests.crash.forks import Forks

SMALL = {"train_examples": 16, "eval_examples": 4, "alphas": [5.0], "seeds": [0]}
QUICK = {"evaluation": {"max_new_tokens": 4}}
WAIT_SECONDS = 60.0

RUN_AT_MILESTONE = """
import os, sys

def hook(event, arguments):
    if event == "{milestone}" and "{argument}" in str(arguments) and not os.path.exists("{once}"):
        open("{once}", "w").close()
        {code}

sys.addaudithook(hook)
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


@pytest.fixture
def forked(forks: Forks) -> Iterator[None]:
    """Fork the workers from a process with all imports, where the system allows it."""
    with forked_workers(forks) if sys.platform == "linux" else nullcontext():
        yield


@pytest.fixture
def worker_with(forked: None, tmp_path: Path) -> Iterator[Callable[..., LocalExecutor]]:
    """Return a function that makes an executor whose worker runs code once, at a milestone."""
    made: list[LocalExecutor] = []

    def make(code: str = "pass", *, at: str = "neftune.trial-started", argument: str = "") -> LocalExecutor:
        text = RUN_AT_MILESTONE.format(milestone=at, argument=argument, once=tmp_path / "once", code=code)
        (tmp_path / "sitecustomize.py").write_text(text)
        executor = LocalExecutor({**os.environ, "PYTHONPATH": str(tmp_path)})
        made.append(executor)
        executor.__enter__()
        executor.start(1, 1, 0)
        return executor

    yield make
    for executor in made:
        executor.__exit__(None, None, None)


def trials_of(executor: LocalExecutor, sweep: SweepFolder, **train: object) -> tuple[Trial, ...]:
    """Return the trials of a plan: the base model and one training."""
    spec = resolve_sweep(None, {**SMALL, **QUICK, "train": {"max_steps": 2, **train}})
    plan = make_plan(spec, sweep, executor.inspect)
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


def run(executor: LocalExecutor, sweep: SweepFolder, trial: Trial, settings: TrialSettings | None = None) -> Event:
    executor.submit(Job(trial, settings or TrialSettings()), sweep)
    return wait_for(executor)


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_the_system_cannot_start_is_an_error_of_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_handle, "COMMAND", ("/missing/python",))
    message = r"cannot start a worker process \(No such file or directory\)\. Use fewer --workers"
    with LocalExecutor() as executor, pytest.raises(NeftuneError, match=message):
        executor.start(1, 1, 0)


def test_a_killed_worker_is_reported_with_its_trial_and_replaced(
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with("os.kill(os.getpid(), 9)")
    base, _ = trials_of(executor, sweep)
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
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with("import ctypes; ctypes.string_at(0)")
    base, _ = trials_of(executor, sweep)
    died = run(executor, sweep, base)
    assert isinstance(died, WorkerDied)
    assert not died.out_of_memory
    assert "SIGSEGV" in died.reason
    assert died.last_log_line == "Fatal Python error: Segmentation fault"
    assert "string_at" in died.log_end
    assert "string_at" in trial_folder(sweep, base).log_path.read_text()


def test_output_of_native_code_is_in_the_log_of_the_trial_only(
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = worker_with("os.system('echo printed by another program')")
    base, _ = trials_of(executor, sweep)
    run(executor, sweep, base)
    assert "printed by another program" in trial_folder(sweep, base).log_path.read_text()
    assert capfd.readouterr() == ("", "")


def test_workers_that_cannot_start_raise_with_the_end_of_their_log(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pydantic'] = None\n")
    broken = {**os.environ, "PYTHONPATH": str(tmp_path)}
    message = r"(?s)cannot be started: .* exit code 1\..*pydantic"
    with LocalExecutor(broken) as executor, pytest.raises(NeftuneError, match=message):
        executor.inspect(resolve_sweep(None, {**SMALL, **QUICK}))


def test_a_worker_that_dies_during_a_request_raises_and_is_replaced(
    worker_with: Callable[..., LocalExecutor],
) -> None:
    executor = worker_with("os.kill(os.getpid(), 9)", at="open", argument="/embedded/tiny/")
    with pytest.raises(NeftuneError, match=r"was killed .* during the request 'inspect'"):
        executor.inspect(resolve_sweep(None, {**SMALL, **QUICK}))
    assert not executor.inspect(resolve_sweep(None, {**SMALL, **QUICK})).problems


@pytest.mark.slow
@pytest.mark.crash
def test_out_of_memory_halves_the_batch_size_on_request(
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with("raise MemoryError('40 GiB')", at="neftune.step-logged")
    _, trial = trials_of(executor, sweep)
    ended = run(executor, sweep, trial, TrialSettings(halve_batch=True))
    assert isinstance(ended, Finished)
    assert ended.record is not None
    assert any("2 x 8" in note for note in ended.record.notes)
    assert "Out of memory (40 GiB)" in trial_folder(sweep, trial).log_path.read_text()


@pytest.mark.parametrize(
    ("error", "kind"),
    [("MemoryError", "out-of-memory"), ("__import__('neftune_cli.errors').errors.TrialError", "failed")],
)
def test_a_worker_is_replaced_after_running_out_of_memory_only(
    error: str, kind: str, worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with(f"raise {error}('Out of memory.')")
    base, _ = trials_of(executor, sweep)
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


@pytest.mark.slow
@pytest.mark.crash
def test_a_full_disk_is_not_a_failure_of_the_trial(
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with("raise OSError(28, 'No space left on device')", at="neftune.step-logged")
    _, trial = trials_of(executor, sweep)
    ended = run(executor, sweep, trial)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "disk-full"
    assert (status := trial_folder(sweep, trial).status()) is not None
    assert status.state is TrialState.STOPPED


@pytest.mark.slow
@pytest.mark.crash
def test_a_stop_during_training_writes_a_checkpoint(
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with()
    _, trial = trials_of(executor, sweep, max_steps=500)
    executor.submit(Job(trial, TrialSettings()), sweep)
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
    with folder.acquire_lease(lease_seconds=120) as leased:  # type: ignore[union-attr]
        assert leased.intact_checkpoints()[0].step >= 1


@pytest.mark.slow
@pytest.mark.crash
def test_a_worker_that_receives_sigterm_stops_its_trial_and_is_replaced(
    worker_with: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_with("os.kill(os.getpid(), 15)")
    base, _ = trials_of(executor, sweep)
    ended = run(executor, sweep, base)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "stopped"
    second = run(executor, sweep, base)
    assert isinstance(second, Finished)
    assert second.record is not None


def test_kill_ends_the_trial_and_its_lease(worker_with: Callable[..., LocalExecutor], sweep: SweepFolder) -> None:
    executor = worker_with("import time; time.sleep(600)")
    base, _ = trials_of(executor, sweep)
    executor.submit(Job(base, TrialSettings()), sweep)
    wait_for(executor, Started)
    assert trial_folder(sweep, base).is_leased()
    executor._kill_all()
    assert not trial_folder(sweep, base).is_leased()
    died = wait_for(executor)
    assert isinstance(died, WorkerDied)
    assert "on request" in died.reason


def test_a_signal_ends_wait(worker_with: Callable[..., LocalExecutor]) -> None:
    executor = worker_with()
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
from neftune_cli.config.run_settings import TrialSettings

sweep = SweepFolder(Path(sys.argv[1]))
spec = resolve_sweep(None, {spec!r})
files = lambda: len(os.listdir("/proc/self/fd"))
before = files()
with LocalExecutor() as executor:
    plan = make_plan(spec, sweep, executor.inspect)
    sweep.open(plan.spec)
    executor.prepare([trial.spec for trial in plan.trials])
    executor.start({workers}, 1, 0)
    workers = [slot.worker.pid for slot in executor._slots]
    print(*workers, flush=True)
    waiting = list(plan.trials)
    ended = []
    while len(ended) < len(plan.trials):
        while waiting and executor.capacity():
            executor.submit(Job(waiting.pop(0), TrialSettings()), sweep)
        ended += [event for event in executor.wait(1.0) if isinstance(event, Finished)]
assert all(event.record for event in ended), ended
assert {{os.getsid(0)}}.isdisjoint(workers)
loaded = {{"torch", "transformers", "trl", "datasets", "accelerate"}} & set(sys.modules)
assert not loaded, loaded
assert files() == before, "a file descriptor is still open"
for pid in workers:
    assert not os.path.exists(f"/proc/{{pid}}"), "a worker is a zombie"
"""


def script(max_steps: int, workers: int = 2) -> list[str]:
    spec = {**SMALL, **QUICK, "train": {"max_steps": max_steps}}
    return [sys.executable, "-c", SWEEP.format(spec=spec, workers=workers)]


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("workers", [1, 2])
def test_the_main_process_imports_no_torch_and_leaves_no_processes_or_descriptors(workers: int, tmp_path: Path) -> None:
    done = subprocess.run([*script(2, workers), str(tmp_path / "sweep")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.usefixtures("forked")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_an_executor_leaves_no_processes_or_descriptors(sweep: SweepFolder) -> None:
    before = open_descriptors()
    with LocalExecutor() as executor:
        base, _ = trials_of(executor, sweep)
        executor.start(2, 1, 0)
        workers = [slot.worker.pid for slot in executor._slots if slot.worker]
        assert isinstance(ended := run(executor, sweep, base), Finished)
        assert ended.record is not None
        assert {os.getsid(0)}.isdisjoint(workers)
    assert open_descriptors() == before
    assert len(workers) == 2
    for pid in workers:
        with pytest.raises(ChildProcessError):  # neither a running child nor a zombie
            os.waitpid(pid, os.WNOHANG)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208


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


@pytest.mark.usefixtures("forked")
def test_expected_workers_start_during_the_inspection(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.sweeps.executors.local.available_cores", lambda: 3)
    with LocalExecutor(workers=5) as executor:
        base, *_ = trials_of(executor, sweep)
        first = pids(executor)
        assert len(first) == 2  # the plan has two trials
        executor.start(2, 1, 0)
        assert pids(executor) == first
        executor.start(2, 1, 2)
        assert pids(executor)[0] == first[0]  # it sees all GPUs, and uses the first one
        assert pids(executor)[1] != first[1]
        assert isinstance(run(executor, sweep, base), Finished)


def test_a_worker_that_is_importing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.sweeps.executors.local.EXIT_SECONDS_IDLE", 600.0)
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(600)")
    with LocalExecutor({**os.environ, "PYTHONPATH": str(tmp_path)}) as executor:
        executor.start(2, 1, 0)
        (one, other) = pids(executor)
    assert not is_alive(one)
    assert not is_alive(other)


def pids(executor: LocalExecutor) -> list[int]:
    return [slot.worker.pid for slot in executor._slots if slot.worker]


@pytest.mark.usefixtures("forked")
def test_a_keyboard_interrupt_kills_busy_workers(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        RUN_AT_MILESTONE.format(
            milestone="neftune.trial-started", argument="", once=tmp_path / "once", code="import time; time.sleep(600)"
        )
    )
    sweep = SweepFolder(tmp_path / "sweep")

    def interrupt() -> None:
        with LocalExecutor({**os.environ, "PYTHONPATH": str(tmp_path)}) as executor:
            executor.start(1, 1, 0)
            base, _ = trials_of(executor, sweep)
            executor.submit(Job(base, TrialSettings()), sweep)
            wait_for(executor, Started)
            interrupted.append(time.monotonic())
            raise KeyboardInterrupt

    interrupted: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert time.monotonic() - interrupted[0] < 5.0
