"""Writing rows into a PostgreSQL table: COPY into a staging table, then one upsert.

All of a write is one transaction: rows and mark are there together or not at all. Every wait in it
is bounded, so that neither a frozen writer nor a frozen server holds up another for long.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from sqlalchemy import URL, make_url

from streamkeeper.errors import PostgresUnavailable, TableDiffers
from streamkeeper_io.lake import with_columns
from streamkeeper_io.postgres_tables import (
    KEY_BYTES,
    MARKS,
    REMOVED,
    ExistingTable,
    PostgresTable,
    differences,
    literal,
)

log = logging.getLogger(__name__)
OLDEST_VERSION = 15
_LIMITS = {
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "statement_timeout": "10min",
    # Times are read as they are written, and keys are hashed from texts.
    "timezone": "UTC",
    "datestyle": "ISO",
    "extra_float_digits": "1",
}
_CONNECT_S = 5
# A server that vanished with data on their way to it is given up.
_VANISHED_MS = 30_000
_ROWS_AT_ONCE = 65_536
_NUL = "\x00"
# libpq tells of a refused account or certificate by its text only.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|(role|database) .* does not "
    r"exist|permission denied|certificate|SSL error|server does not support SSL",
    re.IGNORECASE,
)


class Rank(NamedTuple):
    """What orders writes: those of closed windows above all others, then by their number."""

    closed: bool
    number: int


class Mark(NamedTuple):
    """How far a stream's sink has come: the batch of a generation."""

    stream: str
    generation: str
    batch: int


class Written(NamedTuple):
    """Rows that were written, and rows that PostgreSQL would refuse and that were left out."""

    rows: int
    left_out: int


def place_of(url: URL) -> str:
    """Return host, port and database: an address without user and password."""
    return f"{url.host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def connect(url: URL, name: str, **options: Any) -> psycopg.Connection[Any]:
    """Open a connection whose waits are bounded; `transaction()` begins and ends each one.

    Parameters: url, of the database; name, told to the server; options, further ones of libpq.
    """
    address = url.translate_connect_args(username="user", database="dbname")
    given: dict[str, Any] = {
        "client_encoding": "UTF8",
        "application_name": name,
        "connect_timeout": _CONNECT_S,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "tcp_user_timeout": _VANISHED_MS,
    }
    return psycopg.connect(autocommit=True, **given | options | address | dict(url.query))


def unavailable(url: URL, connection: str, error: psycopg.Error) -> PostgresUnavailable:
    """Return the error for a database that does not answer, with the next step."""
    reason = str(error).strip()
    if _REFUSED.search(reason):
        return PostgresUnavailable(
            f"PostgreSQL at {place_of(url)} refuses the connection {connection}: {reason}; "
            "correct its login, password, schema or ssl options, or grant what is missing"
        )
    return PostgresUnavailable(
        f"PostgreSQL at {place_of(url)} does not do what the connection {connection} asks: "
        f"{reason}; start it or correct the connection (STREAMKEEPER_POSTGRES)"
    )


