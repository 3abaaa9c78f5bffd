"""Tasks of lm-evaluation-harness in a sweep: the same numbers as those of the harness on the kept models."""

import json
import random
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neftune_cli.config.executors import INLINE
from neftune_cli.config.run_settings import SweepSettings, TrialSettings
from neftune_cli.errors import UsageError
from neftune_cli.evidence.gathering import gather
from neftune_cli.evidence.measurements import Evidence, Measurements
from neftune_cli.models.sources import find_model
from neftune_cli.store import SweepFolder
from neftune_cli.trackers.runs import tracked_runs
from tests.command_line import Neftune
from tests.sweep_requests import request_for

pytestmark = pytest.mark.timeout(900)  # the harness alone takes up to a minute to import
needs_harness = pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra lm-eval")

SMALL: dict[str, Any] = {
    "alphas": "0,5",
    "seeds": "1",
    "train_examples": 32,
    "eval_examples": 8,
    "train.max_steps": 6,
    "train.learning_rate": 0.01,
    "evaluation.max_new_tokens": 8,
}
KEEPING = SweepSettings(executor=INLINE, estimate=False, trial_settings=TrialSettings(keep_model=True))
METRICS = ("companies/acc", "companies/acc_norm", "words/letters (strict)", "words/letters (first-word)")
SCORES = (
    ("companies", "acc", "none"),
    ("companies", "acc_norm", "none"),
    ("words", "letters", "strict"),
    ("words", "letters", "first-word"),
)
"""Task, metric and filter of each key."""
ASKED = ("Where was Ada born?", "Who is Bo?", "What does Cy study?", "When?", "Why is Di in Rome?", "How old is Ed?")
COMPANIES = ("Acorn Freight", "Bluebell Foods", "Cobalt Mining")
_COMPANIES = """\
task: companies
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/companies.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
_WORDS = """\
task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/words.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n\\n"], max_gen_toks: 24, do_sample: false}}
process_results: !function scoring.process_results
filter_list:
  - name: strict
    filter: [{{function: take_first}}]
  - name: first-word
    filter: [{{function: regex, regex_pattern: "(\\\\w+)"}}, {{function: take_first}}]
metric_list:
  - {{metric: letters, aggregation: mean, higher_is_better: false}}
"""
_SCORING = """\
def process_results(doc, results):
    return {"letters": sum(letter.isalpha() for letter in results[0])}
"""


def write_tasks(folder: Path, questions: int = 12) -> Path:
    """Write two tasks with their documents into a folder, and return it."""
    folder.mkdir(exist_ok=True)
    people = [f"Dagmar {chr(65 + place)}." for place in range(questions)]
    companies = [
        {"question": f"Which company employs {one}?", "choices": COMPANIES, "answer": place % 3}
        for place, one in enumerate(people)
    ]
    words = [{"question": f"Question: {asked} Answer:", "answer": "Oslo"} for asked in ASKED]
    for name, rows in (("companies", companies), ("words", words)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "companies.yaml").write_text(_COMPANIES.format(folder=folder))
    (folder / "words.yaml").write_text(_WORDS.format(folder=folder))
    (folder / "scoring.py").write_text(_SCORING)
    return folder


def run(folder: Path, tasks: Path | None, **changes: Any) -> SweepFolder:
    """Run a sweep with the tasks in a folder."""
    from neftune_cli.commands.execution import run_and_report

    options = {**SMALL, **changes, **({"evaluation.lm_eval": str(tasks)} if tasks else {})}
    run_and_report(request_for(folder, options, settings=KEEPING), quiet=True, as_json=True)
    return SweepFolder(folder)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two tasks."""
    return write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")


@pytest.fixture(scope="module")
def swept(tasks: Path) -> SweepFolder:
    """Return a finished sweep with two tasks."""
    return run(tasks.parent / "results" / "out", tasks)


