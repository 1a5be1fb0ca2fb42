"""PostgreSQL tables as declared: their statements, and how an existing one differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from streamkeeper.names import CLOSED, WRITE_NUMBER

# An entry of an index has at most 2,704 bytes, its other parts and its head included.
KEY_BYTES = 2_500
STAGING = 'pg_temp."_streamkeeper_staging"'
MARKS, REMOVED = "streamkeeper_marks", "streamkeeper_removed"
_RANKS = {CLOSED: "boolean", WRITE_NUMBER: "bigint"}
_DEFAULTS = {CLOSED: "false", WRITE_NUMBER: "0"}
# Types whose values are the same; a type with a size may be written where none is asked for.
_SAME = {"text": ("character varying",)}


@dataclass(frozen=True)
class PostgresTable:
    """A table: columns with their types, in order, without those that rank its writes.

    `key` names the columns of its key; `nullable`: those of them that may be null; `rank`: the
    columns by which a later write is told from an earlier one; `indexes`: columns of each further
    index; `order`: columns that are staged besides, by which the last of rows with one key is told.
    """

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    rank: tuple[str, ...]
    nullable: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    order: tuple[tuple[str, str], ...] = ()
    unique_rows: bool = False

    @property
    def full_name(self) -> str:
        """Schema and table, quoted."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def all_columns(self) -> tuple[tuple[str, str], ...]:
        """All columns of the table with their types."""
        return (*self.columns, *((name, _RANKS[name]) for name in self.rank))

    @property
    def staged(self) -> tuple[tuple[str, str], ...]:
        """The columns of the staging table."""
        return (*self.columns, *(c for c in self.order if c not in self.columns))

    def create(self) -> str:
        """Return the statement that creates the table."""
        needed = {*self.key, *self.rank} - {*self.nullable}
        columns = [
            f"{quoted(name)} {kind}{' NOT NULL' if name in needed else ''}{_default(name)}"
            for name, kind in self.all_columns
        ]
        return f"CREATE TABLE {self.full_name} ({', '.join([*columns, self._key_clause()])})"

    def _key_clause(self) -> str:
        kind = "UNIQUE NULLS NOT DISTINCT" if self.nullable else "PRIMARY KEY"
        return f"{kind} ({_listed(self.key)})"

    def create_index(self, columns: tuple[str, ...], *, how: str = "") -> str:
        """Return the statement that creates an index; `how` is `CONCURRENTLY` or nothing.

        PostgreSQL names it: names that are made of columns' may be equal.
        """
        concurrently = f"{how} " if how else ""
        return f"CREATE INDEX {concurrently}ON {self.full_name} ({_listed(columns)})"

    def create_staging(self) -> str:
        """Return the statement that creates the staging table, which its transaction drops."""
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in self.staged)
        return f"CREATE TEMPORARY TABLE {STAGING.split('.')[1]} ({columns}) ON COMMIT DROP"

    def copy(self) -> str:
        """Return the statement that fills the staging table."""
        names = _listed(name for name, _ in self.staged)
        return f"COPY {STAGING} ({names}) FROM STDIN (FORMAT csv)"

    def upsert(self) -> str:
        """Return the statement that brings staged rows into the table.

        Its parameters are `closed` and `number`. A row is replaced unless a later write wrote it.
        """
        names = [name for name, _ in self.columns]
        all_names = _listed((*names, *self.rank))
        distinct = "" if self.unique_rows else f"DISTINCT ON ({_listed(self.key, 's')}) "
        values = ", ".join([_listed(names, "s"), *(_parameter(n) for n in self.rank)])
        others = [name for name in (*names, *self.rank) if name not in self.key]
        changes = ", ".join(f"{quoted(n)} = excluded.{quoted(n)}" for n in others)
        later = f"({_listed(self.rank, 't')}) <= ({_listed(self.rank, 'excluded')})"
        return (
            f"INSERT INTO {self.full_name} AS t ({all_names}) SELECT {distinct}{values} "
            f"FROM {STAGING} s{self._not_removed()}{self._newest_first()} "
            f"ON CONFLICT ({_listed(self.key)}) DO UPDATE SET {changes} WHERE {later}"
        )

    def _newest_first(self) -> str:
        if self.unique_rows:
            return ""
        # Rows of one COPY into a new table lie in their order.
        newest = [f"s.{quoted(name)} DESC" for name, _ in self.order] or ["s.ctid DESC"]
        return f" ORDER BY {', '.join([_listed(self.key, 's'), *newest])}"

    def _not_removed(self) -> str:
        if CLOSED not in self.rank:
            return ""
        return (
            f" WHERE NOT EXISTS (SELECT FROM {self.own(REMOVED)} r WHERE r.table_name = "
            f"{literal(self.name)} AND r.key = {self._hashed_key()} "
            "AND (true, r.write_number) > (%(closed)s, %(number)s))"
        )

    def _hashed_key(self) -> str:
        parts = _listed(self.key, "s")
        return f"sha256(convert_to(jsonb_build_array({parts})::text, 'UTF8'))"

    def remember_removed(self) -> str:
        """Return the statement that keeps what a close removes from being written again later.

        Its parameter is `number`.
        """
        return (
            f"INSERT INTO {self.own(REMOVED)} AS r (table_name, key, write_number) "
            f"SELECT DISTINCT {literal(self.name)}, {self._hashed_key()}, %(number)s::bigint "
            f"FROM {STAGING} s ON CONFLICT (table_name, key) DO UPDATE "
            "SET write_number = greatest(r.write_number, excluded.write_number)"
        )

    def remove(self) -> str:
        """Return the statement that deletes staged keys, where no later close wrote them.

        Its parameter is `number`.
        """
        same = " AND ".join(
            f"t.{quoted(n)} IS NOT DISTINCT FROM s.{quoted(n)}"
            if n in self.nullable
            else f"t.{quoted(n)} = s.{quoted(n)}"
            for n in self.key
        )
        return (
            f"DELETE FROM {self.full_name} t USING {STAGING} s WHERE {same} "
            f"AND ({_listed(self.rank, 't')}) <= (true, %(number)s)"
        )

    def own(self, table: str) -> str:
        """Return the quoted name of a table of Streamkeeper's own beside this one."""
        return f"{quoted(self.schema)}.{quoted(table)}"

    def create_own(self) -> dict[str, str]:
        """Return the statements that create Streamkeeper's own tables, by their names."""
        return {
            MARKS: f"CREATE TABLE {self.own(MARKS)} (stream text, table_name text, "
            "generation text, batch bigint NOT NULL, moved_at timestamp with time zone NOT NULL, "
            "PRIMARY KEY (stream, table_name, generation))",
            REMOVED: f"CREATE TABLE {self.own(REMOVED)} (table_name text, key bytea, "
            "write_number bigint NOT NULL, PRIMARY KEY (table_name, key))",
        }

    def move_mark(self) -> str:
        """Return the statement that moves the mark: `stream`, `generation` and `batch`."""
        return (
            f"INSERT INTO {self.own(MARKS)} AS m VALUES "
            f"(%(stream)s, {literal(self.name)}, %(generation)s, %(batch)s, now()) "
            "ON CONFLICT (stream, table_name, generation) DO UPDATE "
            "SET batch = greatest(m.batch, excluded.batch), moved_at = excluded.moved_at"
        )


