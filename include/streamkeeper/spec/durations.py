"""Durations such as `30s`, `5 min`, `1h`, `7 days`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_ALIASES = {"sec": "s", "m": "min", "day": "d", "days": "d", "hour": "h", "hours": "h"}
_TEXT = re.compile(r"^\s*(\d{1,9})\s*([a-z]{1,5})\s*$")


def parse_duration(value: object) -> timedelta:
    """Read a duration.

    Parameters: value, a text of a whole number and a unit (ms, s, min, h, d), or a timedelta.
    Raises ValueError for anything else.
    """
    if isinstance(value, timedelta):
        return value
    match = _TEXT.match(value) if isinstance(value, str) else None
    unit = _ALIASES.get(match[2], match[2]) if match else None
    if match is None or unit not in _UNITS:
        raise ValueError(
            "a duration is a whole number and a unit: ms, s, min, h or d; for example 30s"
        )
    return int(match[1]) * _UNITS[unit]


def format_duration(value: timedelta) -> str:
    """Write a duration with the largest unit that divides it."""
    for unit in ("d", "h", "min", "s"):
        if value % _UNITS[unit] == timedelta(0):
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value // _UNITS['ms']}ms"