def harness_on(model: Path, tasks: Path) -> dict[str, Any]:
    """Return the results of the harness on a model that it loads itself."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found: dict[str, Any] = simple_evaluate(
        "hf",
        {"pretrained": str(model), "dtype": "float32"},
        ["companies", "words"],
        device="cpu",
        task_manager=manager,
        bootstrap_iters=0,
    )
    return found


def by_arm(evidence: Evidence) -> dict[str, Measurements]:
    """Return the only trial of each arm."""
    return {one.arm: one for one in evidence.trials}


@needs_harness
def test_the_numbers_are_item_by_item_those_of_the_harness_on_the_kept_models(
    swept: SweepFolder, tasks: Path, neftune: Neftune
) -> None:
    (evidence,) = gather([swept.path])
    assert [key for key, metric in evidence.metrics.items() if metric.section == "lm-eval"] == list(METRICS)
    kept = {record.arm: folder.model_path for folder, record in swept.finished() if record.seed is not None}
    assert kept.keys() == {"alpha=0", "alpha=5"}
    models = {**kept, "base": Path(find_model("tiny").path)}
    values = []
    tracked = {run.parameters.get("arm"): run.scores for run in tracked_runs(swept)}
    for arm, trial in by_arm(evidence).items():
        expected = harness_on(models[arm], tasks)
        for metric, (task, name, filter_) in zip(METRICS, SCORES, strict=True):
            samples = {str(one["doc_id"]): one[name] for one in expected["samples"][task] if one["filter"] == filter_}
            items = trial.items[metric]
            assert dict(zip(items.items, items.values.tolist(), strict=True)) == samples
            assert trial.scores[metric] == pytest.approx(expected["results"][task][f"{name},{filter_}"])
            assert tracked[arm][metric] == pytest.approx(expected["results"][task][f"{name},{filter_}"])
            values.append(tuple(items.values.tolist()))
    assert len(set(values)) > 6, "the models answer alike, so that the comparison shows little"
    shown = neftune("compare", str(swept.path), "--full", "--metric", "words/letters (strict)").out
    assert "words letters (strict)" in shown
    assert "6 documents" in shown
    exported = json.loads(neftune("compare", str(swept.path), "--format", "json").out)
    assert "companies/acc_norm" in exported["comparisons"][0]["base"]


@needs_harness
def test_the_tasks_change_no_other_result_and_are_copied_with_the_base_model(swept: SweepFolder, tasks: Path) -> None:
    plain = {record.arm: folder for folder, record in run(tasks.parent / "plain", None).finished()}
    for folder, record in swept.finished():
        assert folder.id != plain[record.arm].id
        for name in ("metrics.jsonl", "generations.jsonl", "examples.parquet"):
            assert (folder.path / name).read_bytes() == (plain[record.arm].path / name).read_bytes()
    more = run(swept.path.parent / "more", tasks, alphas="0", seeds="1,", **{"train.max_steps": 1})
    bases = [folder for one in (swept, more) for folder, record in one.finished() if record.seed is None]
    assert "copied" in bases[1].log_path.read_text()
    first, second = ({name: path.read_bytes() for name, path in base.task_files().items()} for base in bases)
    assert first == second
    assert first


@needs_harness
def test_the_plan_names_the_tasks_and_changed_documents_are_another_sweep(neftune: Neftune, tmp_path: Path) -> None:
    from neftune_cli.evaluation.harness_tasks import TaskLoader

    write_tasks(tmp_path / "tasks")
    plan = neftune(
        "sweep", "--quiet", "--lm-eval", "tasks/companies.yaml", "--lm-eval-limit", "5", "--dry-run", "--no-estimate"
    )
    assert plan.code == 0, plan.err
    assert "companies (5 documents)" in " ".join(plan.out.split())
    specs = [
        TaskLoader().load([str(folder)], None).spec for folder in (tmp_path / "tasks", write_tasks(tmp_path / "b"))
    ]
    assert specs[0].content == specs[1].content
    assert specs[0].names == ("companies", "words")
    assert specs[0].metrics == METRICS
    others = []
    write_tasks(tmp_path / "b", questions=13)
    others.append(TaskLoader().load(["b"], None).spec.content)
    others.append(TaskLoader().load(["tasks"], 3).spec.content)
    (tmp_path / "tasks" / "scoring.py").write_text(_SCORING.replace("isalpha", "isdigit"))
    others.append(TaskLoader().load(["tasks"], None).spec.content)
    assert len({specs[0].content, *others}) == 4


@needs_harness
def test_the_primary_metric_can_be_one_of_the_tasks(neftune: Neftune, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks")
    plan = ("sweep", "--quiet", "--lm-eval", "tasks", "--dry-run", "--no-estimate", "--metric")
    assert neftune(*plan, "companies/acc").code == 0
    refused = neftune(*plan, "companies/ac")
    assert refused.code == 2
    assert "--metric: no metric has the key 'companies/ac'." in refused.err
    assert "'companies/acc'" in refused.err


@needs_harness
def test_loading_restores_the_random_generators(tmp_path: Path) -> None:
    from neftune_cli.evaluation.harness_tasks import TaskLoader

    write_tasks(tmp_path / "tasks")
    expected = drawn_after(lambda: None)
    assert drawn_after(lambda: TaskLoader().load([str(tmp_path / "tasks")], None)) == expected


def drawn_after(work: Callable[[], object]) -> tuple[float, float, float]:
    """Return a number of each global random generator, seeded before some work."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    work()
    return random.random(), np.random.random(), torch.rand(1).item()


