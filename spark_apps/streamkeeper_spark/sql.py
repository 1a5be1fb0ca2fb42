"""Small pieces of Spark SQL."""

from __future__ import annotations

from collections.abc import Iterable

from streamkeeper.spec.pieces import text_literal

TEXT = "CAST(_value AS string)"
"""The message as a text: the same bytes, at no cost."""


def quoted(*names: str) -> str:
    """Return a column's name, or the way into a struct, in backticks."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def all_of(conditions: Iterable[str]) -> str:
    """Return the condition that all of these hold; true if there are none."""
    return " AND ".join(f"({c})" for c in conditions) or "true"


def any_of(conditions: Iterable[str]) -> str:
    """Return the condition that one of these holds; false if there are none."""
    return " OR ".join(f"({c})" for c in conditions) or "false"


def known(condition: str) -> str:
    """Return a condition that counts as false where it is null."""
    return f"coalesce({condition}, false)"


def matches(text: str, pattern: str) -> str:
    """Return the condition that a whole text has a form, given as a regular expression of Java.

    Numbers of repetitions are possessive where a text may be long: others take Java's stack.
    """
    return f"{text} RLIKE {text_literal(f'^(?:{pattern})' + chr(92) + 'z')}"


def let(name: str, value: str, body: str) -> str:
    """Return `body`, in which `name` is a value that is computed once.

    Spark does not compile it, which is slow; so it serves for bad records only, whose part of the
    code would otherwise make that of good ones too large for the JVM to compile well.
    """
    return f"element_at(transform(array({value}), {name} -> {body}), 1)"


def shown(value: str, length: int = 80) -> str:
    """Return the beginning of a value as a text, for a message."""
    return f"substring(CAST({value} AS string), 1, {length})"
