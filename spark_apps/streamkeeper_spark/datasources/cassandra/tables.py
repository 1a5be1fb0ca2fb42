"""What Cassandra tells of a table: columns, key, and how large it may be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from cassandra import DriverException
from cassandra.cluster import Session
from cassandra.metadata import Murmur3Token

from streamkeeper.errors import Mistake, OptionsError
from streamkeeper_io.cassandra import AWAY, unavailable
from streamkeeper_io.cassandra_tables import quoted
from streamkeeper_spark.datasources.cassandra.kinds import Kind, parse_kind
from streamkeeper_spark.datasources.cassandra.options import SOURCE, Options

# Tokens of Murmur3Partitioner; no row ever has the lowest.
FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Table:
    """A table: its columns' types by name, in CQL's order, and the parts of its key."""

    keyspace: str
    name: str
    columns: dict[str, Kind]
    partition: tuple[str, ...]
    clustering: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """Keyspace and table, quoted."""
        return f"{quoted(self.keyspace)}.{quoted(self.name)}"

    @property
    def has_counters(self) -> bool:
        """Whether it is a counter table, which can be read only."""
        return any(kind.name == "counter" for kind in self.columns.values())

    def mistake(self, key: str, column: str, message: str) -> Mistake:
        """Return the mistake of naming a column that is not there."""
        nearest = difflib.get_close_matches(column, self.columns, n=1)
        return Mistake(
            SOURCE, None, key, message, repr(column), tuple(self.columns),
            nearest[0] if nearest else None,
        )  # fmt: skip


def find_table(session: Session, options: Options) -> Table:
    """Return a table as the cluster's schema has it now.

    Raises OptionsError, with the names that there are, when keyspace or table is missing,
    CassandraUnavailable.
    """
    try:
        # A session that has been open for long hears of new tables some seconds later.
        session.cluster.refresh_schema_metadata()
    except (DriverException, *AWAY) as error:
        raise unavailable(options.contact_points, error) from error
    keyspaces = session.cluster.metadata.keyspaces
    if options.keyspace not in keyspaces:
        raise OptionsError((_missing("keyspace", options.keyspace, keyspaces),))
    keyspace = keyspaces[options.keyspace]
    if options.table not in keyspace.tables:
        names = [*keyspace.tables, *keyspace.views]
        raise OptionsError((_missing("table", options.table, names),))
    found = keyspace.tables[options.table]
    user_types = {
        name: (list(udt.field_names), list(udt.field_types))
        for name, udt in keyspace.user_types.items()
    }
    return Table(
        options.keyspace,
        options.table,
        {n: parse_kind(c.cql_type, user_types) for n, c in found.columns.items()},
        tuple(c.name for c in found.partition_key),
        tuple(c.name for c in found.clustering_key),
    )


def _missing(key: str, value: str, there: Iterable[str]) -> Mistake:
    valid = tuple(sorted(name for name in there if not name.startswith("system")))
    nearest = difflib.get_close_matches(value, valid, n=1)
    return Mistake(
        SOURCE, None, key, " is not there", repr(value), valid, nearest[0] if nearest else None
    )


def ring(session: Session) -> list[int]:
    """Return the ring's tokens in order.

    Raises OptionsError for a cluster of another partitioner than Murmur3Partitioner.
    """
    tokens = session.cluster.metadata.token_map.ring
    if not all(isinstance(token, Murmur3Token) for token in tokens):
        told = " cannot be scanned: its cluster does not use Murmur3Partitioner"
        raise OptionsError((Mistake(SOURCE, None, "table", told),))
    return sorted(token.value for token in tokens)


def estimated_bytes(session: Session, table: Table) -> float:
    """Return about how many bytes a table has, as system.size_estimates tells; 0 if unknown.

    A node estimates its own ranges, so the sum is scaled up by the share of the ring they cover.
    """
    rows = session.execute(
        "SELECT range_start, range_end, mean_partition_size, partitions_count "
        "FROM system.size_estimates WHERE keyspace_name = %s AND table_name = %s",
        (table.keyspace, table.name),
    )
    total, covered = 0.0, 0.0
    for row in rows:
        width = (int(row.range_end) - int(row.range_start)) % 2**64 or 2**64
        covered += width / 2**64
        total += row.mean_partition_size * row.partitions_count
    return total / min(covered, 1.0) if covered else 0.0
