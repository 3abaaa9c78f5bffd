"""Small logs in the formats of inspect_ai, for tests."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

Values = Mapping[str, Sequence[Any]]
"""Sample to the value of each epoch."""


def log(values: Values, *, metrics: Mapping[str, float] | None = None, **parts: Any) -> dict[str, Any]:
    """Return a log of the task `quiz` with the scorer `match`.

    Args:
        values: of the samples.
        metrics: results of the scorer.
        parts: replaced parts of the log; a part `eval` is merged.
    """
    epochs = max(map(len, values.values()))
    samples = [
        sample(name, epoch + 1, {"match": {"value": of_sample[epoch]}})
        for epoch in range(epochs)
        for name, of_sample in values.items()
        if epoch < len(of_sample)
    ]
    spec = {"task": "quiz", "created": "2026-11-27T10:00:00+00:00", "model": "mockllm/model", "task_version": 0}
    scores = {name: {"name": name, "value": value} for name, value in (metrics or {}).items()}
    return {
        "version": 2,
        "status": "success",
        "eval": {**spec, "config": {"epochs": epochs}, **parts.pop("eval", {})},
        "plan": {"steps": [{"solver": "generate", "params": {}}]},
        "results": {
            "total_samples": len(samples),
            "scores": [{"name": "match", "scorer": "match", "reducer": "mean", "metrics": scores}],
        },
        "samples": samples,
        **parts,
    }


def sample(name: str, epoch: int, scores: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """Return one sample in one epoch."""
    return {"id": name, "epoch": epoch, "input": f"Question {name}?", "target": "yes", "scores": scores, **parts}


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a `.json` log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_eval(path: Path, content: Mapping[str, Any]) -> Path:
    """Write an `.eval` log."""
    samples: Iterable[Mapping[str, Any]] = content.get("samples") or ()
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr(
            "_journal/start.json", json.dumps({part: content[part] for part in ("version", "eval", "plan")})
        )
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        archive.writestr("summaries.json", json.dumps([{**one, "input": ""} for one in samples]))
        if "reductions" in content:
            archive.writestr("reductions.json", json.dumps(content["reductions"]))
        header = {part: value for part, value in content.items() if part not in ("samples", "reductions")}
        archive.writestr("header.json", json.dumps(header))
    return path
