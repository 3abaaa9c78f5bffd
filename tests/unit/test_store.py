"""Results on disk: atomic writes, table order, and separation of finished and unfinished trials."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import UsageError
from neftune_cli.records import (
    CurvePoint,
    EvalMetrics,
    ExampleLoss,
    Generation,
    TrialRecord,
    TrialState,
    TrialStatus,
)
from neftune_cli.store import SweepFolder, write_atomically
from tests.finished_trials import EVAL, NoSpec, start_trial, trial_record, write_failed_trial, write_trial


def record(arm: str, alpha: float | None, seed: int | None, eval_loss: float = 1.0) -> TrialRecord:
    one = trial_record(f"{arm}{seed}".replace("=", ""), arm, seed, eval_loss, alpha=alpha)
    train_loss = None if seed is None else 0.25
    return one.model_copy(update={"loss": one.loss.model_copy(update={"train_loss": train_loss})})


def finish(folder: SweepFolder, one: TrialRecord, *, split: str = "held-out") -> None:
    place = folder.trial(one.trial, one.arm, one.seed)
    point = CurvePoint(step=1, epoch=0.5, train_loss=0.25, learning_rate=1e-3, tokens=10)
    loss = ExampleLoss(split="held-out", epoch=1, example="e", cluster="c", loss=1.0, tokens=3)
    answer = Generation(
        split=split,
        example="e",
        cluster="c",
        kind="",
        prompt="Q",
        reference="A",
        response="ä\n\u2028",
        tokens=1,
        truncated=False,
        exact_match=False,
        rouge_l=0.0,
    )
    write_trial(place, one, [loss], [answer], [point])


def without_files(one: TrialRecord | None) -> TrialRecord | None:
    return one and one.model_copy(update={"files": {}})


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1]}))
    return sweep


def test_one_of_several_new_sweeps_gets_the_folder(tmp_path: Path) -> None:
    specs = [resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0], "train": {"epochs": 1.0 + n}}) for n in range(8)]
    together = threading.Barrier(len(specs))

    def is_written(spec: SweepSpec) -> bool:
        folder = SweepFolder(tmp_path / "sweep")
        together.wait()
        with suppress(UsageError):
            folder.open(spec)
            return True
        return False

    with ThreadPoolExecutor(len(specs)) as threads:
        written = list(threads.map(is_written, specs))

    assert [spec for spec, is_first in zip(specs, written, strict=True) if is_first] == [
        SweepFolder(tmp_path / "sweep").spec()
    ]


def test_a_sweep_that_changed_since_it_was_planned_is_not_replaced(folder: SweepFolder) -> None:
    planned, first, second = (
        resolve_sweep(None, {"alphas": alphas, "seeds": [0, 1]})
        for alphas in ([0.0, 5.0], [0.0, 2.0, 5.0], [0.0, 5.0, 9.0])
    )
    folder.open(planned)
    folder.open(first, replaces=planned)
    with pytest.raises(UsageError, match=r"sweep.yaml since this one started. Run this command again."):
        folder.open(second, replaces=planned)
    folder.open(first, replaces=planned)
    assert folder.spec() == first
    folder.open(second, replaces=first)
    assert folder.spec() == second


def test_a_full_disk_is_reported_with_the_fix(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spec, planned = resolve_sweep(None, {"alphas": [0.0, 5.0, 9.0], "seeds": [0]}), folder.spec()
    monkeypatch.setattr("neftune_cli.store.files.os.write", fill)
    with pytest.raises(UsageError, match=r"No space left on device. Free disk space, and run the same command again"):
        folder.open(spec, replaces=planned)
    monkeypatch.undo()
    assert folder.spec() == planned


def test_records_are_ordered_by_base_arm_and_seed(folder: SweepFolder) -> None:
    for one in (
        record("alpha=5", 5.0, 1),
        record("alpha=0", 0.0, 1),
        record("base", None, None),
        record("alpha=0", 0.0, 0),
    ):
        finish(folder, one)
    assert [(one.arm, one.seed) for one in folder.records()] == [
        ("base", None),
        ("alpha=0", 0),
        ("alpha=0", 1),
        ("alpha=5", 1),
    ]


def test_tables_have_one_row_per_trial_and_no_alpha_or_seed_for_the_base(folder: SweepFolder) -> None:
    finish(folder, record("base", None, None, eval_loss=3.5))
    finish(folder, record("alpha=5", 5.0, 0, eval_loss=1.25))
    folder.write_tables()
    text = (folder.path / "loss.csv").read_text(encoding="utf-8")
    assert text == (
        "arm,alpha,seed,train_loss,train_loss_clean,eval_loss,eval_perplexity\n"
        "base,,,,1.0,3.5,2.0\n"
        "alpha=5,5.0,0,0.25,1.0,1.25,2.0\n"
    )
    assert list(pd.read_csv(folder.path / "eval.csv").columns)[3:] == list(EvalMetrics.model_fields)
    assert pd.read_csv(folder.path / "curves.csv").tokens.tolist() == [10, 10]


def test_finished_trial_is_read_as_written(folder: SweepFolder) -> None:
    finish(folder, record("alpha=5", 5.0, 0))
    place = folder.trial("alpha50", "alpha=5", 0)
    assert place.path.name == "alpha=5,seed=0-alpha50"
    assert without_files(place.record()) == record("alpha=5", 5.0, 0)
    assert [answer.response for answer in place.generations()] == ["ä\n\u2028"]
    assert pd.read_parquet(place.path / "examples.parquet").loss.tolist() == [1.0]


def test_probe_responses_and_metrics_are_read_as_written_and_not_in_the_tables(folder: SweepFolder) -> None:
    near = EVAL.model_copy(update={"rouge_l": 0.75})
    one = record("alpha=5", 5.0, 0).model_copy(update={"probe_eval": near})
    finish(folder, one, split="probe")
    place = folder.trial(one.trial, one.arm, one.seed)
    assert without_files(place.record()) == one
    assert [answer.split for answer in place.generations()] == ["probe"]
    folder.write_tables()
    assert pd.read_csv(folder.path / "eval.csv").rouge_l.tolist() == [0.5]


def test_unfinished_trials_have_no_record_and_are_listed(folder: SweepFolder) -> None:
    finish(folder, record("alpha=0", 0.0, 0))
    started = folder.trial("x", "alpha=5", 0)
    start_trial(started, "x").release()
    write_failed_trial(folder.trial("y", "alpha=5", 1), "y", "out of memory")
    assert [one.arm for one in folder.records()] == ["alpha=0"]
    assert folder.contents()[1] == ["alpha=5,seed=0 has not finished", "alpha=5,seed=1 failed: out of memory"]


def test_incomplete_last_line_is_ignored(folder: SweepFolder) -> None:
    place = folder.trial("x", "alpha=5", 0)
    with start_trial(place, "x") as leased:
        leased.append_metrics(CurvePoint(step=1, epoch=0.5))
    with (place.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "ep')
    assert [point.step for point in place.curve()] == [1]


DAMAGED_MANIFESTS = [
    b"",
    b'{"looks": [3',
    b"[]",
    b"\xff\xfe",
    b'{"looks": 3}',
    b'{"looks": ["three"]}',
    b'{"looks": ["3"]}',
    b'{"looks": [3.0]}',
    b'{"looks": null}',
    b'{"plan": [{"trial": "a"}]}',
    b'{"trials": []}',
]


@pytest.mark.parametrize("content", DAMAGED_MANIFESTS)
def test_a_damaged_manifest_is_refused_and_not_replaced(folder: SweepFolder, content: bytes) -> None:
    path = folder.path / "manifest.json"
    path.write_bytes(content)

    for use in (folder.manifest, folder.manifest_text, lambda: folder.add_look(5)):
        with pytest.raises(UsageError) as raised:
            use()

        assert str(raised.value) == (
            f"{path} is damaged. Restore it from a backup. If seeds were never added to the sweep, it can be removed "
            "instead."
        )
    assert path.read_bytes() == content


def test_a_damaged_manifest_with_planned_looks_may_not_be_removed(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "looks")
    sweep.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2], "until_decided": True, "looks": (3,)}))
    (sweep.path / "manifest.json").write_text("{")
    with pytest.raises(
        UsageError, match=r"is damaged\. Restore it from a backup: nothing else lists the planned looks"
    ):
        sweep.manifest()


def test_a_manifest_that_cannot_be_read_is_not_called_damaged(folder: SweepFolder) -> None:
    (folder.path / "manifest.json").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"manifest\.json cannot be read \(.*directory"):
        folder.manifest()


@pytest.fixture
def lost_drive(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function after whose call files of one name cannot be read, as if a network drive had been lost."""

    def lose(name: str) -> None:
        for method in ("read_bytes", "read_text", "stat"):
            original = getattr(Path, method)

            def fail(path: Path, *args: Any, original: Any = original, **options: Any) -> Any:
                if path.name == name:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
                return original(path, *args, **options)

            monkeypatch.setattr(Path, method, fail)

    return lose


