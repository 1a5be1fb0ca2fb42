"""Mistakes of Delta sinks that one key alone does not show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from streamkeeper.spec import raw
from streamkeeper.spec.columns import Columns
from streamkeeper.spec.document import KeyPath, Problem

# A file's partition is a text in Delta's log; of these each value has one text.
PARTITION_TYPES = ("string", "integer", "int32", "boolean")


def delta_problems(
    path: KeyPath, sink: dict[str, Any], data: dict[str, Any], columns: Columns
) -> Iterator[Problem]:
    """Yield the mistakes of one sink.

    Parameters: path, where it stands; sink, as written; data, the raw declaration; columns, of it.
    """
    for part in ("partition_by", "columns"):
        given = raw.items(sink.get(part))
        for i, name in enumerate(given):
            yield from columns.known((*path, part, i), name)
            if name in given[:i]:
                yield Problem((*path, part, i), "stands twice", name)
    written = raw.texts(sink.get("columns"))
    for i, name in enumerate(raw.texts(sink.get("partition_by"))):
        if written and name not in written:
            message = f"the table is parted by {name!r}, which must be one of the columns"
            yield Problem((*path, "columns"), message, written)
        kind = columns.types.get(name)
        if kind is not None and name not in columns.unclear and kind not in PARTITION_TYPES:
            message = f"a table is parted by texts, whole numbers or booleans, not by {kind}"
            yield Problem((*path, "partition_by", i), message, name)
    yield from _folder(path, sink, data)


def _folder(path: KeyPath, sink: dict[str, Any], data: dict[str, Any]) -> Iterator[Problem]:
    table = raw.text(sink.get("path"))
    lake = raw.text(raw.mapping(data.get("lake")).get("path"))
    if not (table and lake):
        return
    one, other = PurePosixPath(table), PurePosixPath(lake)
    if one.is_relative_to(other) or other.is_relative_to(one):
        message = f"lies in one another with lake.path {lake}; a table has a folder of its own"
        yield Problem((*path, "path"), message, table)
