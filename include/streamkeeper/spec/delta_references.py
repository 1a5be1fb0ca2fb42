"""Mistakes of Delta sinks that one key alone does not show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from streamkeeper.spec import raw
from streamkeeper.spec.columns import Columns
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.sinks import HOUR_COLUMN

# A file's partition is a text in Delta's log; of these each value has one text.
PARTITION_TYPES = ("string", "integer", "int32", "boolean")


def delta_problems(
    path: KeyPath, sink: dict[str, Any], data: dict[str, Any], columns: Columns
) -> Iterator[Problem]:
    """Yield the mistakes of one sink.

    Parameters: path, where it stands; sink, as written; data, the raw declaration; columns, of it.
    """
    if sink.get("of", "raw") != "raw":
        yield from _of_hours(path, sink, data, columns)
        yield from _folder(path, sink, data)
        return
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
        yield from _partition((*path, "partition_by", i), name, columns)
    corrects = any("also" in f or "units" in f for f in columns.fields.values())
    for i, name in enumerate(raw.items(sink.get("metadata"))):
        if name == "corrected" and not corrects:
            message = "no field is corrected; declare `units` or `also` of one, or leave this out"
            yield Problem((*path, "metadata", i), message, name)
    yield from _folder(path, sink, data)


def _partition(path: KeyPath, name: str, columns: Columns) -> Iterator[Problem]:
    kind = columns.types.get(name)
    if kind is not None and name not in columns.unclear and kind not in PARTITION_TYPES:
        message = f"a table is parted by texts, whole numbers or booleans, not by {kind}"
        yield Problem(path, message, name)


def _of_hours(
    path: KeyPath, sink: dict[str, Any], data: dict[str, Any], columns: Columns
) -> Iterator[Problem]:
    """Yield the mistakes of a table of a KPI or of anomalies."""
    of = sink.get("of")
    for part in ("columns", "metadata"):
        if part in sink:
            message = "only `of: raw` has this; a KPI's table has all of its columns"
            yield Problem((*path, part), message, sink[part])
    for given in map(raw.mapping, raw.items(data.get("anomalies"))):
        if given.get("name") == of:
            of = str(given.get("of")).partition(".")[0]
    kpis = {str(k.get("name")): k for k in map(raw.mapping, raw.items(data.get("kpis")))}
    kpi = kpis.get(str(of), {})
    keys, measures = raw.texts(kpi.get("by")), list(raw.mapping(kpi.get("measures")))
    for i, name in enumerate(raw.items(sink.get("partition_by"))):
        if kpi and name not in keys:
            yield Problem((*path, "partition_by", i), "is no key of the KPI", name, tuple(keys))
        elif isinstance(name, str):
            yield from _partition((*path, "partition_by", i), name, columns)
    for name in (*keys, *measures) if measures else columns.types:
        if name.lower() == HOUR_COLUMN:
            message = f"the KPI's column {name!r} is one that every such table has; derive one"
            yield Problem((*path, "of"), message, sink["of"])


def _folder(path: KeyPath, sink: dict[str, Any], data: dict[str, Any]) -> Iterator[Problem]:
    table = raw.text(sink.get("path"))
    lake = raw.text(raw.mapping(data.get("lake")).get("path"))
    if not (table and lake):
        return
    one, other = PurePosixPath(table), PurePosixPath(lake)
    if one.is_relative_to(other) or other.is_relative_to(one):
        message = f"lies in one another with lake.path {lake}; a table has a folder of its own"
        yield Problem((*path, "path"), message, table)
