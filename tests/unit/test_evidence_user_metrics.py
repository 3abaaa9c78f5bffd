"""A sweep's own metric: its responses are read once to score them, and its stored scores need no further reading."""

from collections import Counter
from pathlib import Path

import pytest

from neftune_cli.commands.run_plan import score_declared_metric
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.evidence.gathering import gather
from neftune_cli.evidence.measurements import REFERENCE_LENGTH
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.metrics import HELD_OUT_RESPONSES, Margin, Metric
from neftune_cli.records import Generation, MetricScores, TrialRecord
from neftune_cli.store import SweepFolder, TrialFolder
from tests.finished_trials import write_trial

METRIC = "my_lengths:letters"
PROMPTS = ("one", "two", "three")


@pytest.fixture
def sweep(tmp_path: Path, hand_made_records: list[TrialRecord], monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """Return a finished sweep that declares a function in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("my_lengths.py").write_text("def letters(response, reference):\n    return len(response)\n")
    folder = SweepFolder(tmp_path / "out")
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2], "analysis": {"metric": METRIC}}))
    for record in hand_made_records:
        responses = [_response(prompt, f"{prompt} {record.seed}") for prompt in PROMPTS]
        write_trial(folder.trial(record.trial, record.arm, record.seed), record, generations=responses)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the number of times that the responses of each trial are read."""
    counts: Counter[str] = Counter()
    read = TrialFolder.generations

    def counted(folder: TrialFolder) -> list[Generation]:
        counts[folder.id] += 1
        return read(folder)

    monkeypatch.setattr(TrialFolder, "generations", counted)
    return counts


def test_scoring_and_comparing_read_the_responses_once_each(sweep: SweepFolder, reads: Counter[str]) -> None:
    spec = sweep.spec()
    assert spec is not None

    score_declared_metric(spec, sweep)
    assert set(reads.values()) == {1}
    (found,) = sweep_evidence([sweep])

    assert set(reads.values()) == {2}
    assert len(reads) == len(found.trials) == 7
    for trial in found.trials:
        assert trial.items[METRIC].items == trial.items[REFERENCE_LENGTH].items == PROMPTS
        assert trial.items[METRIC].values.tolist() == [len(f"{prompt} {trial.seed}") for prompt in PROMPTS]


def test_scores_are_not_read_if_the_function_scores_again(sweep: SweepFolder) -> None:
    spec = sweep.spec()
    assert spec is not None
    score_declared_metric(spec, sweep)
    scores = sweep.metric_scores()
    assert scores is not None
    some = {trial: dict(list(values.items())[:2]) for trial, values in scores.values.items()}
    sweep.write_metric_scores(scores.model_copy(update={"values": some}))
    missing = "--metric my_lengths:letters has no value for 7 of 21 responses."

    (stored,) = gather([sweep.path])
    (again,) = gather([sweep.path], metric=METRIC)

    assert [note for note in stored.notes if note.startswith(missing)]
    assert not [note for note in again.notes if METRIC in note]
    assert all(trial.items[METRIC].items == PROMPTS for trial in again.trials)


@pytest.mark.parametrize(
    "margin", [Margin(0.5), Margin(0.02, relative=True), Margin(0.01, relative=True, of_gain=0.01)]
)
def test_the_declaration_of_a_metric_is_stored_and_read_unchanged(margin: Margin) -> None:
    metric = Metric(METRIC, "Letters", "characters", "lower", 1, margin, HELD_OUT_RESPONSES, stored=False)

    assert MetricScores.of(metric, {}).metric() == metric


def _response(prompt: str, response: str) -> Generation:
    return Generation(
        example=prompt,
        cluster=prompt,
        kind="",
        prompt=prompt,
        reference="x",
        response=response,
        tokens=1,
        truncated=False,
        exact_match=False,
        rouge_l=0.0,
    )
