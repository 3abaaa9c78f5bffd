"""Run tasks of lm-evaluation-harness on a model in memory, with the noise off and without the bootstrap.

The package lm_eval is optional, so this module is imported only when there are tasks.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable
from transformers import PreTrainedTokenizerBase

from neftune_cli.evaluation.batches import tokens_at_once
from neftune_cli.evaluation.harness_tasks import LoadedTasks, harness_randomness, warnings_hidden
from neftune_cli.models.language_model import LanguageModel, evaluation_mode

_MOST_REQUESTS = 8
"""Largest number of requests in one pass through the model, whose logits are all kept."""
_PARTS = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
"""Parts of a results file of the harness that are stored. The others have times and paths."""
_CALL = ("limit", "batch_size", "fewshot_seed", "random_seed", "numpy_seed", "torch_seed")
"""Settings of the call that are stored, from the part `config`. The others name the model and its device."""


@dataclass(frozen=True)
class TaskResults:
    """Scores and documents of one model, as lm-evaluation-harness names them."""

    scores: Mapping[str, Any]
    """The parts of its results file that do not change from run to run."""
    documents: tuple[Mapping[str, Any], ...]
    """Its logged samples with the field `task`."""

    def scores_json(self) -> str:
        """Return the scores as JSON."""
        return json.dumps(self.scores, indent=2, ensure_ascii=False, default=handle_non_serializable) + "\n"

    def documents_json(self) -> str:
        """Return a line of JSON for each document and filter."""
        return "".join(
            json.dumps(one, ensure_ascii=False, default=handle_non_serializable) + "\n" for one in self.documents
        )


def run_tasks(model: LanguageModel, tokenizer: PreTrainedTokenizerBase, loaded: LoadedTasks) -> TaskResults:
    """Return the scores of a model and its answer to each document.

    Prompts have no chat template, as by default in the harness. Random generators are the same afterwards as before.

    Args:
        model: the model on its device.
        tokenizer: its tokenizer.
        loaded: tasks that have not been run.
    """
    with harness_randomness(), warnings_hidden(), evaluation_mode(model):
        # a copy, because the harness chooses a token for padding
        harness = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), backend="causal")
        harness.batch_size_per_gpu = requests_at_once(model.device.type, harness.max_length)
        found = simple_evaluate(
            harness,
            tasks=list(loaded.tasks),
            limit=loaded.spec.limit,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=TaskManager(include_defaults=False),
        )
    scores = {part: found[part] for part in _PARTS if part in found}
    call = {name: found["config"].get(name) for name in _CALL}
    documents = ({"task": task, **one} for task, samples in found["samples"].items() for one in samples)
    return TaskResults({**scores, "config": {"model": "hf", **call}}, tuple(documents))


def requests_at_once(device: str, longest: int) -> int:
    """Return the number of requests in one pass through a model of this context length, the same in every trial."""
    return max(1, min(_MOST_REQUESTS, tokens_at_once(device) // longest))
