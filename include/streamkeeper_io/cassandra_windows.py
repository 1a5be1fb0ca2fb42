"""Windows in Cassandra, read by whole partition keys: those that a stream's readings tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any

import pyarrow as pa
from cassandra import DriverException, InvalidRequest
from cassandra.concurrent import execute_concurrent_with_args

from streamkeeper.dashboards import Span
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.cassandra import AWAY, session, unavailable
from streamkeeper_io.cassandra_sinks import START, window_table
from streamkeeper_io.cassandra_tables import quoted

MOST_PARTITIONS = 2_000
_AT_ONCE = 32


def cassandra_sink(spec: Spec, window: str) -> CassandraSink | None:
    """Return the Cassandra sink of a window's rows; None if there is none."""
    found = (s for s in spec.sinks if isinstance(s, CassandraSink) and s.of == window)
    return next(found, None)


def partitions(keys: Sequence[tuple[Any, ...]], span: Span) -> list[tuple[Any, ...]]:
    """Return the partition keys of some keys' windows that begin within a time: keys and day."""
    first, last = (at.astimezone(UTC).date() for at in (span.begin, span.end))
    days: list[date] = [first + n * timedelta(days=1) for n in range((last - first).days + 1)]
    return [(*key, day) for key in keys for day in days]


def read_windows(
    settings: Settings, spec: Spec, sink: CassandraSink, keys: Sequence[tuple[Any, ...]], span: Span
) -> pa.Table:
    """Return the rows of windows that begin within a time, of some keys.

    Parameters: keys, values of the window's `by` fields. Raises CassandraUnavailable.
    """
    table = window_table(spec, sink)
    chosen = [name for name in table.names if name not in ("day", "window_end")]
    where = " AND ".join(f"{quoted(name)} = ?" for name in table.partition)
    text = (
        f"SELECT {', '.join(map(quoted, chosen))} FROM {table.full_name} WHERE {where} "
        f"AND {quoted(START)} >= ? AND {quoted(START)} < ?"
    )
    asked = [(*partition, span.begin, span.end) for partition in partitions(keys, span)]
    columns: list[list[Any]] = [[] for _ in chosen]
    try:
        with session(settings) as opened:
            answers = execute_concurrent_with_args(
                opened, opened.prepare(text), asked, concurrency=_AT_ONCE
            )
            for _, rows in answers:
                for row in rows:
                    for column, value in zip(columns, row, strict=True):
                        column.append(value)
    except InvalidRequest:
        # The sink has not made its keyspace or table yet.
        columns = [[] for _ in chosen]
    except (DriverException, *AWAY) as error:
        raise unavailable(settings.cassandra, error) from error
    # Cassandra's driver tells times without a zone, in UTC.
    types = {START: pa.timestamp("ms")}
    found = pa.table({n: pa.array(c, types.get(n)) for n, c in zip(chosen, columns, strict=True)})
    place = found.column_names.index(START)
    return found.set_column(place, START, found[START].cast(pa.timestamp("us", "UTC")))
