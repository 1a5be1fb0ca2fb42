"""Raw data of a declaration, which may be of any form, taken as what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.durations import parse_duration


def mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a list as it is, anything else as an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """Return a text as it is, anything else as None."""
    return value if isinstance(value, str) else None


def texts(value: Any) -> list[str]:
    """Return the texts of a list."""
    return [item for item in items(value) if isinstance(item, str)]


def names(owners: list[Any]) -> tuple[str, ...]:
    """Return the names of parts that have one."""
    return tuple(n for owner in owners if isinstance(n := mapping(owner).get("name"), str))


def duration(value: Any) -> timedelta | None:
    """Return a duration, anything else as None."""
    try:
        return parse_duration(value)
    except ValueError:
        return None


@cache
def time_zones() -> tuple[str, ...]:
    """Return the names of all time zones, sorted; to find them takes 10 ms."""
    return tuple(sorted(available_timezones()))


def unique(path: KeyPath, owners: list[Any]) -> Iterator[Problem]:
    """Yield a mistake for each name that stands twice in a list of parts."""
    seen = set()
    for i, owner in enumerate(owners):
        name = mapping(owner).get("name")
        if isinstance(name, str) and name in seen:
            yield Problem((*path, i, "name"), "this name stands twice", name)
        seen.add(name if isinstance(name, str) else i)
