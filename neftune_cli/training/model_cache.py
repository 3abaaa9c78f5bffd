"""Cache of the model, the data and the tokenized examples, which the trials of a process share."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neftune_cli.config.spec import Affects, InputSpec, SweepSpec, TrialSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import ModelSource, find_model
from neftune_cli.training.hardware import device_kind
from neftune_cli.training.prepared_data import PreparedData, prepare_data

if TYPE_CHECKING:
    from neftune_cli.evaluation.harness_tasks import LoadedTasks, TaskLoader


class ModelCache:
    """Load one model and one data set at first use. Another model or data set replaces the cached one.

    Every method raises `UsageError` if the model or the data cannot be found or read, or do not fit together.
    """

    def __init__(self) -> None:
        self._model_key: object = None
        self._data_key: object = None
        self._source: ModelSource | None = None
        self._data: InstructionData | None = None
        self._loaded: LoadedModel | None = None
        self._prepared: dict[object, PreparedData] = {}
        self._task_loader: TaskLoader | None = None

    def source(self, spec: SweepSpec | TrialSpec) -> ModelSource:
        """Return the source of a spec's model."""
        key = spec.inputs_with(Affects.WEIGHTS)
        if self._source is None or self._model_key != key:
            self._source, self._loaded, self._prepared = None, None, {}
            self._source = find_model(spec.model)
            self._model_key = key
        return self._source

    def data(self, spec: SweepSpec | TrialSpec) -> InstructionData:
        """Return a spec's data."""
        key = spec.inputs_with(Affects.ROWS)
        if self._data is None or self._data_key != key:
            self._data, self._prepared = None, {}
            self._data = load_data(InputSpec(**key))
            self._data_key = key
        return self._data

    def shared_model(self, spec: SweepSpec | TrialSpec) -> LoadedModel:
        """Return a spec's base model. The caller must not change it."""
        source = self.source(spec)
        if self._loaded is None:
            self._loaded = load_model(source, load_in_4bit=spec.load_in_4bit)
        return self._loaded

    def model_copy(self, spec: TrialSpec) -> LoadedModel:
        """Return a copy of a spec's base model, for training. A quantized model is loaded again in place of a copy."""
        if spec.load_in_4bit:
            self._loaded = None  # so that the GPU holds one model at a time
            return load_model(self.source(spec), load_in_4bit=True)
        return copy.deepcopy(self.shared_model(spec))

    def tasks(self, entries: Sequence[str], limit: int | None) -> "LoadedTasks | None":
        """Return newly loaded tasks of lm-evaluation-harness, None without entries. Only their index is cached."""
        if not entries:
            return None
        from neftune_cli.evaluation.harness_tasks import TaskLoader

        self._task_loader = self._task_loader or TaskLoader()
        return self._task_loader.load(entries, limit)

    def prepared_data(self, spec: TrialSpec) -> PreparedData:
        """Return a spec's data, tokenized for its model."""
        source, data = self.source(spec), self.data(spec)
        key = (
            spec.train.max_length,
            spec.evaluation.max_length,
            spec.evaluation.probe_examples,
            *spec.inputs_with(Affects.TOKENS).values(),
        )
        if key not in self._prepared:
            self._prepared[key] = prepare_data(source, self.shared_model(spec), data, spec, device=device_kind())
        return self._prepared[key]
