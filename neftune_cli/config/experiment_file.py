"""Experiment files in YAML: their fields, the line of each field for messages, and the dialect of YAML."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from neftune_cli.errors import Problem, UsageError

VERSION_FIELD = "schema_version"
_FIX = "Use a file such as experiments/ablation.yaml."


@dataclass(frozen=True)
class ExperimentFile:
    """The fields of an experiment file. Without a file there are none."""

    path: Path | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    _root: yaml.Node | None = None

    def prefix(self, *location: str | int) -> str:
        """Return where a field is, at the start of a message: `x.yaml, line 12: `, or `x.yaml: `, or "" without a file.

        Args:
            location: names of the field and of those that contain it, and indices of list items.

        """
        if self.path is None:
            return ""
        in_sft = (*location[:-1], "sft", *location[-1:])  # a resolved experiment has such fields of `train` there
        line = _line(self._root, location) or _line(self._root, in_sft)
        return f"{self.path}, line {line}: " if line else f"{self.path}: "


def read_experiment(path: Path | None) -> ExperimentFile:
    """Return the fields of a file, without its schema version.

    Raises:
        UsageError: the file cannot be read, is not a YAML mapping, or has a field twice.

    """
    if path is None:
        return ExperimentFile()
    try:
        loader = UniqueKeyLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        values = loader.construct_document(root) if root else None
    except OSError as error:
        raise UsageError(Problem(f"Cannot read {path}: {error.strerror}.", "Use an existing YAML file.")) from None
    except RepeatedKeyError as error:
        raise UsageError(Problem(f"{path}: the field {error}.", "Remove one of the two.")) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        where = f", line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        what = f"{path}{where}: the file is not valid YAML: {parser_reason(error)}."
        raise UsageError(Problem(what, _FIX)) from None
    if not isinstance(values, dict):
        raise UsageError(Problem(f"{path} has no fields.", _FIX))
    return ExperimentFile(path, {name: value for name, value in values.items() if name != VERSION_FIELD}, root)


def _line(node: yaml.Node | None, location: tuple[str | int, ...]) -> int | None:
    """Return the line of a field, counted from 1; None if the file does not have the field."""
    line = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(item, item) for item in node.value[part : part + 1]]
        else:
            found = []
        if not found:
            return None
        start, node = found[-1]
        line = start.start_mark.line + 1
    return line


def parser_reason(error: Exception) -> str:
    """Return in one line why the YAML parser refuses a text, for example "mapping values are not allowed here"."""
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(reason.split())


class NumberLoader(yaml.SafeLoader):
    """Safe loader that reads `1e-2` and `1.5e3` as numbers, as YAML 1.2 does. In YAML 1.1 they are text."""


class NumberDumper(yaml.SafeDumper):
    """Safe dumper that quotes a text which NumberLoader would read as a number."""


_FLOAT_TAG = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
for _yaml_class in (NumberLoader, NumberDumper):
    _yaml_class.add_implicit_resolver(_FLOAT_TAG, _EXPONENT, list("-+.0123456789"))


class UniqueKeyLoader(NumberLoader):
    """Safe loader that refuses a mapping with a repeated key, where PyYAML would keep the last value.

    The check precedes the expansion of merge keys (`<<`), so that a mapping can override the fields of its anchor.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping; raises a RepeatedKeyError if it has a key twice."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise RepeatedKeyError(key.value, lines[key.value], line)
            lines[key.value] = line
        return node


class RepeatedKeyError(Exception):
    """A mapping has a key twice. The arguments are the key and its two lines, counted from 1."""

    def __str__(self) -> str:
        """Return the key and its lines, for example "'seeds' appears on line 3 and on line 7"."""
        key, first, second = self.args
        where = f"twice on line {first}" if first == second else f"on line {first} and on line {second}"
        return f"{key!r} appears {where}"
