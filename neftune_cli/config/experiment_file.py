"""Experiment files in YAML: their fields, the line of each field for messages, and the dialect of YAML."""

import json
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
        UsageError: the file cannot be read or is not a YAML mapping, or a field appears twice or is not named by text.
    """
    if path is None:
        return ExperimentFile()
    try:
        loader = UniqueKeyLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        values = loader.construct_document(root) if root else None
        json.dumps(values, default=str)  # refuses a value that contains itself
    except OSError as error:
        raise UsageError(Problem(f"Cannot read {path}: {error.strerror}.", "Use an existing YAML file.")) from None
    except KeyFaultError as error:
        raise UsageError(Problem(f"{path}: the field {error}.", error.fix)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an impossible date
        where = f", line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        what = f"{path}{where}: the file is not valid YAML: {parser_reason(error)}."
        raise UsageError(Problem(what, _FIX)) from None
    if not isinstance(values, dict):
        found = "has a list in place of fields" if isinstance(values, list) else "has no fields"
        raise UsageError(Problem(f"{path} {found}.", _FIX))
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
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(reason.split())


_TEXT_TAG, _MERGE_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_INT_TAG, _FLOAT_TAG = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_NUMBERS = {
    _INT_TAG: re.compile(r"(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    _FLOAT_TAG: re.compile(
        r"(?:[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}
"""The numbers of YAML 1.2, in which underscores may separate digits."""


class NumberLoader(yaml.SafeLoader):
    """Safe loader that reads numbers as YAML 1.2 does.

    In YAML 1.1, `1e-2` is text, `010` is 8, and `1:30` is 90.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return the value of a whole number. Without a prefix it is decimal, whatever its first digit is."""
        text = str(self.construct_scalar(node)).replace("_", "")
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)


class NumberDumper(yaml.SafeDumper):
    """Safe dumper that quotes a text which a loader of YAML 1.1 or NumberLoader would read as a number."""


NumberLoader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
    for start, known in NumberLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    for _yaml_class in (NumberLoader, NumberDumper):
        _yaml_class.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))
NumberLoader.add_constructor(_INT_TAG, NumberLoader.construct_yaml_int)


class UniqueKeyLoader(NumberLoader):
    """Safe loader that refuses a mapping with a key that is repeated or not text.

    PyYAML would keep the last value of a repeated key, and read the key `on` as true. The check precedes the expansion
    of merge keys (`<<`), so that a mapping can override the fields of its anchor.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping; raises a KeyFaultError if it has a key twice, or one that is not text."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.tag not in (_TEXT_TAG, _MERGE_TAG):
                raise KeyFaultError(
                    f"{key.value!r} on line {line} is not text in YAML", f"Put it in quotes: '{key.value}'."
                )
            if first := lines.get(key.value):
                where = f"twice on line {first}" if first == line else f"on line {first} and on line {line}"
                raise KeyFaultError(f"{key.value!r} appears {where}", "Remove one of the two.")
            lines[key.value] = line
        return node


class KeyFaultError(Exception):
    """A mapping has a key twice, or a key that is not text. The message has the key and its lines, counted from 1."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix
