"""Small evaluations in the format of lm-evaluation-harness, for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence

TIME = "2026-11-24T01-55-17.340408"
LATER = "2026-11-25T00-00-00.000001"
FIX = "Evaluate again, or remove the file."


def write(folder: Path, scores: Sequence[float], *, time: str = TIME, task: str = "quiz", **parts: Any) -> Path:
    """Write a minimal evaluation of one task, with a score for each document."""
    return write_documents(folder, dict(enumerate(scores)), time=time, task=task, **parts)


def write_documents(
    folder: Path, scores: Mapping[int, float], *, time: str = TIME, task: str = "quiz", **parts: Any
) -> Path:
    """Write a minimal evaluation of one task: `doc_id` to score."""
    folder.mkdir(parents=True, exist_ok=True)
    mean = sum(scores.values()) / len(scores)
    values = {
        "results": {task: {"alias": task, "acc,none": mean, "acc_stderr,none": 0.1}},
        "higher_is_better": {task: {"acc": True}},
        "n-shot": {task: 0},
        "versions": {task: 1.0},
        "config": {"model": "hf", "model_args": "pretrained=out", "limit": None},
        **parts,
    }
    (folder / f"results_{time}.json").write_text(json.dumps(values))
    write_samples(folder, [sample(number, score) for number, score in scores.items()], time=time, task=task)
    return folder


def write_samples(folder: Path, lines: Sequence[str], *, time: str = TIME, task: str = "quiz") -> None:
    """Write the logged documents of a task."""
    (folder / f"samples_{task}_{time}.jsonl").write_text("".join(lines))


def sample(number: int, score: float, **fields: Any) -> str:
    """Return the line of one document. Fields that are None are left out."""
    names = {"doc_hash": f"d{number}", "prompt_hash": f"p{number}", "target_hash": f"t{number}"}
    line = {"doc_id": number, **names, "filter": "none", "metrics": ["acc"], "acc": score, **fields}
    return json.dumps({key: value for key, value in line.items() if value is not None}) + "\n"


def only(root: Path) -> Evidence:
    """Return the one group of comparable runs below a folder."""
    (evidence,) = lm_eval_evidence(root)
    return evidence


def problem(root: Path) -> str:
    """Return the message with which the runs below a folder are refused, without the path of the folder."""
    with pytest.raises(UsageError) as raised:
        lm_eval_evidence(root)
    return str(raised.value).replace(f"{root}/", "")
