"""Reads docker-compose.yaml as Compose does: YAML, merges, then variables in texts."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE_FILE, EXAMPLE = ROOT / "docker-compose.yaml", ROOT / ".env.example"
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<text>[^}]*))?\}|)")


class Variable(NamedTuple):
    """One use of a variable: its name, `:-`, `:?` or nothing, and the default or message."""

    name: str
    kind: str
    text: str


class MissingVariable(Exception):
    """A variable that the file demands is not set."""


def raw_file() -> dict[str, Any]:
    """Return the file with its variables as they stand."""
    return copy.deepcopy(_parsed())


@functools.cache
def _parsed() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE_FILE.read_text())


def example() -> dict[str, str]:
    """Return the values of .env.example."""
    lines = EXAMPLE.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def variables() -> list[Variable]:
    """Return every use of a variable."""
    found = []
    for text in _texts(raw_file()):
        for match in _VARIABLE.finditer(text):
            if match["name"]:
                found.append(Variable(match["name"], match["kind"] or "", match["text"] or ""))
    return found


def compose(values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file as Compose sees it with these variables, by default the example's.

    Raises MissingVariable with the file's own message.
    """
    given = example() if values is None else values

    def value_of(match: re.Match[str]) -> str:
        name, kind, text = match["name"], match["kind"], match["text"]
        if not name and match[0] != "$$":
            raise ValueError(
                f"write $$ for a dollar, ${{NAME:?...}} for a variable: {match.string}"
            )
        if not name:
            return "$"
        if given.get(name):
            return given[name]
        if kind == ":-":
            return text
        raise MissingVariable(f"{name}: {text}")

    return _mapped(raw_file(), lambda text: _VARIABLE.sub(value_of, text))


def services() -> dict[str, dict[str, Any]]:
    """Return the services with the example's variables."""
    return compose()["services"]


def environment(service: str = "airflow-scheduler") -> dict[str, str]:
    """Return the environment of a service."""
    return services()[service]["environment"]


def properties(text: str) -> dict[str, str]:
    """The names and values of a Java properties file or a Hadoop XML file."""
    if text.startswith("<?xml"):
        found = ElementTree.fromstring(text).findall("property")
        return {p.findtext("name", ""): p.findtext("value", "") for p in found}
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _mapped(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {name: _mapped(value, change) for name, value in node.items()}
    if isinstance(node, list):
        return [_mapped(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for value in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from _texts(value)
