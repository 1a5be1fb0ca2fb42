"""Cassandra tables as declared, and how an existing one differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Cassandra refuses longer partition keys; the rest of the key takes a few bytes.
KEY_BYTES = 60_000


@dataclass(frozen=True)
class CassandraTable:
    """A table: columns with their types, in order; the first ones are its primary key.

    `partition` and `clustering` name the parts of the primary key; `ttl_s`: the seconds that cells
    live, 0 for ever; `newest_first`: whether clustering columns run downwards.
    """

    keyspace: str
    name: str
    columns: tuple[tuple[str, str], ...]
    partition: tuple[str, ...]
    clustering: tuple[str, ...]
    ttl_s: int = 0
    newest_first: bool = True

    @property
    def full_name(self) -> str:
        """Keyspace and table, quoted."""
        return f"{quoted(self.keyspace)}.{quoted(self.name)}"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in their order."""
        return tuple(name for name, _ in self.columns)

    def create_keyspace(self, datacenter: str, replicas: int) -> str:
        """Return the statement that creates the keyspace if it is missing."""
        return (
            f"CREATE KEYSPACE IF NOT EXISTS {quoted(self.keyspace)} WITH replication = "
            f"{{'class': 'NetworkTopologyStrategy', '{datacenter}': {replicas}}}"
        )

    def create(self) -> str:
        """Return the statement that creates the table if it is missing."""
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in self.columns)
        partition = ", ".join(quoted(name) for name in self.partition)
        key = ", ".join([f"({partition})", *(quoted(name) for name in self.clustering)])
        text = f"CREATE TABLE IF NOT EXISTS {self.full_name} ({columns}, PRIMARY KEY ({key}))"
        if not self.clustering or not self.newest_first:
            return text
        order = ", ".join(f"{quoted(name)} DESC" for name in self.clustering)
        return f"{text} WITH CLUSTERING ORDER BY ({order})"

    def insert(self, *, timestamped: bool = True) -> str:
        """Return the statement that writes one row.

        Parameters: timestamped, whether its last value is the write timestamp.
        """
        names = ", ".join(quoted(name) for name in self.names)
        marks = ", ".join("?" for _ in self.names)
        using = ["TIMESTAMP ?"] if timestamped else []
        using += [f"TTL {self.ttl_s}"] if self.ttl_s else []
        ending = f" USING {' AND '.join(using)}" if using else ""
        return f"INSERT INTO {self.full_name} ({names}) VALUES ({marks}){ending}"

    def delete(self) -> str:
        """Return the statement that removes one row: its write timestamp first, then its key."""
        keys = " AND ".join(f"{quoted(n)} = ?" for n in (*self.partition, *self.clustering))
        return f"DELETE FROM {self.full_name} USING TIMESTAMP ? WHERE {keys}"


def quoted(name: str) -> str:
    """Write a name so that case, spaces and reserved words stay as they are."""
    return '"' + name.replace('"', '""') + '"'


def differences(
    table: CassandraTable,
    columns: Mapping[str, str],
    partition: Sequence[str],
    clustering: Sequence[str],
) -> list[str]:
    """Return how an existing table differs, each with what to do; more columns are no difference.

    Parameters: columns, its columns' types by name; partition and clustering, its key.
    """
    if tuple(partition) != table.partition or tuple(clustering) != table.clustering:
        found = _key(partition, clustering)
        wanted = _key(table.partition, table.clustering)
        return [
            f"its primary key is {found}, declared is {wanted}; keys cannot be altered: declare "
            "another table, or run: "
            f"DROP TABLE {table.full_name};"
        ]
    told = []
    for name, kind in table.columns:
        if name not in columns:
            told.append(
                f"the column {name} is missing; "
                f"run: ALTER TABLE {table.full_name} ADD {quoted(name)} {kind};"
            )
        elif columns[name] != kind:
            told.append(
                f"the column {name} is {columns[name]}, declared is {kind}; types cannot be "
                f"altered: declare another table, or run: DROP TABLE {table.full_name};"
            )
    return told


def _key(partition: Sequence[str], clustering: Sequence[str]) -> str:
    return "(" + ", ".join(["(" + ", ".join(partition) + ")", *clustering]) + ")"
