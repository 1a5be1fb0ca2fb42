"""`format("cassandra")`: tables of Cassandra as Spark's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource

from streamkeeper.errors import Mistake, OptionsError
from streamkeeper_spark.datasources.cassandra.kinds import (
    readable_as,
    spark_type,
    writable_from,
)
from streamkeeper_spark.datasources.cassandra.options import SOURCE, read_options
from streamkeeper_spark.datasources.cassandra.reader import CassandraReader
from streamkeeper_spark.datasources.cassandra.sessions import shared_session
from streamkeeper_spark.datasources.cassandra.tables import Table, find_table
from streamkeeper_spark.datasources.cassandra.writer import CassandraWriter

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_PUSHDOWN = "spark.sql.python.filterPushdown.enabled"


def register(spark: SparkSession) -> None:
    """Make `format("cassandra")` known to a session, and let filters reach it."""
    spark.conf.set(_PUSHDOWN, "true")
    spark.dataSource.register(CassandraSource)


class CassandraSource(DataSource):
    """A table of Cassandra. docs/cassandra.md has the options.

    Options, table and columns are checked before any task starts.
    """

    def __init__(self, options: MutableMapping[str, str]) -> None:
        super().__init__(options)
        self._options = read_options(options)
        self._table: Table | None = None

    @classmethod
    def name(cls) -> str:
        """The name for `format(...)`."""
        return "cassandra"

    def _found(self) -> Table:
        if self._table is None:
            self._table = find_table(shared_session(self._options), self._options)
        return self._table

    def schema(self) -> T.StructType:
        """Return the chosen columns, or all, with the Spark types of their CQL types."""
        table = self._found()
        chosen = self._options.columns or tuple(table.columns)
        _refuse(_unreadable(table, chosen, "columns"))
        return T.StructType([T.StructField(n, spark_type(table.columns[n])) for n in chosen])

    def reader(self, schema: T.StructType) -> CassandraReader:
        """Return the reader of a schema, which may have fewer columns than the table."""
        table = self._found()
        mistakes = _unreadable(table, schema.names, "schema")
        mistakes += [
            _mistake(f.name, f"a {table.columns[f.name].name} is read as "
                     f"{spark_type(table.columns[f.name]).simpleString()}, "
                     f"not as {f.dataType.simpleString()}")
            for f in schema
            if not mistakes and not readable_as(table.columns[f.name], f.dataType)
        ]  # fmt: skip
        _refuse(mistakes)
        return CassandraReader(self._options, table, schema)

    def writer(self, schema: T.StructType, overwrite: bool) -> CassandraWriter:
        """Return the writer of rows of a schema."""
        if overwrite:
            told = "would delete rows: only mode('append') is supported; a row of the same key is "
            raise OptionsError((_mistake("mode('overwrite')", f"{told}replaced by it"),))
        table = self._found()
        _refuse(_unwritable(table, schema))
        return CassandraWriter(self._options, table, schema)


def _unreadable(table: Table, names: Iterable[str], key: str) -> list[Mistake]:
    found = []
    for name in names:
        kind = table.columns.get(name)
        if kind is None:
            found.append(table.mistake(key, name, f" is no column of {table.full_name}"))
        elif (told := kind.unsupported()) is not None:
            message = f"has the type {told}, which is not supported; leave the column out"
            found.append(_mistake(name, f'{message} with .option("columns", ...)'))
    return found


def _unwritable(table: Table, schema: T.StructType) -> list[Mistake]:
    found = _unreadable(table, schema.names, "columns")
    if table.has_counters:
        return [_mistake("table", f"{table.full_name} counts; counters can only be read")]
    for name in (*table.partition, *table.clustering):
        if name not in schema.names:
            found.append(_mistake("columns", f"{name!r} is missing, which is part of the key"))
    for field in schema:
        kind: Any = table.columns.get(field.name)
        if kind is None or kind.unsupported() or writable_from(kind, field.dataType):
            continue
        wanted = spark_type(kind).simpleString()
        told = f"is {field.dataType.simpleString()}; a {kind.name} is written from {wanted}: cast"
        found.append(_mistake(field.name, told))
    return found


def _mistake(key: str, message: str) -> Mistake:
    return Mistake(SOURCE, None, key, message)


def _refuse(mistakes: list[Mistake]) -> None:
    if mistakes:
        raise OptionsError(tuple(mistakes))
