"""The columns that Spark makes of a declaration."""

from __future__ import annotations

from pyspark.sql import types as T

from streamkeeper import names
from streamkeeper.spec.field_types import FieldType, digits, sql_type
from streamkeeper.spec.models import FieldSpec, Spec

_LANDED: dict[str, T.DataType] = {
    "string": T.StringType(),
    "integer": T.LongType(),
    "int32": T.IntegerType(),
    "double": T.DoubleType(),
    "float": T.FloatType(),
    "boolean": T.BooleanType(),
    "timestamp": T.TimestampType(),
}
_COUNTS = ("epoch_ms", "epoch_us")


def parsed_type(field: FieldSpec) -> str:
    """Return the SQL type as which the JSON parser reads a field; a written time is a text."""
    if field.type == "timestamp":
        return "bigint" if field.format in _COUNTS and not field.also else "string"
    return "string" if digits(field.type) else sql_type(field.type)


def spark_type(kind: FieldType) -> T.DataType:
    """Return a declared type as Spark's own."""
    size = digits(kind)
    return T.DecimalType(size.precision, size.scale) if size else _LANDED[kind]


def landed_schema(spec: Spec) -> T.StructType:
    """Return the columns of a landed row, in their order."""
    columns: list[tuple[str, T.DataType]] = [(n, spark_type(k)) for n, k in spec.columns().items()]
    columns += [
        (names.EVENT_TIME, T.TimestampType()),
        (names.HOUR, T.TimestampType()),
        (names.TOPIC_ID, T.StringType()),
        (names.PARTITION, T.IntegerType()),
        (names.OFFSET, T.LongType()),
        (names.TIMESTAMP, T.TimestampType()),
        (names.GENERATION, T.StringType()),
        (names.BATCH, T.LongType()),
        (names.KEY, T.BinaryType()),
        (names.ERRORS, T.ArrayType(T.StringType())),
        (names.VALUE, T.BinaryType()),
    ]
    if spec.warns:
        columns.append((names.WARNINGS, T.ArrayType(T.StringType())))
    if spec.corrections():
        columns.append((names.CORRECTED, T.ArrayType(T.StringType())))
    return T.StructType([T.StructField(name, kind) for name, kind in columns])