class TableWriter:
    """Writes one table; the connection is opened at the first use.

    Parameters: url, of the database; table; connection, its name for messages.
    """

    def __init__(self, url: str, table: PostgresTable, *, connection: str) -> None:
        # SQLAlchemy reads the form that it writes, in which libpq takes no space and no plus.
        self._url = make_url(url)
        self.table, self._connection = table, connection
        self._open: psycopg.Connection[Any] | None = None

    def __repr__(self) -> str:
        return f"TableWriter({self.where}, {self.table.full_name})"

    @property
    def where(self) -> str:
        """Host, port and database: an address without user and password."""
        return place_of(self._url)

    def close(self) -> None:
        """Close the connection; what it had not committed is undone by the server."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def mark(self, stream: str) -> dict[str, int]:
        """Return the last batch of each generation whose rows are in the table."""
        with self._transaction() as cursor:
            cursor.execute(
                f"SELECT generation, batch FROM {self.table.own(MARKS)} "
                "WHERE stream = %s AND table_name = %s",
                (stream, self.table.name),
            )
            return {str(generation): int(batch) for generation, batch in cursor.fetchall()}

    def write(self, tables: Iterable[pa.Table], rank: Rank, mark: Mark | None = None) -> Written:
        """Write rows and move the mark, both or none; a row that a later write wrote stays.

        Parameters: tables, with the table's columns; mark, for the rows of a published batch.
        Raises PostgresUnavailable, TableDiffers.
        """
        with self._transaction() as cursor:
            written = self._stage(cursor, tables)
            self._lock(cursor, self.table.name)
            if written.rows:
                cursor.execute(self.table.upsert(), rank._asdict())
            if mark is not None:
                cursor.execute(self.table.move_mark(), mark._asdict())
        return written

    def remove(self, tables: Iterable[pa.Table], number: int) -> int:
        """Remove the rows with these keys, unless a later close wrote them; return how many.

        Live rows of these keys that come later are not written.
        """
        with self._transaction() as cursor:
            if not self._stage(cursor, tables).rows:
                return 0
            self._lock(cursor, self.table.name)
            cursor.execute(self.table.remember_removed(), {"number": number})
            cursor.execute(self.table.remove(), {"number": number})
            return max(0, cursor.rowcount)

    def _stage(self, cursor: psycopg.Cursor[Any], tables: Iterable[pa.Table]) -> Written:
        cursor.execute(self.table.create_staging())
        names = [name for name, _ in self.table.staged]
        rows = left_out = 0
        with cursor.copy(self.table.copy()) as copy:
            for found in tables:
                taken = accepted(with_columns(found, names), self.table)
                left_out += found.num_rows - taken.num_rows
                rows += taken.num_rows
                for start in range(0, taken.num_rows, _ROWS_AT_ONCE):
                    copy.write(csv_bytes(taken.slice(start, _ROWS_AT_ONCE)))
        return Written(rows, left_out)

    # Connection
    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        try:
            if self._open is None:
                self._open = connect(self._url, f"streamkeeper {self.table.name}")
                with self._open.transaction(), self._open.cursor() as cursor:
                    self._bound(cursor)
                    self._ensure(cursor)
            with self._open.transaction(), self._open.cursor() as cursor:
                self._bound(cursor)
                yield cursor
        except BaseException as error:
            # The state of a transaction that failed is not looked at.
            self.close()
            if isinstance(error, psycopg.Error) and is_away(error):
                raise unavailable(self._url, self._connection, error) from error
            raise

    def _bound(self, cursor: psycopg.Cursor[Any]) -> None:
        """Bound the waits of this transaction; poolers keep no settings between two of them."""
        for name, value in _LIMITS.items():
            cursor.execute(f"SET LOCAL {name} = {literal(value)}")

    def _lock(self, cursor: psycopg.Cursor[Any], name: str) -> None:
        """Let one writer of a table upsert at a time: so none waits for another's rows for ever."""
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"streamkeeper {self.table.schema}.{name}",),
        )

    # The table
    def _ensure(self, cursor: psycopg.Cursor[Any]) -> None:
        """Create what is missing, or compare the table that is there; raise TableDiffers."""
        self._refuse_server(cursor)
        self._lock(cursor, "")
        self._create_own(cursor)
        if not _exists(cursor, self.table.full_name):
            self._create(cursor)
            return
        found = existing(cursor, self.table.full_name)
        told = (
            differences(self.table, found) if found else ["it is no table but a view or the like"]
        )
        if told:
            raise TableDiffers(
                f"the table {self.table.full_name} at {self.where} is not as declared: "
                f"{'; '.join(told)}"
            )
        self._tell_indexes(cursor)

    def _refuse_server(self, cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute("SELECT current_setting('server_version_num')::int / 10000, "
                       "current_setting('server_encoding')")  # fmt: skip
        version, encoding = cursor.fetchone() or (0, "")
        if version < OLDEST_VERSION or encoding != "UTF8":
            raise TableDiffers(
                f"the database at {self.where} is of PostgreSQL {version} with the encoding "
                f"{encoding}; needed are {OLDEST_VERSION} or newer and UTF8: CREATE DATABASE name "
                "ENCODING 'UTF8' TEMPLATE template0;"
            )

    def _create_own(self, cursor: psycopg.Cursor[Any]) -> None:
        # Asked for first: IF NOT EXISTS wants the right to create also where nothing is missing.
        cursor.execute("SELECT FROM pg_namespace WHERE nspname = %s", (self.table.schema,))
        if cursor.fetchone() is None:
            cursor.execute(f'CREATE SCHEMA "{self.table.schema}"')
        for name, statement in self.table.create_own().items():
            if not _exists(cursor, self.table.own(name)):
                cursor.execute(statement)

    def _create(self, cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(self.table.create())
        for columns in self.table.indexes:
            cursor.execute(self.table.create_index(columns))
        # What was told of a table of this name that was dropped is not true of this one.
        for own in (MARKS, REMOVED):
            cursor.execute(
                f"DELETE FROM {self.table.own(own)} WHERE table_name = %s", (self.table.name,)
            )

    def _tell_indexes(self, cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(
            "SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i, "
            "unnest(i.indkey) WITH ORDINALITY AS k(number, place), pg_attribute a "
            "WHERE i.indrelid = to_regclass(%s) AND a.attrelid = i.indrelid "
            "AND a.attnum = k.number GROUP BY i.indexrelid",
            (self.table.full_name,),
        )
        there = {tuple(columns) for (columns,) in cursor.fetchall()}
        for columns in self.table.indexes:
            if columns not in there:
                statement = self.table.create_index(columns, how="CONCURRENTLY")
                log.warning("a declared index is missing; run: %s;", statement)


def accepted(rows: pa.Table, table: PostgresTable) -> pa.Table:
    """Return the rows that PostgreSQL takes; the others stay in the lake alone.

    It would refuse them and, as batches are applied in order, all that comes after them: texts with
    U+0000, keys and indexed texts too long for an index, and rows without their whole key: those
    that landed before a field of it was declared.
    """
    texts = [f.name for f in rows.schema if pa.types.is_string(f.type) or _is_large(f.type)]
    wrong: Any = None
    for name in texts:
        wrong = _either(wrong, pc.match_substring(rows[name], _NUL))
    for name in set(table.key) - set(table.nullable):
        if rows[name].null_count:
            wrong = _either(wrong, pc.is_null(rows[name]))
    for columns in (table.key, *table.indexes):
        indexed = [rows[name] for name in columns if name in texts]
        sizes: Any = None
        for column in indexed:
            size = pc.fill_null(pc.binary_length(column), 0)
            sizes = size if sizes is None else pc.add(sizes, size)
        if sizes is not None and (pc.max(sizes).as_py() or 0) > KEY_BYTES:
            wrong = _either(wrong, pc.greater(sizes, KEY_BYTES))
    if wrong is None or not pc.any(wrong).as_py():
        return rows
    left = rows.filter(pc.invert(pc.fill_null(wrong, False)))
    log.warning(
        "%s: %d rows are left out, as PostgreSQL takes no text with U+0000, no key or indexed text "
        "of more than %d bytes and no row without its whole key; they are in the lake",
        table.full_name,
        rows.num_rows - left.num_rows,
        KEY_BYTES,
    )
    return left


def _is_large(kind: pa.DataType) -> bool:
    return pa.types.is_large_string(kind)


def _either(one: Any, other: Any) -> Any:
    return other if one is None else pc.or_kleene(one, other)


def csv_bytes(rows: pa.Table) -> bytes:
    """Return rows as CSV for COPY: every text in quotes, null as nothing, numbers exactly."""
    sink = pa.BufferOutputStream()
    csv.write_csv(rows, sink, csv.WriteOptions(include_header=False, batch_size=_ROWS_AT_ONCE))
    return sink.getvalue().to_pybytes()


def existing(cursor: psycopg.Cursor[Any], name: str) -> ExistingTable | None:
    """Return what PostgreSQL tells of a table; None when the name is of something else."""
    cursor.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef "
        "AND a.attidentity = '' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'p') AND a.attnum > 0 "
        "AND NOT a.attisdropped",
        (name,),
    )
    columns = cursor.fetchall()
    if not columns:
        return None
    cursor.execute(
        "SELECT array_agg(a.attname::text), bool_or(i.indnullsnotdistinct) "
        "FROM pg_index i, unnest(i.indkey) AS k(number), pg_attribute a "
        "WHERE i.indrelid = to_regclass(%s) AND a.attrelid = i.indrelid AND a.attnum = k.number "
        "AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL "
        "AND i.indexprs IS NULL GROUP BY i.indexrelid",
        (name,),
    )
    unique = [(frozenset(names), bool(nulls)) for names, nulls in cursor.fetchall()]
    types: Mapping[str, str] = {column: kind for column, kind, _ in columns}
    return ExistingTable(types, [column for column, _, needed in columns if needed], unique)


def _exists(cursor: psycopg.Cursor[Any], name: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
    row = cursor.fetchone()
    return bool(row and row[0])


def is_away(error: psycopg.Error) -> bool:
    away = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
    return isinstance(error, (*away, psycopg.errors.InsufficientPrivilege))
