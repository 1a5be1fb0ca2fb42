"""The PostgreSQL tables of a stream's sinks, made from its declaration."""

from __future__ import annotations

from streamkeeper.names import CLOSED, COORDINATES, OFFSET, PARTITION, TIMESTAMP, WRITE_NUMBER
from streamkeeper.spec.field_types import FieldType, digits
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_io.postgres_tables import PostgresTable

START, END = "window_start", "window_end"
_TYPES = {
    "string": "text",
    "integer": "bigint",
    "int32": "integer",
    "double": "double precision",
    "float": "real",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
}
_OWN = {
    **{"_topic_id": "text", PARTITION: "integer", OFFSET: "bigint"},
    TIMESTAMP: _TYPES["timestamp"],
}


def window_table(spec: Spec, sink: PostgresSink) -> PostgresTable:
    """Return the table of a window's rows: the keys, the window's start and end, the measures."""
    window = spec.window(sink.of)
    types = spec.columns()
    keys = tuple((name, postgres_type(types[name])) for name in window.by)
    measures = tuple((name, postgres_type(m.type)) for name, m in window.measures.items())
    times = tuple((name, _TYPES["timestamp"]) for name in (START, END))
    schema, table = sink.place
    return PostgresTable(
        schema,
        table,
        columns=(*keys, *times, *measures),
        key=(*window.by, START),
        rank=(CLOSED, WRITE_NUMBER),
        nullable=tuple(name for name in window.by if not _needed(spec, name)),
        indexes=sink.indexes,
    )


def raw_table(spec: Spec, sink: PostgresSink) -> PostgresTable:
    """Return the table of landed rows, keyed as declared or by their coordinates."""
    types = _OWN | {name: postgres_type(kind) for name, kind in spec.columns().items()}
    own = [f"_{name}" for name in sink.metadata]
    coordinates = () if sink.key else COORDINATES
    names = dict.fromkeys((*coordinates, *own, *(sink.columns or spec.columns())))
    schema, table = sink.place
    return PostgresTable(
        schema,
        table,
        columns=tuple((name, types[name]) for name in names),
        key=sink.key or COORDINATES,
        rank=(WRITE_NUMBER,),
        indexes=sink.indexes,
        order=tuple((name, _OWN[name]) for name in (PARTITION, OFFSET)) if sink.key else (),
        unique_rows=not sink.key,
    )


def sink_table(spec: Spec, sink: PostgresSink) -> PostgresTable:
    """Return the table of a sink."""
    return raw_table(spec, sink) if sink.of == "raw" else window_table(spec, sink)


def postgres_type(kind: FieldType) -> str:
    """Return PostgreSQL's type of a column, as the server itself writes it."""
    found = digits(kind)
    return f"numeric({found.precision},{found.scale})" if found else _TYPES[kind]


def _needed(spec: Spec, name: str) -> bool:
    field = spec.fields.get(name)
    return field is not None and (field.required or name == spec.event_time.field)