@dataclass(frozen=True)
class ExistingTable:
    """What PostgreSQL tells of a table.

    columns: types by name; filled: the columns that need a value and have no default; unique:
    the columns of its unique indexes, and whether two nulls are the same to it.
    """

    columns: Mapping[str, str]
    filled: Collection[str]
    unique: Collection[tuple[frozenset[str], bool]]


def differences(table: PostgresTable, found: ExistingTable) -> list[str]:
    """Return how an existing table differs, each with the statement to run.

    More columns are no difference, unless they must have a value.
    """
    told = list(_columns(table, found))
    names = {name for name, _ in table.all_columns}
    for name in found.filled:
        if name not in names:
            told.append(
                f"the column {name} needs a value and is not declared; run: "
                f"ALTER TABLE {table.full_name} ALTER COLUMN {quoted(name)} DROP NOT NULL;"
            )
    key = frozenset(table.key)
    if not any(columns == key and (nulls or not table.nullable) for columns, nulls in found.unique):
        nulls = " NULLS NOT DISTINCT" if table.nullable else ""
        told.append(
            f"no unique index has the columns {', '.join(table.key)}; run: CREATE UNIQUE INDEX "
            f"ON {table.full_name} ({_listed(table.key)}){nulls};"
        )
    return told


def _columns(table: PostgresTable, found: ExistingTable) -> Iterator[str]:
    alter = f"ALTER TABLE {table.full_name}"
    for name, kind in table.all_columns:
        if name not in found.columns:
            needed = " NOT NULL" if name in table.rank else ""
            yield (
                f"the column {name} is missing; run: {alter} ADD COLUMN {quoted(name)} "
                f"{kind}{needed}{_default(name)};"
            )
        elif not _holds(found.columns[name], kind):
            yield (
                f"the column {name} is {found.columns[name]}, declared is {kind}; declare another "
                f"table, or run: {alter} ALTER COLUMN {quoted(name)} TYPE {kind} "
                f"USING {quoted(name)}::{kind};"
            )


def _holds(there: str, declared: str) -> bool:
    wider = _SAME.get(declared, ("numeric",) if declared.startswith("numeric") else ())
    return there == declared or there in wider


def _default(name: str) -> str:
    return f" DEFAULT {_DEFAULTS[name]}" if name in _DEFAULTS else ""


def _parameter(name: str) -> str:
    return "%(closed)s::boolean" if name == CLOSED else "%(number)s::bigint"


def _listed(names: Collection[str] | Iterator[str], owner: str = "") -> str:
    return ", ".join(f"{owner}.{quoted(name)}" if owner else quoted(name) for name in names)


def quoted(name: str) -> str:
    """Write a name so that case and reserved words stay as they are."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
