"""Workers that are killed, crash, are asked to end or lose their sweep; what is done to them happens at a milestone."""

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
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.plan import make_plan
from neftune_cli.training.trial import Trial

SMALL = {"train_examples": 16, "eval_examples": 4, "alphas": [5.0], "seeds": [0]}
QUICK = {"evaluation": {"max_new_tokens": 4}}
PATIENCE_SECONDS = 60.0

AT_A_MILESTONE = """
import os, sys

def act(event, arguments):
    if event == "{milestone}" and "{about}" in str(arguments) and not os.path.exists("{once}"):
        open("{once}", "w").close()
        {code}

sys.addaudithook(act)
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


@pytest.fixture
def worker_that(tmp_path: Path) -> Iterator[Callable[..., LocalExecutor]]:
    """Return a function that makes an executor whose worker does something, once, at a milestone."""
    made: list[LocalExecutor] = []

    def make(code: str = "pass", *, at: str = "neftune.trial-begun", about: str = "") -> LocalExecutor:
        text = AT_A_MILESTONE.format(milestone=at, about=about, once=tmp_path / "once", code=code)
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
    """Return the base and one that is trained."""
    spec = resolve_sweep(None, {**SMALL, **QUICK, "train": {"max_steps": 2, **train}})
    plan = make_plan(spec, sweep, executor.inspect)
    sweep.open(plan.spec)
    return plan.trials


def place_of(sweep: SweepFolder, trial: Trial) -> TrialFolder:
    return sweep.trial(trial.id, trial.arm, trial.seed)


def last(executor: LocalExecutor, until: type[Event] | tuple[type[Event], ...] = (Finished, WorkerDied)) -> Event:
    """Wait for an event of a kind and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for event in executor.wait(1.0):
            if isinstance(event, until):
                return event
    raise TimeoutError


def run(executor: LocalExecutor, sweep: SweepFolder, trial: Trial, settings: RunSettings | None = None) -> Event:
    executor.submit(Job(trial, settings or RunSettings()), sweep)
    return last(executor)


