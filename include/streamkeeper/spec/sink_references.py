"""Mistakes of a declaration's sinks that one key alone does not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamkeeper.connections.postgres import CONNECTION
from streamkeeper.spec import raw
from streamkeeper.spec.columns import Columns
from streamkeeper.spec.delta_references import delta_problems
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.postgres_references import postgres_problems

_RAW_KEYS = ("partition_by", "cluster_by", "columns")
RAW = "raw"


def sink_problems(data: dict[str, Any], columns: Columns) -> Iterator[Problem]:
    """Yield the mistakes of the sinks.

    Parameters: data, the raw declaration; columns, its columns.
    """
    windows = raw.items(data.get("windows"))
    tables: set[tuple[str | None, ...]] = set()
    kinds = [raw.mapping(sink).get("kind") for sink in raw.items(data.get("sinks"))]
    for i, given in enumerate(raw.items(data.get("sinks"))):
        sink, path = raw.mapping(given), ("sinks", i)
        of = sink.get("of", RAW)
        valid, problems = _rows_of(path, sink, data)
        yield from problems
        table = _table(sink)
        if table[-1] and table in tables:
            key = "path" if sink.get("kind") == "delta" else "table"
            yield Problem((*path, key), "two sinks write this table", table[-1])
        tables.add(table)
        if sink.get("kind") == "metrics":
            for j, name in enumerate(raw.items(sink.get("counts"))):
                yield from columns.known((*path, "counts", j), name)
            if "metrics" in kinds[:i]:
                yield Problem(path, "a stream has one sink of metrics; put its columns together")
            continue
        yield from columns.known((*path, "counts"), sink.get("counts"))
        if "counts" in sink and of != RAW:
            message = "only landed rows are counted; leave `of` out, or this"
            yield Problem((*path, "counts"), message, sink["counts"])
        if "counts" in sink and "every" in sink:
            message = "every batch is counted; leave this out, or `counts`"
            yield Problem((*path, "every"), message, sink["every"])
        if sink.get("kind") == "delta":
            yield from delta_problems(path, sink, data, columns)
        elif sink.get("kind") == "cassandra" and of == RAW:
            yield from _raw_table(path, sink, columns)
        elif sink.get("kind") == "cassandra" and of in valid:
            window = next(w for w in windows if raw.mapping(w).get("name") == of)
            yield from _window_table(path, sink, raw.texts(window.get("by")), columns)
        elif sink.get("kind") == "postgresql" and of in valid:
            named = (w for w in windows if of != RAW and raw.mapping(w).get("name") == of)
            yield from postgres_problems(path, sink, next(named, None), columns)


def _rows_of(
    path: KeyPath, sink: dict[str, Any], data: dict[str, Any]
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return what a sink may write, and what is wrong with what it names."""
    closed = tuple(n for key in ("kpis", "anomalies") for n in raw.names(raw.items(data.get(key))))
    windows = raw.names(raw.items(data.get("windows")))
    valid = (RAW, *(closed if sink.get("kind") == "delta" else windows))
    of = sink.get("of", RAW)
    if not isinstance(of, str) or of in valid:
        return valid, []
    message = "no such rows to write"
    if of in closed:
        message = "KPIs and anomalies are written into Delta tables only, `kind: delta`"
    elif of in windows:
        message = "windows are not written into Delta tables"
    return valid, [Problem((*path, "of"), message, of, valid)]


def _table(sink: dict[str, Any]) -> tuple[str | None, ...]:
    """Return what tells the table of a sink from all others; its name comes last."""
    table = raw.text(sink.get("table"))
    if sink.get("kind") == "delta":
        return ("delta", raw.text(sink.get("path")))
    if sink.get("kind") != "postgresql":
        return (raw.text(sink.get("kind")), raw.text(sink.get("keyspace")), table)
    schema, _, name = (table or "").rpartition(".")
    connection = raw.text(sink.get("connection")) or CONNECTION
    return ("postgresql", connection, schema or "public", name or None)


def _raw_table(path: KeyPath, sink: dict[str, Any], columns: Columns) -> Iterator[Problem]:
    for part in _RAW_KEYS:
        for i, name in enumerate(raw.items(sink.get(part))):
            yield from columns.known((*path, part, i), name)
    partition, cluster = (raw.texts(sink.get(part)) for part in _RAW_KEYS[:2])
    if not partition and not raw.items(sink.get("partition_by")):
        message = "landed rows need `partition_by`, the fields of the table's partition key"
        yield Problem(path, message, valid=tuple(columns.types))
    keys = [*partition, *cluster]
    for name in dict.fromkeys(k for k in keys if keys.count(k) > 1):
        yield Problem(path, "stands twice in the primary key", name)
    written = raw.texts(sink.get("columns"))
    for name in dict.fromkeys(keys):
        if written and name not in written:
            message = f"the key {name!r} must be one of the columns"
            yield Problem((*path, "columns"), message, written)
    yield from _never_null(path, keys, columns)


def _window_table(
    path: KeyPath, sink: dict[str, Any], keys: list[str], columns: Columns
) -> Iterator[Problem]:
    for part in _RAW_KEYS:
        if part in sink:
            message = "only `of: raw` has this; a window's table has the keys of its `by`"
            yield Problem((*path, part), message, sink[part])
    yield from _never_null(path, keys, columns)


def _never_null(path: KeyPath, keys: list[str], columns: Columns) -> Iterator[Problem]:
    for name in dict.fromkeys(keys):
        if name in columns.fields and not columns.required(name):
            message = "is a key of the table and may be null; add `required: true` to this field"
            yield Problem(path, message, name)
        elif name in columns.types and name not in columns.fields:
            message = "is a key of the table and derived, so it may be null; take a required field"
            yield Problem(path, message, name)
