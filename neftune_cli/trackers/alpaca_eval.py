"""Responses of a finished sweep in the format of AlpacaEval: one file of outputs for each trial."""

import json
from collections.abc import Sequence
from pathlib import Path

from neftune_cli.errors import NothingToCompareError
from neftune_cli.evidence.added_metrics import generator_name, held_out_responses
from neftune_cli.records import Generation
from neftune_cli.store import SweepFolder
from neftune_cli.store.files import write_atomically

REFERENCE = "reference"
"""Generator of the references of the data."""


def write_outputs(sweep: SweepFolder, folder: Path) -> tuple[Path, ...]:
    """Write the responses of each finished trial, and the references, below a folder. Return the written files.

    A prompt that occurs twice is written once, because AlpacaEval joins outputs by their instruction.

    Raises:
        NothingToCompareError: no trial has finished with responses.
        OSError: a file cannot be written.

    """
    target = folder / sweep.name
    written = []
    references: dict[str, Generation] = {}
    for trial, record in sweep.finished():
        responses: dict[str, Generation] = {}
        for one in held_out_responses(trial.generations()):
            responses.setdefault(one.prompt, one)
        if responses:
            references = responses
            generator = generator_name(record.arm, record.seed)
            outputs = [(one.prompt, one.response) for one in responses.values()]
            written.append(_write(target / f"{trial.label}.json", outputs, generator, sweep.name))
    if not written:
        raise NothingToCompareError(f"{sweep.path} has no finished trial with responses. Wait for its first trial.")
    outputs = [(one.prompt, one.reference) for one in references.values()]
    return *written, _write(target / f"{REFERENCE}.json", outputs, REFERENCE, sweep.name)


def _write(path: Path, outputs: Sequence[tuple[str, str]], generator: str, dataset: str) -> Path:
    rows = [
        {"instruction": instruction, "output": output, "generator": generator, "dataset": dataset}
        for instruction, output in outputs
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return path