def is_alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_worker_is_told_with_its_trial_and_replaced(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_that("os.kill(os.getpid(), 9)")
    base, _ = trials_of(executor, sweep)
    died = run(executor, sweep, base)
    assert isinstance(died, WorkerDied)
    assert died.trial == base
    assert "killed, most likely by the system for want of memory" in died.why
    assert not place_of(sweep, base).is_claimed()
    assert executor.free() == 1
    ended = run(executor, sweep, base)
    assert isinstance(ended, Finished)
    assert ended.record is not None
    assert (status := place_of(sweep, base).status()) is not None
    assert (status.state, status.attempts) == (TrialState.DONE, 2)


def test_a_crash_in_native_code_leaves_its_traceback_in_the_trials_log(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_that("import ctypes; ctypes.string_at(0)")
    base, _ = trials_of(executor, sweep)
    died = run(executor, sweep, base)
    assert isinstance(died, WorkerDied)
    assert "SIGSEGV" in died.why
    assert died.last_log_line == "Fatal Python error: Segmentation fault"
    assert "string_at" in died.log_end
    assert "string_at" in place_of(sweep, base).log_path.read_text()


def test_what_native_code_prints_is_in_the_trials_log_and_on_no_screen(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = worker_that("os.system('echo spoken by another program')")
    base, _ = trials_of(executor, sweep)
    run(executor, sweep, base)
    assert "spoken by another program" in place_of(sweep, base).log_path.read_text()
    assert capfd.readouterr() == ("", "")


def test_workers_that_cannot_start_end_the_sweep_with_their_last_words(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pydantic'] = None\n")
    broken, words = {**os.environ, "PYTHONPATH": str(tmp_path)}, r"(?s)can't be started: .* exit code 1\..*pydantic"
    with LocalExecutor(broken) as executor, pytest.raises(NeftuneError, match=words):
        executor.inspect(resolve_sweep(None, {**SMALL, **QUICK}))


def test_a_worker_that_dies_of_a_question_is_an_error_and_is_replaced(
    worker_that: Callable[..., LocalExecutor],
) -> None:
    executor = worker_that("os.kill(os.getpid(), 9)", at="open", about="/embedded/tiny/")
    with pytest.raises(NeftuneError, match=r"was killed, .* when it was asked to inspect"):
        executor.inspect(resolve_sweep(None, {**SMALL, **QUICK}))
    assert not executor.inspect(resolve_sweep(None, {**SMALL, **QUICK})).problems


@pytest.mark.slow
@pytest.mark.crash
def test_out_of_memory_halves_the_batch_where_that_is_asked_for(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_that("raise MemoryError('this much')", at="neftune.step-logged")
    _, trial = trials_of(executor, sweep)
    ended = run(executor, sweep, trial, RunSettings(halve_batch=True))
    assert isinstance(ended, Finished)
    assert ended.record is not None
    assert any("2 x 8" in note for note in ended.record.notes)
    assert "Out of memory (this much)" in place_of(sweep, trial).log_path.read_text()


@pytest.mark.slow
@pytest.mark.crash
def test_a_full_disk_is_no_failure_of_the_trial(worker_that: Callable[..., LocalExecutor], sweep: SweepFolder) -> None:
    executor = worker_that("raise OSError(28, 'No space left on device')", at="neftune.step-logged")
    _, trial = trials_of(executor, sweep)
    ended = run(executor, sweep, trial)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "disk-full"
    assert (status := place_of(sweep, trial).status()) is not None
    assert status.state is TrialState.STOPPED


@pytest.mark.slow
@pytest.mark.crash
def test_a_stop_in_the_middle_leaves_a_checkpoint(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_that()
    _, trial = trials_of(executor, sweep, max_steps=500)
    executor.submit(Job(trial, RunSettings()), sweep)
    assert isinstance(last(executor, Started), Started)
    while not place_of(sweep, trial).curve():
        time.sleep(0.05)
    executor.stop()
    ended = last(executor)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "stopped"
    place = place_of(sweep, trial)
    assert (status := place.status()) is not None
    assert status.state is TrialState.STOPPED
    with place.claim() as claimed:  # type: ignore[union-attr]
        assert claimed.checkpoints()[0].step >= 1


@pytest.mark.slow
@pytest.mark.crash
def test_a_worker_that_is_asked_to_end_lets_its_trial_stop_first_and_is_replaced(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_that("os.kill(os.getpid(), 15)")
    base, _ = trials_of(executor, sweep)
    ended = run(executor, sweep, base)
    assert isinstance(ended, Finished)
    assert ended.failure is not None
    assert ended.failure.kind == "stopped"
    again = run(executor, sweep, base)
    assert isinstance(again, Finished)
    assert again.record is not None


def test_killing_ends_a_trial_at_once_and_its_claim_with_it(
    worker_that: Callable[..., LocalExecutor], sweep: SweepFolder
) -> None:
    executor = worker_that("import time; time.sleep(600)")
    base, _ = trials_of(executor, sweep)
    executor.submit(Job(base, RunSettings()), sweep)
    last(executor, Started)
    assert place_of(sweep, base).is_claimed()
    executor.kill()
    assert not place_of(sweep, base).is_claimed()
    died = last(executor)
    assert isinstance(died, WorkerDied)
    assert "on request" in died.why


def test_a_signal_ends_the_waiting(worker_that: Callable[..., LocalExecutor]) -> None:
    executor = worker_that()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        started = time.monotonic()
        assert executor.wait(PATIENCE_SECONDS) == []
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
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
    workers = [place.worker.pid for place in executor._places]
    print(*workers, flush=True)
    waiting = list(plan.trials)
    ended = []
    while len(ended) < len(plan.trials):
        while waiting and executor.free():
            executor.submit(Job(waiting.pop(0), RunSettings()), sweep)
        ended += [event for event in executor.wait(1.0) if isinstance(event, Finished)]
assert all(event.record for event in ended), ended
assert {{os.getsid(0)}}.isdisjoint(workers)
loaded = {{"torch", "transformers", "trl", "datasets", "accelerate"}} & set(sys.modules)
assert not loaded, loaded
assert files() == before, "a descriptor was left open"
for pid in workers:
    assert not os.path.exists(f"/proc/{{pid}}"), "a worker wasn't reaped"
"""


def script(max_steps: int) -> list[str]:
    spec = {**SMALL, **QUICK, "train": {"max_steps": max_steps}}
    return [sys.executable, "-c", SWEEP.format(spec=spec)]


def test_a_sweep_of_two_workers_needs_no_torch_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run([*script(2), str(tmp_path / "sweep")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_whose_sweep_was_killed_checkpoint_and_end(tmp_path: Path) -> None:
    command = [*script(5000), str(tmp_path / "sweep")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        deadline = time.monotonic() + PATIENCE_SECONDS
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
    assert not TrialFolder(folder).is_claimed()
    assert (status := TrialFolder(folder).status()) is not None
    assert status.state is TrialState.STOPPED


def test_an_interrupt_ends_busy_workers_at_once(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        AT_A_MILESTONE.format(
            milestone="neftune.trial-begun", about="", once=tmp_path / "once", code="import time; time.sleep(600)"
        )
    )
    sweep = SweepFolder(tmp_path / "sweep")

    def interrupt() -> None:
        with LocalExecutor({**os.environ, "PYTHONPATH": str(tmp_path)}) as executor:
            executor.start(1, 1, 0)
            base, _ = trials_of(executor, sweep)
            executor.submit(Job(base, RunSettings()), sweep)
            last(executor, Started)
            began.append(time.monotonic())
            raise KeyboardInterrupt

    began: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert time.monotonic() - began[0] < 5.0
