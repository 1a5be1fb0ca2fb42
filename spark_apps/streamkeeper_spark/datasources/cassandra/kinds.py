"""CQL types and the Spark types that they are read as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import types as T

_SCALARS: dict[str, T.DataType] = {
    "ascii": T.StringType(),
    "text": T.StringType(),
    "varchar": T.StringType(),
    "bigint": T.LongType(),
    "counter": T.LongType(),
    "int": T.IntegerType(),
    "smallint": T.ShortType(),
    "tinyint": T.ByteType(),
    "double": T.DoubleType(),
    "float": T.FloatType(),
    "boolean": T.BooleanType(),
    "timestamp": T.TimestampType(),
    "date": T.DateType(),
    # Nanoseconds of the day: Spark's own times end at the microsecond.
    "time": T.LongType(),
    "uuid": T.StringType(),
    "timeuuid": T.StringType(),
    "inet": T.StringType(),
    "blob": T.BinaryType(),
    "decimal": T.DecimalType(38, 18),
    "varint": T.DecimalType(38, 0),
}
DURATION = (("months", T.IntegerType()), ("days", T.IntegerType()), ("nanoseconds", T.LongType()))
_INTEGRAL: Sequence[type[T.DataType]] = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
UserTypes = Mapping[str, tuple[Sequence[str], Sequence[str]]]


@dataclass(frozen=True)
class Kind:
    """A CQL type.

    name: of a scalar, `list`, `set`, `map`, `tuple`, `udt`, or the text of a type that is not
    supported; args: its parts; fields: the names of a udt's parts.
    """

    name: str
    args: tuple[Kind, ...] = ()
    fields: tuple[str, ...] = ()

    def unsupported(self) -> str | None:
        """Return the CQL text of the first part that Spark has no type for; None if all have."""
        if self.args:
            return next((told for a in self.args if (told := a.unsupported())), None)
        return None if self.name in _SCALARS or self.name == "duration" else self.name


def parse_kind(text: str, user_types: UserTypes) -> Kind:
    """Read a CQL type as Cassandra's schema tables write it.

    Parameters: user_types, of the keyspace: name -> (field names, field types).
    """
    text = text.strip()
    head, has_args, rest = text.partition("<")
    inner = rest.removesuffix(">") if has_args else ""
    if head == "frozen":
        return parse_kind(inner, user_types)
    if head in ("list", "set", "map", "tuple") and inner:
        return Kind(head, tuple(parse_kind(part, user_types) for part in _split(inner)))
    name = text.strip('"').replace('""', '"')
    if text not in _SCALARS and name in user_types:
        names, types = user_types[name]
        return Kind("udt", tuple(parse_kind(t, user_types) for t in types), tuple(names))
    return Kind(text)


def _split(text: str) -> Iterable[str]:
    """Split at the commas outside of brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            yield part
            part = ""
        else:
            part += letter
    yield part


def part_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of a struct's parts: of a udt its own, of a tuple `_1`, `_2`, ..."""
    return kind.fields or tuple(f"_{n}" for n in range(1, len(kind.args) + 1))


def spark_type(kind: Kind) -> T.DataType:
    """Return the Spark type of a supported CQL type."""
    if kind.name in ("list", "set"):
        return T.ArrayType(spark_type(kind.args[0]))
    if kind.name == "map":
        return T.MapType(spark_type(kind.args[0]), spark_type(kind.args[1]))
    if kind.args:
        parts = zip(part_names(kind), kind.args, strict=True)
        return T.StructType([T.StructField(name, spark_type(arg)) for name, arg in parts])
    if kind.name == "duration":
        return T.StructType([T.StructField(name, part) for name, part in DURATION])
    return _SCALARS[kind.name]


def readable_as(kind: Kind, wanted: T.DataType) -> bool:
    """Tell whether a CQL type can be read as a Spark type that the user asked for."""
    if kind.name in ("decimal", "varint"):
        return isinstance(wanted, T.DecimalType)
    return _same(spark_type(kind), wanted)


def writable_from(kind: Kind, given: T.DataType) -> bool:
    """Tell whether a Spark type can be written into a CQL type without changing a value."""
    if kind.name == "decimal":
        return isinstance(given, T.DecimalType)
    if kind.name == "varint":
        whole = isinstance(given, T.DecimalType) and given.scale == 0
        return whole or isinstance(given, tuple(_INTEGRAL))
    own = spark_type(kind)
    if type(own) in _INTEGRAL and type(given) in _INTEGRAL and kind.name != "time":
        return _INTEGRAL.index(type(given)) <= _INTEGRAL.index(type(own))
    if kind.name == "double" and isinstance(given, T.FloatType):
        return True
    return _same(own, given)


def _same(own: T.DataType, other: T.DataType) -> bool:
    """Compare types, whatever they say of nulls."""
    if isinstance(own, T.ArrayType) and isinstance(other, T.ArrayType):
        return _same(own.elementType, other.elementType)
    if isinstance(own, T.MapType) and isinstance(other, T.MapType):
        return _same(own.keyType, other.keyType) and _same(own.valueType, other.valueType)
    if isinstance(own, T.StructType) and isinstance(other, T.StructType):
        return own.names == other.names and all(
            _same(a.dataType, b.dataType) for a, b in zip(own, other, strict=True)
        )
    if isinstance(own, T.DecimalType) and isinstance(other, T.DecimalType):
        return (own.precision, own.scale) == (other.precision, other.scale)
    return type(own) is type(other)
