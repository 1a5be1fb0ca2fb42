"""Options of a connection: known ones only, each with a value that it can have."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from streamkeeper.errors import SettingsError
from streamkeeper.redaction import is_secret


@dataclass(frozen=True)
class Option:
    """An option: what it is for, and its values where only some are valid."""

    about: str
    values: tuple[str, ...] = ()


def read_options(
    connection: str,
    given: Mapping[str, Any],
    known: Mapping[str, Option],
    *,
    ignored: Collection[str] = (),
) -> dict[str, str]:
    """Return the options that are known, as texts.

    Parameters: connection, its name for messages; given, as written; known, what is valid;
    ignored, names that are meant for others.
    Raises SettingsError for an unknown name, and for a value that an option cannot have.
    """
    found = {}
    for name, value in given.items():
        if name in ignored or value is None:
            continue
        if name not in known:
            raise SettingsError(_unknown(connection, name, known))
        found[name] = _value(connection, name, value, known[name])
    return found


def _unknown(connection: str, name: str, known: Mapping[str, Option]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    text = f"the connection {connection!r} has the unknown option {name!r}; valid: "
    return text + ", ".join(known) + (f"; did you mean {near[0]!r}?" if near else "")


def _value(connection: str, name: str, value: Any, option: Option) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, dict | list):
        raise SettingsError(
            f"the connection {connection!r}: {name} is a {type(value).__name__}; write one text"
        )
    by_lower = {v.lower(): v for v in option.values}
    if option.values and text.lower() not in by_lower:
        shown = "***" if is_secret(name) else repr(text)
        raise SettingsError(
            f"the connection {connection!r}: {name} is {shown}; valid: {', '.join(option.values)}"
        )
    return by_lower.get(text.lower(), text)


def refuse_both(connection: str, found: Mapping[str, Any], *names: str) -> None:
    """Raise SettingsError when more than one of these options is given."""
    both = [name for name in names if name in found]
    if len(both) > 1:
        raise SettingsError(
            f"the connection {connection!r} has {' and '.join(both)}, which say the same thing "
            "in two ways; keep one of them"
        )


def need_together(connection: str, found: Mapping[str, Any], *names: str) -> None:
    """Raise SettingsError when one of these options is given without the others."""
    missing = [name for name in names if name not in found]
    if missing and len(missing) < len(names):
        there = ", ".join(name for name in names if name in found)
        raise SettingsError(
            f"the connection {connection!r} has {there} but not {', '.join(missing)}; "
            "add it, or take the others away"
        )
