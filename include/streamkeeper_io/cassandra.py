"""Cassandra: connecting, making tables, and writing many rows.

A table that exists is compared with the declared one and never altered. Rows are written in
unlogged batches of one partition key each, with a write timestamp of our own, so that repeating
a write, or writing an older number later, changes nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    CoordinationFailure,
    OperationTimedOut,
    Timeout,
    Unavailable,
)
from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from streamkeeper.connections.cassandra import CONNECTION
from streamkeeper.errors import CassandraUnavailable, TableDiffers
from streamkeeper.settings import Settings
from streamkeeper_io.cassandra_cluster import cluster_arguments, refusal
from streamkeeper_io.cassandra_tables import CassandraTable, differences

__all__ = ["CassandraTable", "GroupedWriter", "connect", "ensure_table", "session"]
log = logging.getLogger(__name__)
# The driver tells every attempt to reach a node that is away; the errors raised tell enough.
logging.getLogger("cassandra").setLevel(logging.CRITICAL)

BATCH_ROWS = 50
IN_FLIGHT = 64
TRIES = 5
AWAY = (
    NoHostAvailable,
    OperationTimedOut,
    Timeout,
    Unavailable,
    CoordinationFailure,
    ConnectionException,
    OverloadedErrorMessage,
    IsBootstrappingErrorMessage,
    ConnectionError,
)


def back_off(attempt: int) -> None:
    """Wait before a request is made again: longer each time, at most 3 s, never all at once.

    Parameters: attempt, how many have failed before this one.
    """
    time.sleep(min(2.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.5))


def connect(
    where: Settings | str, options: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0
) -> Session:
    """Connect to a cluster; end it with `session.cluster.shutdown()`.

    Parameters: where, the settings, or contact points `host:port,...`, all with one port; options,
    checked, of the account, TLS and the policy; those of the settings need not be given;
    timeout_s, of a connection and of a request.
    Raises CassandraUnavailable.
    """
    if isinstance(where, Settings):
        contact_points, options = where.need("cassandra"), options or where.cassandra_options
    else:
        contact_points = where
    cluster = Cluster(**cluster_arguments(contact_points, options or {}, timeout_s))
    try:
        return cluster.connect()
    except (NoHostAvailable, AuthenticationFailed, OSError, *AWAY) as error:
        cluster.shutdown()
        raise unavailable(contact_points, error) from error


@contextmanager
def session(where: Settings | str, options: Mapping[str, Any] | None = None) -> Iterator[Session]:
    """Give a session that is closed afterwards; see `connect`. CassandraUnavailable."""
    found = connect(where, options)
    try:
        yield found
    finally:
        found.cluster.shutdown()


def unavailable(where: object, error: Exception) -> CassandraUnavailable:
    """Return the error for a cluster that does not answer, or refuses, with the next step."""
    if told := refusal(error):
        return CassandraUnavailable(
            f"Cassandra at {where} refuses the connection {CONNECTION}: {told}; correct its login, "
            "password or ssl_options (STREAMKEEPER_CASSANDRA_OPTIONS)"
        )
    if isinstance(error, NoHostAvailable) and error.errors:
        told = "; ".join(f"{host}: {reason}" for host, reason in error.errors.items())
    else:
        told = str(error) or type(error).__name__
    return CassandraUnavailable(
        f"Cassandra at {where} does not answer: {told}; start it (`make up`) or correct the "
        "connection cassandra_default (STREAMKEEPER_CASSANDRA)"
    )


def _where(session: Session) -> str:
    return ", ".join(str(point) for point in session.cluster.contact_points)


def ensure_table(session: Session, table: CassandraTable) -> None:
    """Create keyspace and table if they are missing, and compare the table that is there.

    Raises TableDiffers with each difference and the statement to run, CassandraUnavailable.
    """
    cluster = session.cluster
    try:
        nodes = [host.datacenter for host in cluster.metadata.all_hosts()]
        # The driver's own data centre rules; up to three copies, as many as there are nodes.
        datacenter = str(nodes[0])
        session.execute(table.create_keyspace(datacenter, min(3, nodes.count(nodes[0]))))
        session.execute(table.create())
        cluster.refresh_table_metadata(table.keyspace, table.name)
    except AWAY as error:
        raise unavailable(_where(session), error) from error
    found = cluster.metadata.keyspaces[table.keyspace].tables[table.name]
    told = differences(
        table,
        {name: column.cql_type for name, column in found.columns.items()},
        [column.name for column in found.partition_key],
        [column.name for column in found.clustering_key],
    )
    if told:
        raise TableDiffers(
            f"the table {table.keyspace}.{table.name} is not as declared: {'; '.join(told)}"
        )


class GroupedWriter:
    """Writes rows of one table, many at a time.

    Parameters: session; table; in_flight, requests at a time; batch_rows, rows of one partition
    key in a request; consistency, the name of a level.
    """

    def __init__(
        self,
        session: Session,
        table: CassandraTable,
        *,
        in_flight: int = IN_FLIGHT,
        batch_rows: int = BATCH_ROWS,
        consistency: str = "LOCAL_ONE",
    ) -> None:
        self._session, self._table = session, table
        self._in_flight, self._batch_rows = in_flight, batch_rows
        self._level = ConsistencyLevel.name_to_value[consistency]
        self._key = [table.names.index(name) for name in table.partition]
        self._inserts: dict[bool, PreparedStatement] = {}

    def _insert(self, timestamped: bool) -> PreparedStatement:
        if timestamped not in self._inserts:
            try:
                made = self._session.prepare(self._table.insert(timestamped=timestamped))
            except AWAY as error:
                raise unavailable(_where(self._session), error) from error
            made.consistency_level = self._level
            self._inserts[timestamped] = made
        return self._inserts[timestamped]

    def write(self, rows: Iterable[Sequence[Any]], timestamp: int | None) -> int:
        """Write rows, each with its values in the table's order; return how many.

        Parameters: timestamp, the write timestamp of all of them; a cell keeps the highest; None:
        the present time, as the driver tells it.
        Raises CassandraUnavailable when a request failed five times; then some rows are written,
        and writing all of them again with the same timestamp is harmless.
        """
        count = 0
        requests = _Requests(self._session, self._in_flight)
        for group in self._groups(rows):
            count += len(group)
            requests.send(self._statement(group, timestamp))
            if requests.failing:
                requests.finish()
        requests.finish()
        return count

    def remove(self, rows: Iterable[Sequence[Any]], timestamp: int) -> int:
        """Remove rows by their keys; return how many. A row written with a higher timestamp stays.

        Parameters: rows, each with its values in the table's order; only the keys count.
        Raises CassandraUnavailable.
        """
        table, count = self._table, 0
        places = [table.names.index(name) for name in (*table.partition, *table.clustering)]
        try:
            statement = self._session.prepare(table.delete())
        except AWAY as error:
            raise unavailable(_where(self._session), error) from error
        statement.consistency_level = self._level
        requests = _Requests(self._session, self._in_flight)
        for row in rows:
            count += 1
            requests.send(statement.bind((timestamp, *(row[place] for place in places))))
            if requests.failing:
                requests.finish()
        requests.finish()
        return count

    def _groups(self, rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
        """Yield rows of one partition key, at most `batch_rows` together."""
        open_groups: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
        for row in rows:
            key = tuple(row[place] for place in self._key)
            group = open_groups.setdefault(key, [])
            group.append(row)
            if len(group) >= self._batch_rows:
                yield open_groups.pop(key)
        yield from open_groups.values()

    def _statement(self, group: list[Sequence[Any]], timestamp: int | None) -> Any:
        insert = self._insert(timestamp is not None)
        more = () if timestamp is None else (timestamp,)
        if len(group) == 1:
            return insert.bind((*group[0], *more))
        batch = BatchStatement(BatchType.UNLOGGED, consistency_level=self._level)
        for row in group:
            batch.add(insert, (*row, *more))
        return batch


class _Requests:
    """The requests in flight, at most `limit`; those that failed for a moment are sent again."""

    def __init__(self, session: Session, limit: int) -> None:
        self._session, self._limit = session, limit
        self._free = threading.Semaphore(limit)
        self._failed: deque[tuple[Any, Exception]] = deque()

    def send(self, statement: Any) -> None:
        """Send a statement as soon as there is room."""
        self._free.acquire()
        statement.is_idempotent = True
        try:
            future = self._session.execute_async(statement)
        except BaseException:
            self._free.release()
            raise
        future.add_callbacks(
            callback=lambda _: self._free.release(),
            errback=lambda error: self._note(statement, error),
        )

    def _note(self, statement: Any, error: Exception) -> None:
        self._failed.append((statement, error))
        self._free.release()

    def _drain(self) -> list[tuple[Any, Exception]]:
        """Wait for all answers; return what failed."""
        for _ in range(self._limit):
            self._free.acquire()
        failed = list(self._failed)
        self._failed.clear()
        for _ in range(self._limit):
            self._free.release()
        return failed

    @property
    def failing(self) -> bool:
        """Whether a request has failed, so that sending more of them is in vain for now."""
        return bool(self._failed)

    def finish(self) -> None:
        """Wait for all answers and repeat what failed.

        Raises CassandraUnavailable, or the driver's error for a request that is wrong in itself.
        """
        for attempt in range(TRIES):
            failed = self._drain()
            if not failed:
                return
            for _, error in failed:
                if not isinstance(error, AWAY):
                    raise error
            if attempt == TRIES - 1:
                raise unavailable(_where(self._session), failed[0][1]) from failed[0][1]
            back_off(attempt)
            for statement, _ in failed:
                self.send(statement)
