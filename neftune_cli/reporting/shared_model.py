"""Files of a shared model: those of a kept model, and a card."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neftune_cli.analysis.comparison import ComparedEvidence, compare_sweep
from neftune_cli.errors import Problem, UsageError
from neftune_cli.records import TrialRecord
from neftune_cli.reporting.model_card import CardFacts, model_card
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.manifest import Manifest

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""OWNER/NAME on the Hub."""
Files = Mapping[str, Path | bytes]
"""Files of a shared model by name: a file of the kept model, or other content."""
_CARD = "README.md"
_ADAPTER, _BASE = "adapter_config.json", "base_model_name_or_path"


def shared_files(sweep: SweepFolder, folder: TrialFolder, record: TrialRecord, to: str | None) -> Files:
    """Return the files of the model with its card.

    An adapter names its base model by its id on the Hub. If the base model is a local one, it names a subfolder of the
    shared folder, into which it can be copied: the place on this machine would mean nothing elsewhere.

    Args:
        sweep: results folder of the sweep.
        folder: folder of the trial with the kept model.
        record: record of the trial.
        to: repository on the Hub for the model, OWNER/NAME; None if it is not uploaded.

    Raises:
        UsageError: the spec of the trial is missing, or an adapter to upload belongs to a local model.
    """
    spec, manifest, kept = folder.spec(), sweep.manifest(), folder.model_path
    if "model" not in spec:
        raise UsageError(Problem(f"{folder.path} has no valid spec.json.", "Restore it, or train this arm again."))
    base = _hub_id(spec["model"], manifest)
    facts = CardFacts(
        record=record,
        spec={key: value for key, value in spec.items() if key != "schema_version"},
        manifest=manifest,
        compared=_comparison(sweep, record.arm),
        base_model=base,
        dataset=_hub_id(spec.get("dataset"), manifest),
        is_adapter=(kept / _ADAPTER).is_file(),
    )
    files: dict[str, Path | bytes] = {
        str(one.relative_to(kept)): one for one in sorted(kept.rglob("*")) if one.is_file()
    }
    if facts.is_adapter and base:
        files[_ADAPTER] = _portable_adapter(kept / _ADAPTER, base)
    elif facts.is_adapter and to:
        what = f"--to {to}: the adapter's base model '{spec.get('model')}' is not on the Hub."
        raise UsageError(Problem(what, "Train with --model OWNER/NAME, or without --lora-rank, or use --output DIR."))
    elif facts.is_adapter:
        files[_ADAPTER] = _with_base_beside_it(kept / _ADAPTER, facts.base_folder)
    files[_CARD] = model_card(facts, to or f"{sweep.name}: {record.arm}, seed {record.seed}", to).encode()
    return files


def _comparison(sweep: SweepFolder, arm: str) -> ComparedEvidence:
    compared = compare_sweep(sweep)
    return next((one for one in compared if any(arm == known.name for known in one.comparison.arms)), compared[0])


def _hub_id(name: Any, manifest: Manifest) -> str | None:
    """Return a name of the form OWNER/NAME that is no folder or file here, nor where the sweep was started."""
    if not isinstance(name, str) or not REPOSITORY.fullmatch(name):
        return None
    places = (Path(name), Path(manifest.directory) / name)
    return None if any(place.exists() for place in places) else name


def _portable_adapter(path: Path, base: str) -> bytes:
    """Return an adapter's configuration with the id and the commit of its base model, in place of a cached copy."""
    values = json.loads(path.read_bytes())
    commit = re.search(r"/snapshots/([0-9a-f]{40})/?$", str(values.get(_BASE)))
    changes = {_BASE: base, **({"revision": commit[1]} if commit else {})}
    return json.dumps({**values, **changes}, indent=2).encode()


def _with_base_beside_it(path: Path, folder: str) -> Path | bytes:
    """Return an adapter's configuration with a relative path of its base model, in place of the one on this machine."""
    values = json.loads(path.read_bytes())
    if not Path(str(values.get(_BASE))).is_absolute():
        return path
    return json.dumps({**values, _BASE: f"./{folder}"}, indent=2).encode()
