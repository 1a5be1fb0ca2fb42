"""The Delta tables of a stream's sinks, made from its declaration."""

from __future__ import annotations

import pyarrow as pa

from streamkeeper.names import (
    COORDINATES,
    CORRECTED,
    OFFSET,
    PARTITION,
    TIMESTAMP,
    TOPIC_ID,
    WRITE_NUMBER,
)
from streamkeeper.spec.field_types import FieldType, digits
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_io.delta import DeltaShape

_TIME = pa.timestamp("us", "UTC")
_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "float": pa.float32(),
    "boolean": pa.bool_(),
    "timestamp": _TIME,
}
_OWN = {
    TOPIC_ID: pa.string(),
    PARTITION: pa.int32(),
    OFFSET: pa.int64(),
    TIMESTAMP: _TIME,
    WRITE_NUMBER: pa.int64(),
    CORRECTED: pa.list_(pa.string()),
}


def arrow_type(kind: FieldType) -> pa.DataType:
    """Return a declared type as Arrow's own."""
    found = digits(kind)
    return pa.decimal128(found.precision, found.scale) if found else _TYPES[kind]


def raw_shape(spec: Spec, sink: DeltaSink) -> DeltaShape:
    """Return the table of landed rows: the declared columns, then the coordinates."""
    types = spec.columns()
    columns = {name: arrow_type(types[name]) for name in sink.columns or types}
    own = (*COORDINATES, WRITE_NUMBER)
    extra = [f"_{name}" for name in sink.metadata]
    columns |= {name: _OWN[name] for name in dict.fromkeys((*extra, *own))}
    return DeltaShape(pa.schema(list(columns.items())), sink.partition_by, own)