@pytest.mark.parametrize("name", ["record.json", "examples.parquet"])
def test_a_finished_trial_that_cannot_be_read_is_neither_unfinished_nor_run_again(
    folder: SweepFolder, lost_drive: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    finish(folder, record("alpha=5", 5.0, 0))
    trial = folder.trials()[0]
    before = {path.name: path.read_bytes() for path in trial.path.iterdir()}
    leased = trial.acquire_lease(lease_seconds=120)
    assert leased is not None

    lost_drive(name)
    running = TrialStatus(trial=trial.id, state=TrialState.RUNNING)
    for use in (trial.record, folder.contents, lambda: leased.start(NoSpec(), running)):
        with pytest.raises(UsageError) as raised:
            use()
        assert str(raised.value) == (
            f"{trial.path / name} cannot be read ([Errno 5] Input/output error: '{trial.path / name}'). "
            "Check the disk and the permissions of the file, and run the command again."
        )
    monkeypatch.undo()
    leased.release()

    assert {path.name: path.read_bytes() for path in trial.path.iterdir()} == before
    assert [one.arm for one in folder.records()] == ["alpha=5"]


def test_a_spec_that_cannot_be_read_is_not_called_invalid(
    folder: SweepFolder, lost_drive: Callable[[str], None]
) -> None:
    lost_drive("sweep.yaml")
    with pytest.raises(UsageError, match=r"sweep\.yaml cannot be read \(.*\)\. Check the disk and the permissions"):
        SweepFolder(folder.path).spec()


@pytest.mark.parametrize(("number", "words"), [(errno.EIO, "cannot be read"), (None, "is damaged")])
def test_losses_that_cannot_be_read_are_not_called_damaged(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, number: int | None, words: str
) -> None:
    finish(folder, record("alpha=5", 5.0, 0))
    error = OSError("invalid") if number is None else OSError(number, os.strerror(number))
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.__init__", Mock(side_effect=error))
    with pytest.raises(UsageError, match=rf"examples\.parquet {words}"):
        folder.trials()[0].example_losses()


def test_a_missing_manifest_has_no_looks_and_gets_the_first_one(folder: SweepFolder) -> None:
    assert folder.manifest().looks == ()

    folder.add_look(3)

    assert folder.manifest().looks == (3,)


def test_record_of_newer_version_raises_usage_error(folder: SweepFolder) -> None:
    finish(folder, record("alpha=0", 0.0, 0))
    path = folder.trial("alpha00", "alpha=0", 0).path / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(UsageError, match="newer version"):
        folder.records()


def test_record_of_schema_1_without_attestation_is_read(folder: SweepFolder) -> None:
    finish(folder, record("alpha=0", 0.0, 0))
    path = folder.trial("alpha00", "alpha=0", 0).path / "record.json"
    values = json.loads(path.read_text())
    del values["attestation"]
    path.write_text(json.dumps({**values, "schema_version": 1}))
    assert [one.attestation for one in folder.records()] == [None]


def test_trial_of_schema_2_without_probe_responses_is_read(folder: SweepFolder) -> None:
    """The files have the format of schema version 2."""
    place = folder.trial("alpha00", "alpha=0", 0)
    start_trial(place, "alpha00").release()
    attestation = {"calls": 75, "measured_calls": 8, "rms": 1.0, "noise_to_embedding": 0.1, "noised_share": 1.0}
    old = {
        "schema_version": 2,
        "trial": "alpha00",
        "arm": "alpha=0",
        "alpha": 0.0,
        "seed": 0,
        "loss": {"train_loss": 0.25, "train_loss_clean": 0.5, "eval_loss": 1.0, "eval_perplexity": 2.0},
        "eval": EVAL.model_dump(),
        "noise": {"median_length": 30.0, "noise_norm": 0.0, "embedding_norm": 3.0},
        "attestation": {**attestation, "noised_padding": 0.0, "evaluation_calls": 0, "hooks": 1},
        "identity": {"method_version": 3},
        "notes": ["Measured on 120 training and 200 held-out examples."],
    }
    (place.path / "record.json").write_text(json.dumps(old))
    (place.path / "generations.jsonl").write_text(
        '{"example":"e","cluster":"c","kind":"","prompt":"Q","reference":"A","response":"B","tokens":1,'
        '"truncated":false,"exact_match":false,"rouge_l":0.0}\n'
    )
    (read,) = folder.records()
    assert (read.schema_version, read.eval, read.probe_eval) == (2, EVAL, None)
    assert [(answer.split, answer.response) for answer in place.generations()] == [("held-out", "B")]


@pytest.mark.parametrize(
    "name", ["alpha=0,seed=0-0 copy 2", "alpha=0,seed=0-alpha00 copy", "copy of alpha=0,seed=0-alpha00"]
)
def test_a_copy_of_the_folder_of_a_trial_does_not_count(folder: SweepFolder, name: str) -> None:
    finish(folder, record("alpha=0", 0.0, 0))
    finish(folder, record("alpha=0", 0.0, 1, 2.0))
    trial = folder.trial("alpha00", "alpha=0", 0).path
    edited = shutil.copytree(trial, trial.parent / name) / "record.json"
    edited.write_text(edited.read_text().replace('"eval_loss": 1.0', '"eval_loss": 7.0'))

    folder.write_tables()

    assert list(pd.read_csv(folder.path / "loss.csv")["eval_loss"]) == [1.0, 2.0]
    for table in ("eval.csv", "curves.csv"):
        assert list(pd.read_csv(folder.path / table)["seed"]) == [0, 1]


def test_an_abandoned_attempt_of_a_finished_trial_is_not_missing(folder: SweepFolder) -> None:
    finish(folder, record("alpha=0", 0.0, 0))
    for trial, seed in (("ffff", 0), ("eeee", 1)):
        start_trial(folder.trial(trial, "alpha=0", seed), trial).release()
    assert folder.contents()[1] == ["alpha=0,seed=1 has not finished"]


def test_a_renamed_trial_folder_counts(folder: SweepFolder) -> None:
    finish(folder, record("alpha=0", 0.0, 0))
    trial = folder.trial("alpha00", "alpha=0", 0).path
    trial.rename(trial.parent / "renamed")
    assert [one.trial for one in folder.records()] == ["alpha00"]


def test_special_characters_in_arm_names_are_replaced_in_folder_names(folder: SweepFolder) -> None:
    assert folder.trial("id", "a/b: c", 3).path.name == "a_b_c,seed=3-id"


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("neftune_cli.store.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, "new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("left", [(), ("trials/",), ("trials/", ".sweep.yaml.0123456789ab.tmp")])
def test_leftovers_of_sweep_killed_at_its_start_are_not_foreign(left: tuple[str, ...], tmp_path: Path) -> None:
    place(tmp_path, left)
    assert not SweepFolder(tmp_path).has_foreign_files()


@pytest.mark.parametrize("left", [("cat.png",), ("trials",), ("trials/", "trials/alpha=0,seed=0-abc/"), ("other/",)])
def test_other_content_is_foreign(left: tuple[str, ...], tmp_path: Path) -> None:
    place(tmp_path, left)
    assert SweepFolder(tmp_path).has_foreign_files()


def place(folder: Path, names: tuple[str, ...]) -> None:
    """Create files, and folders for names that end in a slash."""
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "arms: 3\nalfa: 1\n",
            (
                ": train is missing.",
                ": seeds is missing.",
                ", line 1: arms must be a list; 3 was given.",
                ", line 2: there is no field 'alfa'.",
            ),
        ),
        ("arms:\n  [", (", line 2: the file is not valid YAML: expected the node content, but found '<stream end>'.",)),
        ("3\n", (" has no fields.",)),
    ],
)
def test_a_damaged_sweep_file_is_described_in_its_own_words(
    tmp_path: Path, text: str, problems: tuple[str, ...]
) -> None:
    (tmp_path / "sweep.yaml").write_text(text)

    with pytest.raises(UsageError) as raised:
        SweepFolder(tmp_path).spec()

    fix = (
        "Restore the file from a backup, or remove it and run the command of the sweep again: finished trials are kept."
    )
    assert [(one.what, one.fix) for one in raised.value.problems] == [
        (f"{tmp_path}/sweep.yaml{what}", fix) for what in problems
    ]