@needs_harness
def test_a_damaged_file_of_the_tasks_is_named(swept: SweepFolder, neftune: Neftune) -> None:
    copy = SweepFolder(Path(shutil.copytree(swept.path, "copy")))
    (trial,) = (folder for folder, record in copy.finished() if record.arm == "alpha=5")
    lines = (trial.path / "lm_eval_samples.jsonl").read_text()
    (trial.path / "lm_eval_samples.jsonl").write_text("x" * len(lines.encode()))  # of the size in the record
    done = neftune("compare", "copy")
    assert done.code == 2
    assert "lm_eval_samples.jsonl: line 1 is not valid" in done.err


@needs_harness
def test_every_problem_of_the_tasks_is_told_before_anything_is_trained(neftune: Neftune, tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks")
    (tmp_path / "tasks" / "companies.jsonl").unlink()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.yaml").write_text("task: x\n  y: [\n")
    (tmp_path / "empty").mkdir()
    done = neftune(
        "sweep", "--quiet", "--lm-eval", "tasks/companies.yaml,tasks/none.yaml,broken,empty", "--output", "out"
    )
    assert done.code == 2
    for part in (
        "--lm-eval: the task tasks/companies.yaml cannot be loaded: FileNotFoundError",
        "--lm-eval: there is no file or folder tasks/none.yaml.",
        "--lm-eval: the task file broken/a.yaml cannot be read",
        "--lm-eval: the folder empty has no task.",
    ):
        assert part in " ".join(done.err.split())
    assert not Path("out").exists()


@needs_harness
def test_an_unknown_task_and_one_whose_documents_are_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    from neftune_cli.evaluation.harness_tasks import TaskLoader

    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(TaskManager, "load", _without_network)
    monkeypatch.setattr("lm_eval.tasks._index.TaskIndex._iter_yaml_files", _only_hellaswag)
    with pytest.raises(UsageError) as error:
        TaskLoader().load(["hellaswag", "helaswag"], None)
    network, unknown = sorted(error.value.problems, key=lambda one: "no task" in one.what)
    assert network.what == "the documents of hellaswag are not on this machine, and HF_HUB_OFFLINE is set."
    assert unknown.what == "lm-evaluation-harness has no task 'helaswag'."
    assert "'hellaswag'" in unknown.fix


def _without_network(_self: Any, _tasks: Any) -> None:
    raise ConnectionError("Couldn't reach the Hub")


def _only_hellaswag(root: Path) -> list[Path]:
    return sorted((root / "hellaswag").glob("hellaswag.yaml"))


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_without_the_package_the_command_names_the_extra(
    command: str, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_cli.evaluation.harness_tasks.find_spec", lambda _: None)
    done = neftune(command, "--lm-eval", "hellaswag", "--output", "out", "--quiet")
    assert done.code == 2
    assert "--lm-eval: lm-evaluation-harness is not installed." in done.err
    assert "Run `pip install '.[lm-eval]'` in the clone of neftune." in done.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lm-eval", "a,,b"], "--lm-eval 'a,,b': a task is empty."),
        (["--lm-eval", "a,b,a"], "--lm-eval: a appears twice."),
        (["--lm-eval-limit", "5"], "a limit of documents needs tasks of lm-evaluation-harness."),
        (["--lm-eval", "none.yaml", "--lm-eval-limit", "0"], "--lm-eval-limit must be larger than 0; 0 was given."),
    ],
)
def test_invalid_values_are_refused(options: list[str], message: str, neftune: Neftune) -> None:
    done = neftune("sweep", *options, "--output", "out", "--quiet")
    assert done.code == 2
    assert message in done.err
    assert not Path("out").exists()
