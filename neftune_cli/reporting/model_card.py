"""Model card of a kept model: the verdict about its arm, its recipe, its data, and the commands that made it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath
from typing import Any

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.comparison import ComparedEvidence
from neftune_cli.config.choices import LORA_SETTINGS
from neftune_cli.config.process import arguments_of
from neftune_cli.records import TrialRecord
from neftune_cli.reporting.checklist.design import with_one_length
from neftune_cli.reporting.markdown import comparison_tables
from neftune_cli.reporting.sanitizing import markdown_text
from neftune_cli.store.manifest import Manifest


@dataclass(frozen=True)
class CardFacts:
    """Facts about a kept model that its card states."""

    record: TrialRecord
    spec: Mapping[str, Any]
    """Content of the trial's `spec.json`, without the version of the format."""
    manifest: Manifest
    compared: ComparedEvidence
    base_model: str | None
    """Id of the base model on the Hub, None if the base model is a local one."""
    dataset: str | None
    """Id of the data set on the Hub, None if the data are local."""
    is_adapter: bool

    @property
    def base_folder(self) -> str:
        """Return the name of the folder of the base model, without the folders that contain it."""
        return PurePath(self.spec["model"]).name


def model_card(facts: CardFacts, title: str, repository: str | None) -> str:
    """Return the card of a model in a repository, or in a folder. Local files are named without their folders."""
    return "\n\n".join([_header(facts), *_paragraphs(facts, title, repository)]) + "\n"


def _header(facts: CardFacts) -> str:
    import yaml

    fields = {
        "base_model": facts.base_model,
        "datasets": [facts.dataset] if facts.dataset else None,
        "library_name": "peft" if facts.is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": [*(["neftune"] if facts.record.alpha else []), "sft", *(["lora"] if facts.is_adapter else [])],
    }
    text = yaml.safe_dump({key: value for key, value in fields.items() if value}, sort_keys=False)
    return f"---\n{text}---"


def _paragraphs(facts: CardFacts, title: str, repository: str | None) -> Iterator[str]:
    yield f"# {markdown_text(title)}"
    yield _summary(facts)
    yield "## Use"
    yield _fenced(_loading(repository), "python")
    if facts.is_adapter and not facts.base_model:
        yield (
            f"The base model, {markdown_text(facts.base_folder)}, is not included, and it is not known whether the Hub "
            f"has it. Copy it to a subfolder `{facts.base_folder}` of this folder and run Python in this folder, or "
            "set `base_model_name_or_path` in `adapter_config.json` to the path or the Hub id of the base model. Its "
            "fingerprint is listed under Origin."
        )
    yield "## Comparison of the arms"
    yield (
        f"This model is from one training run of the arm `{facts.record.arm}`. The comparison is about all trials of "
        "the sweep, with the noise turned off, on held-out examples."
    )
    yield from comparison_tables(facts.compared.comparison)
    yield markdown_text(advice(facts.compared.comparison))
    yield "## Recipe"
    recipe = facts.spec.get("train")
    spec = {**facts.spec, "train": with_one_length(recipe)} if isinstance(recipe, Mapping) else facts.spec
    yield _fenced(_without_folders(spec), "yaml")
    if facts.is_adapter:
        yield markdown_text(f"{LORA_SETTINGS}.")
    yield "## Origin"
    yield "\n".join(f"- {label}: {text}" for label, text in _origin(facts))


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _summary(facts: CardFacts) -> str:
    record = facts.record
    if record.alpha:
        noise = f"with NEFTune embedding noise, alpha {record.alpha:g}"
        contained = (
            "Noise was added to the embeddings during training only: neither the weights nor the configuration contain "
            "it. "
        )
    else:
        noise, contained = "without embedding noise", ""
    kind = "A LoRA adapter for" if facts.is_adapter else "All weights of"
    packages = "transformers and peft are" if facts.is_adapter else "transformers is"
    return markdown_text(
        f"{kind} {_file_name(facts.spec['model'])}, fine-tuned on {_file_name(facts.spec['dataset'])} {noise} "
        f"(arm {record.arm}, seed {record.seed}). Held-out loss: {record.loss.eval_loss:.4f} nats per completion "
        f"token. {contained}To load the model, {packages} sufficient. The license of the base model applies."
    )


def _loading(name: str | None) -> str:
    return (
        "from transformers import pipeline\n\n"
        f'generate = pipeline("text-generation", {json.dumps(name or ".")}){"" if name else "  # this folder"}\n'
        'print(generate([{"role": "user", "content": "..."}])[0]["generated_text"][-1]["content"])'
    )


def _origin(facts: CardFacts) -> Iterator[tuple[str, str]]:
    manifest, identity = facts.manifest, facts.record.identity
    yield "command", f"`{shared_command(manifest.command)}`" if manifest.command else "unknown"
    yield "trial", f"`{facts.record.trial}`"
    yield "fingerprint of the base model", f"`{identity.get('model')}`"
    yield "fingerprint of the data", f"`{identity.get('data')}`"
    if manifest.started:
        yield "started", manifest.started
    if manifest.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    if hardware := manifest.hardware:
        precision = identity.get("environment", {}).get("precision")
        known = {"device": hardware.device, "gpus": hardware.gpus, "precision": precision}
        yield "hardware", ", ".join(f"{name} {value}" for name, value in known.items() if value)


def shared_command(arguments: Sequence[str]) -> str:
    """Return a command line as `neftune ...`, with the names of files in place of absolute paths.

    >>> shared_command(["/venv/bin/python", "-m", "neftune_cli", "sweep", "--dataset=/home/me/mine.jsonl"])
    'neftune sweep --dataset=mine.jsonl'
    """
    return shlex.join(["neftune", *map(_shared_argument, arguments_of(arguments))])


def _shared_argument(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{_file_name(value)}"


def _file_name(value: str) -> str:
    """Return the name of a file or folder given by an absolute or a home path; all else as it is."""
    is_path = value.startswith(("/", "~")) or PureWindowsPath(value).is_absolute()
    return PurePath(value).name or value if is_path else value


def _without_folders(spec: Mapping[str, Any]) -> str:
    import yaml

    def shared(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: shared(one) for key, one in value.items() if one not in (None, {})}
        return _file_name(value) if isinstance(value, str) else value

    return str(yaml.safe_dump(shared(spec), sort_keys=False))
