"""Writing rows: grouped by partition key, at most so many requests at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T
from pyspark.sql.datasource import DataSourceArrowWriter, WriterCommitMessage

from streamkeeper.errors import StreamkeeperError
from streamkeeper_io.cassandra import GroupedWriter
from streamkeeper_io.cassandra_tables import CassandraTable
from streamkeeper_spark.datasources.cassandra.options import Options
from streamkeeper_spark.datasources.cassandra.sessions import shared_session
from streamkeeper_spark.datasources.cassandra.tables import Table
from streamkeeper_spark.datasources.cassandra.values import bound_values

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Written(WriterCommitMessage):
    """How many rows a task wrote."""

    rows: int


class CassandraWriter(DataSourceArrowWriter):
    """Writes the columns of a schema; other columns of the table stay as they are.

    At least once: a task that Spark repeats writes its rows again, to the same keys. With a write
    timestamp that changes nothing.

    Parameters: options; table; schema, Spark's.
    """

    def __init__(self, options: Options, table: Table, schema: T.StructType) -> None:
        self._options, self._schema = options, schema
        self._kinds = [table.columns[name] for name in schema.names]
        self._key = [schema.names.index(name) for name in (*table.partition, *table.clustering)]
        self._target = CassandraTable(
            table.keyspace,
            table.name,
            tuple((n, k.name) for n, k in zip(schema.names, self._kinds, strict=True)),
            table.partition,
            table.clustering,
            options.ttl_s,
        )

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Written:
        """Write one task's rows.

        Raises CassandraUnavailable when a request failed five times, StreamkeeperError for a key
        that is null.
        """
        writer = GroupedWriter(
            shared_session(self._options),
            self._target,
            in_flight=self._options.in_flight,
            batch_rows=self._options.batch_rows,
            consistency=self._options.consistency,
        )
        timestamp, rows = self._options.write_timestamp, 0
        for batch in iterator:
            rows += writer.write(self._rows(batch), timestamp)
        return Written(rows)

    def _rows(self, batch: pa.RecordBatch) -> Iterator[Sequence[Any]]:
        for place in self._key:
            if batch.column(place).null_count:
                raise StreamkeeperError(
                    f"{self._options.full_name}: the column {self._schema.names[place]!r} is part "
                    "of the key and null in a row; keys cannot be null: filter such rows out"
                )
        columns = [
            bound_values(batch.column(place), kind) for place, kind in enumerate(self._kinds)
        ]
        return zip(*columns, strict=True)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """Nothing is left to do: each task's rows are written."""

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """Nothing is taken back: writing the same rows again completes them."""
