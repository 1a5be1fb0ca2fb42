"""The models of sinks: where rows go besides the lake."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from streamkeeper.connections.postgres import CONNECTION
from streamkeeper.spec.values import Duration, LakePath, Model, Name

Consistency = Literal[
    "ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"
]


class CassandraSink(Model):
    """Rows into a Cassandra table.

    Window rows are partitioned by the keys and the day. Landed rows (`of: raw`) are partitioned by
    `partition_by` and ordered by `cluster_by`; `columns` are written, by default all.
    """

    kind: Literal["cassandra"]
    of: str
    keyspace: Name
    table: Name
    partition_by: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    ttl: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=7300))] | None = None
    consistency: Consistency = "LOCAL_ONE"


Metadata = Literal["topic_id", "partition", "offset", "timestamp"]


class PostgresSink(Model):
    """Rows into a PostgreSQL table, `table` or `schema.table`, of an Airflow connection's database.

    Window rows are keyed by the window's fields and start. Landed rows (`of: raw`) are keyed by
    `key`, by default by their coordinates; `columns` are written, by default all, and of
    Streamkeeper's own those that `metadata` names. `indexes`: columns of each further index.
    """

    kind: Literal["postgresql"]
    of: str
    table: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{0,47}\.)?[a-z][a-z0-9_]{0,47}$")]
    connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")] = CONNECTION
    key: tuple[str, ...] = ()
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    metadata: tuple[Metadata, ...] = ()
    indexes: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """Schema and table."""
        schema, _, table = self.table.rpartition(".")
        return schema or "public", table


HOUR_COLUMN, REVISION_COLUMN = "hour", "_revision"
"""What a Delta table of closed hours has besides: the hour of a row, and its revision."""


class DeltaSink(Model):
    """Rows into a Delta table in the lake: landed ones, or those of a KPI or of anomalies.

    Landed rows (`of: raw`) are there once each, by their coordinates; `columns` are written, by
    default all, and of Streamkeeper's own the coordinates and those that `metadata` names. Of a KPI
    or anomalies each hour has the rows of its last revision. `partition_by`: the columns that part
    its files.
    """

    kind: Literal["delta"]
    of: str = "raw"
    path: LakePath
    partition_by: tuple[str, ...] = ()
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    metadata: tuple[Metadata | Literal["corrected"], ...] = ()

    @property
    def of_hours(self) -> bool:
        """Whether its rows are written when an hour is closed."""
        return self.of != "raw"


class ConsoleSink(Model):
    """Rows into the driver's log: `of` is `raw` or the name of a window.

    `counts`, a column of landed rows: not rows, but how often each value came in each batch.
    """

    kind: Literal["console"]
    of: str = "raw"
    counts: str | None = None
    every: Duration = timedelta(seconds=10)
    rows: Annotated[int, Field(ge=1, le=1000)] = 20

    @property
    def has_query(self) -> bool:
        """Whether a query of its own prints; what is published is printed otherwise."""
        return self.of == "raw" and self.counts is None


class MetricsSink(Model):
    """Counts of each batch of landed rows: a small file in the lake, and StatsD where it is on.

    `counts`, columns: how many valid rows have each value, the most frequent `rows` of them.
    """

    kind: Literal["metrics"]
    of: Literal["raw"] = "raw"
    counts: tuple[str, ...] = ()
    rows: Annotated[int, Field(ge=1, le=1000)] = 20


Sink = Annotated[
    CassandraSink | PostgresSink | DeltaSink | ConsoleSink | MetricsSink,
    Field(discriminator="kind"),
]
