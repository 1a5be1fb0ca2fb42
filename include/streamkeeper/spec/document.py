"""A YAML document read with the line of every key, and nothing in it that could run or explode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_DEPTH = 50
_TOO_DEEP = "the file is nested too deep"
# libyaml's parser is an order of magnitude faster, and DAG parsing reads every declaration; it has
# no guard against deep nesting, so the depth is counted first.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Problem:
    """A mistake and where it stands: the path of keys, or a line alone.

    asked: the name within the value that is none of the valid ones.
    """

    path: KeyPath
    message: str
    value: Any = None
    valid: tuple[str, ...] = ()
    line: int | None = None
    asked: str = ""


@dataclass(frozen=True)
class Document:
    """Plain data, the line (from 1) of every path in it, and what was wrong with its form."""

    data: Any
    lines: dict[KeyPath, int]
    problems: tuple[Problem, ...]


class _Reader:
    """Turns YAML nodes into data; collects the lines and the problems on its way."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path, "a key must be a plain text", line=line))
                continue
            key = key_node.value
            if key in found:
                first = self.lines[(*path, key)]
                message = f"this key stands twice; it stands first in line {first}"
                self.problems.append(Problem((*path, key), message, line=line))
                continue
            self.lines[(*path, key)] = line
            found[key] = self.read(child, (*path, key))
        return found

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self.problems.append(
                Problem(path, f"a value of the kind {node.tag} is not read; write a plain value")
            )
            return None


def read_document(text: str) -> Document:
    """Read a YAML text.

    Anchors and aliases are refused (they can make a small file huge), as are tags and a second
    document. Returns data None with one problem when the text is no YAML.
    """
    if len(text) > MAX_BYTES:
        return Document(None, {}, (Problem((), f"the file is larger than {MAX_BYTES} bytes"),))
    try:
        refused = _refused(text)
        node = None if refused else yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark
        message = f"this is not YAML: {error.problem or error.context}"
        if "nesting depth" in message:  # libyaml's own guard, which is for brackets only
            message = _TOO_DEEP
        refused = Problem((), message, line=mark and mark.line + 1)
    except yaml.YAMLError as error:
        refused = Problem((), f"this is not YAML: {error}")
    if refused is not None:
        return Document(None, {}, (refused,))
    reader = _Reader()
    data = reader.read(node, ()) if node is not None else {}
    return Document(data, reader.lines, tuple(reader.problems))


def _refused(text: str) -> Problem | None:
    """Return what forbids to read the document at all, found without building it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        mark: Any = event.start_mark
        line = mark.line + 1
        if depth > MAX_DEPTH:
            return Problem((), _TOO_DEEP, line=line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            message = "anchors and aliases (& and *) are not read; write the value out"
            return Problem((), message, line=line)
    return None
