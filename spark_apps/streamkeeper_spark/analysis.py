"""A stream's KPIs computed from its Cassandra table, held against those of its closed hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from streamkeeper import names
from streamkeeper.analysis import Analysis, KpiOfHour, compare
from streamkeeper.closing import CLOSE_COLUMN as CLOSE
from streamkeeper.errors import StreamkeeperError
from streamkeeper.hours import HOUR, Revision
from streamkeeper.names import CURATED, closed_file, format_hour, kpi_zone, parse_hour
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Kpi, Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.closed import read_hour
from streamkeeper_io.lake import use_lake
from streamkeeper_io.store import Store
from streamkeeper_spark.datasources.cassandra import register
from streamkeeper_spark.datasources.cassandra.options import connection_options
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.hours import HOUR_FORMAT, read_curated
from streamkeeper_spark.kpis import kpi_rows
from streamkeeper_spark.schema import landed_schema, spark_type

_SHOWN = 24
# A read cannot ask for these levels of a write.
_READ_LEVELS = {"ANY": "LOCAL_ONE", "EACH_QUORUM": "QUORUM"}


def closed_revisions(store: Store, spec: Spec, hours: Sequence[datetime]) -> list[Revision]:
    """Return the last revisions of hours, in their order.

    Raises StreamkeeperError for an hour that has not been closed, with those that have.
    """
    closed = {revision.hour: revision for revision in store.revisions(spec.name)}
    for hour in hours:
        if hour not in closed:
            known = ", ".join(map(format_hour, list(closed)[-_SHOWN:])) or "none"
            raise StreamkeeperError(
                f"{spec.name} {format_hour(hour)} has not been closed; closed hours: {known}; "
                f"close it with {names.hours_dag_id(spec.name)}"
            )
    return [closed[hour] for hour in sorted(set(hours))]


@dataclass
class TableAnalysis:
    """Analyses one table of a stream.

    Parameters: sink, one of `Spec.raw_tables`; key, the values of some of the table's key columns
    that are analysed; none: all.
    """

    spark: SparkSession
    settings: Settings
    spec: Spec
    sink: CassandraSink
    store: Store
    key: Mapping[str, Sequence[Any]]

    def run(self, hours: Sequence[datetime]) -> Analysis:
        """Compute the KPIs of closed hours from the table and compare them with the lake's.

        Raises StreamkeeperError for an hour that is not closed, or a table without event times.
        """
        self._need_event_time()
        revisions = closed_revisions(self.store, self.spec, hours)
        rows = self.table_rows([r.hour for r in revisions]).persist()
        lake = self._lake_rows(revisions) if self.key else None
        try:
            kpis = [
                found for kpi in self.spec.kpis for found in self._kpi(kpi, revisions, rows, lake)
            ]
            count = rows.count()
            lake_count = sum(r.counts["valid"] for r in revisions) if lake is None else lake.count()
        finally:
            rows.unpersist()
        return Analysis(
            stream=self.spec.name,
            table=f"{self.sink.keyspace}.{self.sink.table}",
            hours=tuple(r.hour for r in revisions),
            key={name: ", ".join(map(str, values)) for name, values in self.key.items()},
            rows=count,
            lake_rows=lake_count,
            kpis=tuple(kpis),
        )

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The declared columns that the table has."""
        return self.sink.columns or tuple(self.spec.columns())

    def table_rows(self, hours: Sequence[datetime]) -> DataFrame:
        """Return the table's rows of hours and key, with the columns that a KPI may ask for.

        The conditions on key columns are answered by Cassandra.
        """
        register(self.spark)
        types = self.spec.columns()
        schema = T.StructType([T.StructField(n, spark_type(types[n])) for n in self.columns])
        source = self.spark.read.format("cassandra").schema(schema)
        level = self.sink.consistency
        options = {
            "contact_points": self.settings.need("cassandra"),
            "keyspace": self.sink.keyspace,
            "table": self.sink.table,
            "consistency": _READ_LEVELS.get(level, level),
        }
        rows = source.options(**options, **connection_options(self.settings.cassandra_options))
        at = F.col(f"`{self.spec.event_time.field}`")
        span = (at >= F.lit(min(hours))) & (at < F.lit(max(hours) + HOUR))
        found = self._with_key(rows.load()).where(span)
        found = found.where(F.date_trunc("hour", at).isin([F.lit(hour) for hour in hours]))
        return self._as_curated(found, at)

    def _as_curated(self, rows: DataFrame, at: Any) -> DataFrame:
        """Add what a curated row has besides; what the table lacks is null."""
        made = {names.EVENT_TIME: at, names.HOUR: F.date_trunc("hour", at)}
        for column in landed_schema(self.spec):
            if column.name not in rows.columns:
                value = made.get(column.name, F.lit(None).cast(column.dataType))
                rows = rows.withColumn(column.name, value)
        return rows.withColumn(CLOSE, F.date_format(names.HOUR, HOUR_FORMAT))

    def _with_key(self, rows: DataFrame) -> DataFrame:
        for name, values in self.key.items():
            rows = rows.where(F.col(f"`{name}`").isin(list(values)))
        return rows

    # The lake
    def _lake_rows(self, revisions: Sequence[Revision]) -> DataFrame:
        files = LakeFiles(self.spark, self.settings.need("lake"))
        paths = [closed_file(self.spec, CURATED, r.hour) for r in revisions if CURATED in r.files]
        found = self._with_key(read_curated(self.spark, files, self.spec, paths))
        return found.withColumn(CLOSE, F.date_format(names.HOUR, HOUR_FORMAT))

    def _closed_kpi(self, kpi: Kpi, revision: Revision) -> pa.Table | None:
        zone = kpi_zone(kpi.name)

        def latest() -> Revision:
            return closed_revisions(self.store, self.spec, [revision.hour])[0]

        _, tables = read_hour(use_lake(self.settings), self.spec, latest, {zone: None})
        return tables.get(zone)

    # KPIs
    def _kpi(
        self, kpi: Kpi, revisions: Sequence[Revision], rows: DataFrame, lake: DataFrame | None
    ) -> list[KpiOfHour]:
        wanted = set(self.columns) if kpi.of_readings else {*kpi.by, *kpi.measures}
        columns = tuple(
            c
            for c in (self.spec.columns() if kpi.of_readings else [*kpi.by, *kpi.measures])
            if c in wanted
        )
        missing = sorted(_needed(kpi) - set(self.columns))
        if missing:
            told = f"the table has no column {', '.join(missing)}"
            return [KpiOfHour(kpi.name, r.hour, columns, skipped=told) for r in revisions]
        table = _by_hour(kpi_rows(rows, self.spec, kpi).toArrow(), columns)
        if lake is not None:
            theirs = _by_hour(kpi_rows(lake, self.spec, kpi).toArrow(), columns)
        else:
            closed = {r.hour: self._closed_kpi(kpi, r) for r in revisions}
            theirs = {h: _rows(t, columns) for h, t in closed.items() if t is not None}
        found = []
        for hour in (r.hour for r in revisions):
            own = table.get(hour, [])
            keys = () if kpi.of_readings else kpi.by
            lakes = theirs.get(hour, [])
            differ = compare(kpi.name, hour, columns, keys, lake=lakes, table=own)
            found.append(KpiOfHour(kpi.name, hour, columns, tuple(own), differ))
        return found

    def _need_event_time(self) -> None:
        field = self.spec.event_time.field
        if field not in self.columns:
            raise StreamkeeperError(
                f"{self.spec.name}: the table {self.sink.keyspace}.{self.sink.table} has no column "
                f"{field}, the event time, so its hours cannot be told apart; add it to `columns`"
            )


