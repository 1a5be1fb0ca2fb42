"""What a declaration will create, told line by line: `streamkeeper check --explain`."""

from __future__ import annotations

from collections.abc import Iterator

from streamkeeper import names
from streamkeeper.anomalies import verdict_types
from streamkeeper.hourly_tables import table_types
from streamkeeper.reports import condition_text
from streamkeeper.spec.anomalies import Anomaly
from streamkeeper.spec.durations import format_duration
from streamkeeper.spec.expressions import Expression
from streamkeeper.spec.field_types import sql_type
from streamkeeper.spec.models import FieldSpec, Kpi, Spec, Window
from streamkeeper.spec.rules import rules
from streamkeeper.spec.sinks import (
    HOUR_COLUMN,
    REVISION_COLUMN,
    CassandraSink,
    DeltaSink,
    MetricsSink,
    PostgresSink,
)
from streamkeeper.texts import Language
from streamkeeper_io.cassandra_sinks import sink_table
from streamkeeper_io.postgres_sinks import sink_table as postgres_table

_OF = {"day": "a day", "all": "everything"}
_TOPIC_SETTINGS = "message.timestamp.type=LogAppendTime"
_KINDS = {
    "plain": "",
    "transactional": "; messages count once their transaction is committed",
    "compacted": ", cleanup.policy=compact",
}
_ADDED = {
    names.EVENT_TIME: "timestamp: the event time",
    names.HOUR: "timestamp: its hour, UTC",
    names.TOPIC_ID: "string: the topic's id",
    names.PARTITION: "int",
    names.OFFSET: "bigint",
    names.TIMESTAMP: "timestamp: the broker's",
    names.GENERATION: "string: of the checkpoint",
    names.BATCH: "bigint",
    names.KEY: "binary: the message's key",
    names.ERRORS: "array<string>: `rule: message`; null in a valid row",
    names.VALUE: "binary: the message, of quarantined rows only",
}

_DELTA_OWN = {
    names.TOPIC_ID: "string, a coordinate",
    names.PARTITION: "int, a coordinate",
    names.OFFSET: "bigint, a coordinate",
    names.TIMESTAMP: "timestamp, the broker's",
    names.CORRECTED: "array<string>: what was corrected",
    names.WRITE_NUMBER: "bigint: which write a row is of",
}


def explain(spec: Spec) -> Iterator[str]:
    """Yield the lines that tell what a stream's declaration creates; part by part, indented."""
    yield from _part("topic", _topic(spec))
    yield from _part("message to row", _fields(spec))
    yield from _part("landed row (snappy Parquet)", _columns(spec))
    yield from _part("rules", (f"{name}: {text}" for name, text in rules(spec)))
    yield from _part("queries of the driver", _queries(spec))
    for window in spec.windows:
        yield from _part(f"window {window.name}", _window(window, spec))
    for kpi in spec.kpis:
        yield from _part(f"KPI {kpi.name}, hourly", _kpi(kpi, spec))
    for anomaly in spec.anomalies:
        yield from _part(f"anomalies {anomaly.name}, hourly", _anomaly(anomaly, spec))
    yield from _part(
        "alerts", (f"{a.name}: {condition_text(spec, a, Language())}" for a in spec.alerts)
    )
    for sink in spec.sinks:
        if isinstance(sink, CassandraSink):
            title = f"Cassandra table {sink.keyspace}.{sink.table}, of {sink.of}"
            yield from _part(title, _table(spec, sink))
        elif isinstance(sink, PostgresSink):
            title = f"PostgreSQL table {'.'.join(sink.place)}, of {sink.of}"
            yield from _part(title, _postgres_table(spec, sink))
        elif isinstance(sink, DeltaSink):
            yield from _part(f"Delta table {sink.path}, of {sink.of}", _delta_table(spec, sink))
    yield from _part("lake", _lake(spec))
    yield from _part("DAGs", _dags(spec))
    yield from _part("the store's rows of it (SQL)", _store(spec))


