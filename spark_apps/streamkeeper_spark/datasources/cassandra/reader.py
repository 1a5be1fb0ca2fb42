"""Reading a table: what is pushed down, the tasks, and what each of them does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cassandra import ConsistencyLevel
from cassandra.query import PreparedStatement
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSourceReader, Filter, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema

from streamkeeper_io.cassandra import AWAY, TRIES, back_off, unavailable
from streamkeeper_spark.datasources.cassandra.filters import Plan, plan, token_ranges
from streamkeeper_spark.datasources.cassandra.options import Options
from streamkeeper_spark.datasources.cassandra.pages import PageReader
from streamkeeper_spark.datasources.cassandra.sessions import page_session, shared_session
from streamkeeper_spark.datasources.cassandra.tables import Table, estimated_bytes, ring

if TYPE_CHECKING:
    import pyarrow as pa

_MIB = 2**20


@dataclass
class Part(InputPartition):
    """What one task reads: the values that are bound to its statement, once each."""

    bound: Sequence[tuple[Any, ...]]

    def __repr__(self) -> str:
        return f"Part({len(self.bound)} statements, from {self.bound[0]})"


class CassandraReader(DataSourceReader):
    """Reads the columns of a schema.

    Parameters: options; table; schema, Spark's.
    """

    def __init__(self, options: Options, table: Table, schema: T.StructType) -> None:
        self._options, self._table, self._schema = options, table, schema
        self._plan = Plan()

    def pushFilters(self, filters: list[Filter]) -> Iterable[Filter]:  # noqa: N802
        """Keep what Cassandra answers itself; return what Spark must apply."""
        self._plan, left = plan(self._table, filters)
        return left

    @property
    def statement(self) -> str:
        """The statement that each task runs."""
        return self._plan.statement(self._table, self._schema.names)

    def partitions(self) -> list[InputPartition]:
        """Return the tasks: some partition keys each, or some token ranges."""
        plan = self._plan
        if plan.keys is None:
            session = shared_session(self._options)
            parts: Sequence[Sequence[tuple[Any, ...]]]
            parts = token_ranges(ring(session), self._splits())
        else:
            tasks = self._options.splits or _cores()
            size = max(1, -(-len(plan.keys) // tasks))
            parts = [plan.keys[at : at + size] for at in range(0, len(plan.keys), size)]
        more = plan.clustering_values()
        return [Part([(*values, *more) for values in part]) for part in parts]

    def _splits(self) -> int:
        if self._options.splits:
            return self._options.splits
        size = estimated_bytes(shared_session(self._options), self._table)
        return max(_cores(), round(size / (self._options.split_mib * _MIB)))

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one task, a batch a page.

        Raises CassandraUnavailable when a page was asked for in vain five times.
        """
        if isinstance(partition, Part):
            yield from _Task(self._options, self.statement, self._table, self._schema).run(
                partition.bound
            )


class _Task:
    """One task's work: while a page is read, the next is on its way."""

    def __init__(
        self, options: Options, statement: str, table: Table, schema: T.StructType
    ) -> None:
        self._options = options
        self._session, self._profile = page_session(shared_session(options))
        self._statement = _prepared(self._session, statement)
        self._statement.consistency_level = ConsistencyLevel.name_to_value[options.consistency]
        kinds = [table.columns[name] for name in schema.names]
        cql_types = [column[3] for column in self._statement.result_metadata]
        self._pages = PageReader(kinds, cql_types, to_arrow_schema(schema, timezone="UTC"))

    def run(self, bound: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        waiting = iter(bound)
        values = next(waiting, None)
        request = None if values is None else self._ask(values, None)
        while values is not None and request is not None:
            page, state = self._answer(request, values)
            values = values if state else next(waiting, None)
            request = None if values is None else self._ask(values, state)
            batch = self._pages.read(page)
            if batch.num_rows:
                yield batch

    def _ask(self, values: tuple[Any, ...], state: bytes | None) -> tuple[Any, bytes | None]:
        asked = self._statement.bind(values)
        asked.fetch_size, asked.is_idempotent = self._options.page_rows, True
        future = self._session.execute_async(
            asked,
            trace=self._options.trace,
            execution_profile=self._profile,
            paging_state=state,
        )
        return future, state

    def _answer(
        self, request: tuple[Any, bytes | None], values: tuple[Any, ...]
    ) -> tuple[bytes, bytes | None]:
        """Return a page and, if there are more, where the next begins; ask again if it fails."""
        for attempt in range(TRIES):
            try:
                result = request[0].result()
                return result.current_rows[0], result.paging_state
            except AWAY as error:
                if attempt == TRIES - 1:
                    raise unavailable(self._options.contact_points, error) from error
            back_off(attempt)
            request = self._ask(values, request[1])
        raise AssertionError("the last attempt returns or raises")


def _prepared(session: Any, statement: str) -> PreparedStatement:
    try:
        return session.prepare(statement)
    except AWAY as error:
        raise unavailable("the contact points", error) from error


def _cores() -> int:
    return min(32, max(2, os.cpu_count() or 2))