def _needed(kpi: Kpi) -> set[str]:
    """Return the columns without which a KPI cannot be computed."""
    found = {*kpi.by, *(f for m in kpi.measures.values() for f in m.fields)}
    if kpi.where is not None:
        found |= set(kpi.where.fields)
    if kpi.of_readings and kpi.order_by:
        found.add(kpi.order_by)
    return found


def _by_hour(rows: pa.Table, columns: Sequence[str]) -> dict[datetime, list[tuple[Any, ...]]]:
    found: dict[datetime, list[tuple[Any, ...]]] = {}
    for hour, row in zip(rows[CLOSE].to_pylist(), _rows(rows, columns), strict=True):
        found.setdefault(parse_hour(hour), []).append(row)
    return found


def _rows(table: pa.Table, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def read_key(spec: Spec, sink: CassandraSink, texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read conditions on a table's key such as `sensor_id=3` or `city=Fes,Rabat`.

    Raises StreamkeeperError for a column that is no key, or a value that is not of its type.
    """
    keys, types = (*sink.partition_by, *sink.cluster_by), spec.columns()
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, given, values = text.partition("=")
        if not given or name not in keys:
            raise StreamkeeperError(
                f"{text!r} is no condition on the key of {sink.keyspace}.{sink.table}; write "
                f"COLUMN=VALUE,...; key columns: {', '.join(keys)}"
            )
        for value in values.split(","):
            try:
                found.setdefault(name, []).append(_value(types[name], value))
            except (ValueError, InvalidOperation):
                raise StreamkeeperError(
                    f"{text!r}: {value!r} is not a value of {name}, which is {types[name]}"
                ) from None
    return found


def _value(kind: str, text: str) -> Any:
    if kind in ("integer", "int32"):
        return int(text)
    if kind in ("double", "float"):
        return float(text)
    if kind == "boolean":
        return {"true": True, "false": False}[text] if text in ("true", "false") else int("")
    if kind == "timestamp":
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return Decimal(text) if kind.startswith("decimal") else text