def _part(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = [f"  {line}" for line in lines]
    if found:
        yield f"{title}:"
        yield from found


def _topic(spec: Spec) -> Iterator[str]:
    kafka = spec.source.kafka
    yield (
        f"{kafka.topic}: created if missing; partitions {kafka.partitions}, "
        f"replicas {kafka.replication}, {_TOPIC_SETTINGS}{_KINDS[kafka.kind]}"
    )
    if spec.source.format == "csv":
        columns = spec.source.csv.columns or tuple(spec.fields)
        yield f"a message is one CSV record: {spec.source.csv.delimiter.join(columns)}"
    else:
        yield "a message is one JSON object"
    strict = "as it is declared" if spec.source.strict else "or as another where that is exact"
    yield f"values are read in the type {strict}"


def _fields(spec: Spec) -> Iterator[str]:
    for name, field in spec.fields.items():
        yield f"{name}: {field.type} at {_place(spec, name, field)}{_conversion(field)}"


def _place(spec: Spec, name: str, field: FieldSpec) -> str:
    if spec.source.format == "csv":
        return f"column {field.path or name}"
    keys = field.keys(name)
    return " / ".join(keys) if any("." in key for key in keys) else ".".join(keys)


def _conversion(field: FieldSpec) -> str:
    if field.type == "timestamp":
        zone = f", {field.zone} where it has no zone" if field.zone else ""
        also = f", corrected from {', '.join(field.also)}" if field.also else ""
        return f" ({field.format}{also}{zone})"
    if field.units is not None:
        told = field.units
        corrected = ", ".join(
            f"{text}" + (f" to {unit}: x becomes {how}" if how else f" is {unit}")
            for text, (unit, how) in told.readings().items()
            if text != unit
        )
        return f", in {', '.join(told.landed)} as {told.field} tells; {corrected or 'no others'}"
    found = field.conversion()
    if found is not None:
        return f", {field.sent_unit} to {field.unit}: x becomes {found}"
    return f" ({field.unit})" if field.unit else ""


def _columns(spec: Spec) -> Iterator[str]:
    derived = spec.derived_expressions()
    for name, kind in spec.columns().items():
        how = f" = {derived[name].sql}" if name in derived else ""
        yield f"{name} {sql_type(kind)}{how}"
    for name, text in _ADDED.items():
        yield f"{name} {text}"
    if spec.warns:
        yield f"{names.WARNINGS} array<string>: checks that only mark a row"
    if found := ", ".join(spec.corrections()):
        yield f"{names.CORRECTED} array<string>: what was corrected, of {found}"


def _queries(spec: Spec) -> Iterator[str]:
    yield f"{names.LAND}: a batch every {format_duration(spec.lake.every)}"
    for window in spec.windows:
        yield f"{names.window_query(window.name)}: a batch every {format_duration(window.every)}"
    for sink in spec.sinks:
        if sink.kind == "console" and sink.has_query:
            yield f"{names.console_query(sink.of)}: prints every {format_duration(sink.every)}"


def _measures(measures: dict[str, Expression]) -> Iterator[str]:
    for name, measure in measures.items():
        yield f"{name} {sql_type(measure.type)} = {measure.sql}"


def _where(where: Expression | None) -> Iterator[str]:
    if where is not None:
        yield f"of rows where {where.sql}"


def _window(window: Window, spec: Spec) -> Iterator[str]:
    each = f", one each {format_duration(window.slide)}" if window.slide else ""
    yield (
        f"{format_duration(window.size)} of event time{each}, changed live until "
        f"{format_duration(window.watermark)} after the newest, final when the hour is closed"
    )
    yield from _where(window.where)
    for name in window.by:
        yield f"{name} {sql_type(spec.columns()[name])}, a key"
    yield "window_start timestamp, window_end timestamp"
    yield from _measures(window.measures)


def _kpi(kpi: Kpi, spec: Spec) -> Iterator[str]:
    yield from _where(kpi.where)
    for name in kpi.by:
        yield f"{name} {sql_type(spec.columns()[name])}, a key"
    yield from _measures(kpi.measures)
    order = "highest" if kpi.descending else "lowest"
    if kpi.of_readings:
        yield f"the {kpi.top} rows of the {order} {kpi.order_by}, all columns"
    elif kpi.top:
        yield f"sorted by {kpi.order_by}, {order} first; the first {kpi.top} only"
    elif kpi.order_by:
        yield f"sorted by {kpi.order_by}, {order} first"


def _anomaly(anomaly: Anomaly, spec: Spec) -> Iterator[str]:
    kpi = spec.kpi(anomaly.kpi)
    yield (
        f"a verdict on {anomaly.of} of each KPI row: {anomaly.method}, anomalous beyond "
        f"{anomaly.above:g} to either side"
    )
    keys = ", ".join(anomaly.keys(kpi)) or "no key: all rows together"
    yield (
        f"history: the closed, complete hours of the {format_duration(anomaly.history)} before, by "
        f"{keys}; at least {anomaly.least} of them"
    )
    for name, kind in verdict_types(spec, anomaly).items():
        yield f"{name} {sql_type(kind)}{', a key' if name in kpi.by else ''}"


def _table(spec: Spec, sink: CassandraSink) -> Iterator[str]:
    yield sink_table(spec, sink).create() + ";"
    ttl = "for ever" if sink.ttl is None else format_duration(sink.ttl)
    yield f"rows are kept {ttl}, written with consistency {sink.consistency}"


def _postgres_table(spec: Spec, sink: PostgresSink) -> Iterator[str]:
    table = postgres_table(spec, sink)
    yield table.create() + ";"
    for columns in table.indexes:
        yield table.create_index(columns) + ";"
    yield f"in the database of the connection {sink.connection}"
    yield f"each batch: {table.create_staging()};"
    yield f"  {table.copy()};"
    yield f"  {table.upsert()};"


def _delta_table(spec: Spec, sink: DeltaSink) -> Iterator[str]:
    from streamkeeper_io.delta_hours import hour_shape
    from streamkeeper_io.delta_sinks import raw_shape

    if sink.of_hours:
        types = {name: sql_type(kind) for name, kind in table_types(spec, sink.of).items()}
        types |= {HOUR_COLUMN: "timestamp", REVISION_COLUMN: "bigint: of the hour's close"}
        for name in hour_shape(spec, sink).columns.names:
            yield f"{name} {types[name]}"
        by = ", ".join(sink.partition_by) or "nothing"
        yield f"partitioned by {by}; a close puts an hour's rows into the place of those before"
        return
    types = {name: sql_type(kind) for name, kind in spec.columns().items()} | _DELTA_OWN
    for name in raw_shape(spec, sink).columns.names:
        yield f"{name} {types[name]}"
    yield f"partitioned by {', '.join(sink.partition_by) or 'nothing'}; a commit a batch"


def _lake(spec: Spec) -> Iterator[str]:
    yield f"{names.raw_path(spec)}/batch=<generation>-<batch>/: landed rows, quarantined ones too"
    for window in spec.windows:
        path = names.window_path(spec, window.name)
        yield f"{path}/batch=<generation>-<batch>/: live window rows"
    yield f"{names.curated_path(spec)}/dt=<day>/hour=<hour>/: closed hours"
    for kpi in spec.kpis:
        yield f"{names.kpi_path(spec, kpi.name)}/dt=<day>/hour=<hour>/: KPI"
        if kpi.csv:
            folder = f"{spec.lake.path}/{names.csv_zone(kpi.name)}"
            yield f"{folder}/dt=<day>/hour=<hour>/: the same rows as CSV"
        for kind in kpi.periods:
            zones = [names.period_zone(kpi.name, kind)]
            zones += [f"{zones[0]}_csv"] if kpi.csv else []
            below = "dt=<day>/" if kind == "day" else ""
            yield from (f"{spec.lake.path}/{z}/{below}: the KPI of {_OF[kind]}" for z in zones)
    for anomaly in spec.anomalies:
        yield f"{names.kpi_path(spec, anomaly.name)}/dt=<day>/hour=<hour>/: anomalies"
    for alert in spec.alerts:
        if alert.where is not None:
            folder = f"{spec.lake.path}/{names.alert_zone(alert.name)}"
            yield f"{folder}/dt=<day>/hour=<hour>/: the worst readings that break it"
    if any(isinstance(sink, MetricsSink) for sink in spec.sinks):
        yield f"{names.metrics_path(spec)}/batch=<generation>-<batch>.json: counts of each batch"
    if spec.report:
        yield f"{names.report_path(spec)}/dt=<day>/hour=<hour>/: reports in Markdown"
    queries = [names.LAND, *(names.window_query(w.name) for w in spec.windows)]
    for query in queries:
        yield f"{names.checkpoint_path(spec, query)}/: checkpoints"


def _dags(spec: Spec) -> Iterator[str]:
    yield f"{names.keep_dag_id(spec.app)}: keeps the driver alive"
    if spec.producer.simulator:
        yield f"{names.produce_dag_id(spec.name)}: keeps the simulator alive"
    if folder := spec.producer.folder:
        yield f"{names.produce_dag_id(spec.name)}: watches the folder {folder.path}"
    yield f"{names.hours_dag_id(spec.name)}: closes hours at {spec.hours.schedule} (UTC)"
    if spec.report:
        yield f"{names.report_dag_id(spec.name)}: mails reports to {', '.join(spec.report.to)}"
    if spec.period_kinds():
        told = f"computes KPIs of longer times at {spec.hours.daily} (UTC)"
        yield f"{names.periods_dag_id(spec.name)}: {told}"
    if tables := spec.raw_tables():
        yield f"{names.analyse_dag_id(spec.name)}: analyses {', '.join(tables)}, by hand"


def _store(spec: Spec) -> Iterator[str]:
    where = f"WHERE stream = '{spec.name}'"
    yield f"SELECT * FROM streamkeeper.batches {where} AND zone = 'raw' ORDER BY epoch, batch;"
    yield f"SELECT * FROM streamkeeper.revisions {where} ORDER BY hour, revision;"
