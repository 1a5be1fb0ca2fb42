"""Rows as CSV: RFC 4180 with a header line; null is nothing, an empty text is quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

_QUOTED = re.compile(r'[",\r\n]|^\s|\s$|^$')


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV.

    Numbers have all their digits; instants are UTC, as `2026-11-24T14:00:00.5Z`.
    """
    return csv_line(columns) + "".join(csv_line(map(_cell, row)) for row in rows)


def csv_line(cells: Iterable[str | None]) -> str:
    """Return texts as a line of CSV with its end; None is nothing, an empty text is quoted."""
    return ",".join("" if cell is None else _text(cell) for cell in cells) + "\n"


def _cell(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        instant = value.astimezone(UTC) if value.tzinfo else value
        return instant.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, Decimal):
        # str() writes small ones as 1E-8.
        return format(value, "f")
    return str(value)


def _text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if _QUOTED.search(value) else value
