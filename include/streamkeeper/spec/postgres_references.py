"""Mistakes of PostgreSQL sinks that one key alone does not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from streamkeeper import names
from streamkeeper.spec import raw
from streamkeeper.spec.columns import Columns
from streamkeeper.spec.document import KeyPath, Problem

NAME_BYTES = 63
"""PostgreSQL cuts longer names off without a word."""
RESERVED_TABLES = "streamkeeper_"
_SYSTEM_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
_RAW_KEYS = ("key", "columns", "metadata")
# Bytes of a row that cannot be moved out of its page of 8 KiB.
_ROW_BYTES, _OWN_BYTES = 7_800, 80
_WIDTHS = {"integer": 8, "double": 8, "timestamp": 8, "int32": 4, "float": 4, "boolean": 1}
_OTHER_WIDTH = 24


def postgres_problems(
    path: KeyPath, sink: dict[str, Any], window: dict[str, Any] | None, columns: Columns
) -> Iterator[Problem]:
    """Yield the mistakes of one sink.

    Parameters: path, where it stands; sink, as written; window, whose rows it writes, None for
    landed rows; columns, of the declaration.
    """
    table = (raw.text(sink.get("table")) or "").rpartition(".")[2]
    if table.startswith(RESERVED_TABLES):
        yield Problem((*path, "table"), "is a name for Streamkeeper's own tables", table)
    if window is None:
        yield from _raw_table(path, sink, columns)
    else:
        for part in _RAW_KEYS:
            if part in sink:
                message = "only `of: raw` has this; a window's table has the keys of its `by`"
                yield Problem((*path, part), message, sink[part])
    written = _written(sink, window, columns)
    yield from _names(path, written)
    yield from _indexes(path, sink, written)
    width = sum(_WIDTHS.get(columns.types.get(n, ""), _OTHER_WIDTH) for n in written) + _OWN_BYTES
    if width > _ROW_BYTES:
        message = "a row may be longer than PostgreSQL's page of 8 KiB; write fewer `columns`"
        yield Problem(path, message, len(written))


def _written(
    sink: dict[str, Any], window: dict[str, Any] | None, columns: Columns
) -> tuple[str, ...]:
    if window is not None:
        return (
            *raw.texts(window.get("by")),
            *("window_start", "window_end"),
            *raw.mapping(window.get("measures")),
            *(names.CLOSED, names.WRITE_NUMBER),
        )
    declared = raw.texts(sink.get("columns")) or tuple(columns.types)
    own = [f"_{name}" for name in raw.texts(sink.get("metadata"))]
    coordinates = () if raw.texts(sink.get("key")) else names.COORDINATES
    return tuple(dict.fromkeys((*coordinates, *own, *declared, names.WRITE_NUMBER)))


def _raw_table(path: KeyPath, sink: dict[str, Any], columns: Columns) -> Iterator[Problem]:
    for part in ("key", "columns"):
        given = raw.items(sink.get(part))
        for i, name in enumerate(given):
            yield from columns.known((*path, part, i), name)
            if name in given[:i]:
                yield Problem((*path, part, i), "stands twice", name)
    written = raw.texts(sink.get("columns"))
    for name in dict.fromkeys(raw.texts(sink.get("key"))):
        if written and name not in written:
            message = f"the key {name!r} must be one of the columns"
            yield Problem((*path, "columns"), message, written)
        if name in columns.types and not columns.required(name):
            message = "is a key of the table and may be null; take a field with `required: true`"
            yield Problem((*path, "key"), message, name)


def _names(path: KeyPath, written: Sequence[str]) -> Iterator[Problem]:
    for name in written:
        if len(name.encode()) > NAME_BYTES:
            message = f"PostgreSQL's names have at most {NAME_BYTES} bytes"
            yield Problem(path, message, name)
        if name in _SYSTEM_COLUMNS:
            yield Problem(path, "every table of PostgreSQL has a column of this name", name)


def _indexes(path: KeyPath, sink: dict[str, Any], written: Sequence[str]) -> Iterator[Problem]:
    indexes = raw.items(sink.get("indexes"))
    for i, given in enumerate(indexes):
        if given in indexes[:i]:
            yield Problem((*path, "indexes", i), "stands twice", given)
        for j, name in enumerate(raw.items(given)):
            if isinstance(name, str) and name not in written:
                message = "the table has no such column"
                yield Problem((*path, "indexes", i, j), message, name, tuple(written))
