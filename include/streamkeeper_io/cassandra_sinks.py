"""The Cassandra tables of a stream's sinks, made from its declaration."""

from __future__ import annotations

import math

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.field_types import FieldType
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.cassandra_tables import CassandraTable

DAY, START, END = "day", "window_start", "window_end"
_TYPES = {
    "string": "text",
    "integer": "bigint",
    "int32": "int",
    "double": "double",
    "float": "float",
    "boolean": "boolean",
    "timestamp": "timestamp",
}


def window_table(spec: Spec, sink: CassandraSink) -> CassandraTable:
    """Return the table of a window's rows: the keys and the day, then the window's start.

    Raises StreamkeeperError when a key may be null, which Cassandra's keys may not.
    """
    window = spec.window(sink.of)
    optional = [name for name in window.by if not spec.fields[name].required]
    if optional:
        raise StreamkeeperError(
            f"{spec.name}: the sink {sink.keyspace}.{sink.table} has the keys "
            f"{', '.join(optional)}, which may be null; add `required: true` to these fields"
        )
    keys = tuple((name, cql_type(spec.fields[name].type)) for name in window.by)
    measures = tuple((name, cql_type(m.type)) for name, m in window.measures.items())
    times = ((DAY, "date"), (START, "timestamp"), (END, "timestamp"))
    return CassandraTable(
        sink.keyspace,
        sink.table,
        (*keys, *times, *measures),
        (*window.by, DAY),
        (START,),
        ttl_s=_seconds(sink),
    )


def raw_table(spec: Spec, sink: CassandraSink) -> CassandraTable:
    """Return the table of landed rows, keyed as declared; its clustering columns run upwards."""
    columns = spec.columns()
    return CassandraTable(
        sink.keyspace,
        sink.table,
        tuple((name, cql_type(columns[name])) for name in sink.columns or columns),
        sink.partition_by,
        sink.cluster_by,
        ttl_s=_seconds(sink),
        newest_first=False,
    )


def sink_table(spec: Spec, sink: CassandraSink) -> CassandraTable:
    """Return the table of a sink."""
    return raw_table(spec, sink) if sink.of == "raw" else window_table(spec, sink)


def _seconds(sink: CassandraSink) -> int:
    return math.ceil(sink.ttl.total_seconds()) if sink.ttl is not None else 0


def cql_type(kind: FieldType) -> str:
    """Return Cassandra's type of a column; its decimals hold any number of digits."""
    return _TYPES.get(kind, "decimal")
