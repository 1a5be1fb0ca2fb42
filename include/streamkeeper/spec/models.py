"""The declaration of a stream as frozen models; `loader` reads them from YAML."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from streamkeeper.errors import ExpressionError
from streamkeeper.periods import PeriodKind
from streamkeeper.spec import units
from streamkeeper.spec.anomalies import Anomaly
from streamkeeper.spec.dashboard import Dashboard
from streamkeeper.spec.expressions import Expression, parse_condition, parse_expression
from streamkeeper.spec.field_types import FieldType
from streamkeeper.spec.producers import Producer
from streamkeeper.spec.sinks import CassandraSink, DeltaSink, PostgresSink, Sink
from streamkeeper.spec.units import Conversion
from streamkeeper.spec.values import (
    Duration,
    ExpressionText,
    FieldName,
    FieldPath,
    LakePath,
    Model,
    Name,
    Scalar,
    Text,
    TopicName,
    TypeName,
)
from streamkeeper.texts import LanguageName


class SentUnits(Model):
    """The field that tells the unit of each value, and the units in which values land.

    A unit of the dimension of a landed one is converted to it; `spelled` maps other spellings to
    units.
    """

    field: str
    landed: Annotated[tuple[str, ...], Field(min_length=1)]
    spelled: dict[str, str] = Field(default={})

    def readings(self) -> dict[str, tuple[str, Conversion | None]]:
        """Return each text that is read as a unit: the landed unit and how values are converted."""
        found: dict[str, tuple[str, Conversion | None]] = {u: (u, None) for u in self.landed}
        for landed in self.landed:
            if landed in units.UNITS:
                for sent in units.convertible(landed):
                    found.setdefault(sent, (landed, units.conversion(sent, landed)))
        return found | {text: found[unit] for text, unit in self.spelled.items()}


class FieldSpec(Model):
    """One field of a message: its type, where it stands, and the checks on it.

    `path` is dotted or a list of keys (default: the field's name); `range` is inclusive, of the
    landed value; `allowed` lists the only accepted values; a value sent in `sent_unit` is converted
    to `unit`, one whose unit another field tells as `units` tell; `format` and `zone` tell how a
    timestamp is written (a text without zone is a mistake unless `zone` is given), and `also` in
    which forms besides: those are counted as corrected.
    """

    type: TypeName
    path: FieldPath | None = None
    required: bool = False
    range: tuple[float | None, float | None] | None = None
    allowed: tuple[Scalar, ...] | None = None
    unit: str | None = None
    sent_unit: str | None = None
    units: SentUnits | None = None
    format: Literal["iso8601", "epoch_s", "epoch_ms", "epoch_us"] = "iso8601"
    also: tuple[Literal["iso8601", "local", "epoch_s", "epoch_ms", "epoch_us"], ...] = ()
    zone: str | None = None

    def keys(self, name: str) -> tuple[str, ...]:
        """Return the keys that lead to the value in a message; `name` is the field's own."""
        if isinstance(self.path, str):
            return tuple(self.path.split("."))
        return self.path or (name,)

    def conversion(self) -> Conversion | None:
        """Return how the sent value is converted; None if it lands as it was sent."""
        if self.sent_unit is None or self.unit is None:
            return None
        return units.conversion(self.sent_unit, self.unit)


class Derived(Model):
    """A further column of a landed row, computed from the fields and the columns above it."""

    expression: ExpressionText
    unit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """Read `name: expression` as `name: {expression: expression}`."""
        return {"expression": given} if isinstance(given, str | Expression) else given


class Check(Model):
    """A condition that a landed row must meet; null counts as met.

    warn: the row lands as valid and is marked; quarantine: it is set aside; fail: the stream ends.
    """

    name: Name
    expect: ExpressionText
    on_fail: Literal["warn", "quarantine", "fail"] = "quarantine"

    @property
    def rule(self) -> str:
        """The name under which what fails it is counted."""
        return f"check:{self.name}"


class KafkaSource(Model):
    """The topic that the stream reads; it is created when missing.

    kind: plain, every offset holds a message for good; transactional, messages are read once their
    transaction is committed, and the others leave gaps; compacted, older messages of a key go.
    """

    topic: TopicName
    kind: Literal["plain", "transactional", "compacted"] = "plain"
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 3
    replication: Annotated[int, Field(ge=1, le=16)] = 1


class Csv(Model):
    """How a CSV record is written: its columns in order, and which texts mean "missing"."""

    columns: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    missing: tuple[str, ...] = ("",)


class Source(Model):
    """Where the messages come from and how they are written.

    `strict: false` reads what was written as another type where that is exact.
    """

    kafka: KafkaSource
    format: Literal["json", "csv"] = "json"
    strict: bool = True
    csv: Csv = Csv()


class EventTime(Model):
    """Which field tells when a reading was made, and how far it may lie off the broker's time."""

    field: str
    max_ahead: Duration = timedelta(hours=1)
    lateness: Duration | None = None


class LakeSpec(Model):
    """The stream's folder on HDFS and how often a batch lands in it."""

    path: LakePath
    every: Duration = timedelta(seconds=30)


class Window(Model):
    """Event-time windows with their measures by key.

    One begins every `slide`, by default when the one before ends; longer ones overlap.
    """

    name: Name
    size: Duration
    slide: Duration | None = None
    watermark: Duration
    every: Duration = timedelta(seconds=30)
    by: tuple[str, ...] = ()
    where: ExpressionText | None = None
    measures: dict[Name, ExpressionText]

    @property
    def step(self) -> timedelta:
        """From the start of one window to that of the next."""
        return self.slide or self.size


class Kpi(Model):
    """One hourly table: measures by key, of all keys or the `top` ones; or the `top` readings.

    `periods`: of which longer times than an hour it is computed too.
    """

    name: Name
    by: tuple[str, ...] = ()
    where: ExpressionText | None = None
    measures: dict[Name, ExpressionText] = Field(default={})
    top: Annotated[int, Field(ge=1, le=1000)] | None = None
    order_by: str | None = None
    descending: bool = True
    csv: bool = False
    periods: tuple[PeriodKind, ...] = ()

    @property
    def of_readings(self) -> bool:
        """Whether its rows are readings, not groups of them."""
        return not self.measures


class Alert(Model):
    """A condition: a reading's field, or a KPI's column (`kpi.column`), above or below a limit."""

    name: Name
    field: str | None = None
    kpi: str | None = None
    where: ExpressionText | None = None
    above: float | None = None
    below: float | None = None


class Report(Model):
    """The report mail of an hour, who receives it and in which language."""

    title: str
    to: tuple[str, ...]
    sender: str = "streamkeeper@localhost"
    chart: str | None = None
    language: LanguageName = "en"


class Hours(Model):
    """When an hour is closed; cron schedules (UTC) of the DAGs `hours__` and `periods__`."""

    grace: Duration = timedelta(minutes=5)
    wait_limit: Duration = timedelta(hours=1)
    schedule: str = "0 * * * *"
    daily: str = "30 1 * * *"


class Spec(Model):
    """One declared stream."""

    name: Name
    description: str
    app: Name
    tags: tuple[str, ...] = ()
    source: Source
    fields: dict[FieldName, FieldSpec]
    derived: dict[FieldName, Derived] = Field(default={})
    checks: tuple[Check, ...] = ()
    event_time: EventTime
    lake: LakeSpec
    producer: Producer = Producer()
    windows: tuple[Window, ...] = ()
    sinks: tuple[Sink, ...] = ()
    kpis: tuple[Kpi, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    alerts: tuple[Alert, ...] = ()
    report: Report | None = None
    dashboard: Dashboard = Dashboard()
    hours: Hours = Hours()

    @model_validator(mode="after")
    def _read_expressions(self) -> Spec:
        """Read all expressions, now that the types of the columns are known."""
        columns = {name: field.type for name, field in self.fields.items()}
        derived = {}
        for name, column in self.derived.items():
            found = _expression(column.expression, columns)
            derived[name] = column.model_copy(update={"expression": found})
            columns[name] = found.type
        read: dict[str, Any] = {
            "derived": derived,
            "checks": tuple(
                c.model_copy(update={"expect": _condition(c.expect, columns)}) for c in self.checks
            ),
            "windows": tuple(_measured(w, columns, streaming=True) for w in self.windows),
            "kpis": tuple(_measured(k, columns, streaming=False) for k in self.kpis),
            "alerts": tuple(_filtered(alert, columns) for alert in self.alerts),
            "dashboard": _filtered(self.dashboard, columns),
        }
        for name, value in read.items():
            object.__setattr__(self, name, value)
        return self

    def columns(self) -> dict[str, FieldType]:
        """Return the landed types of the fields and the derived columns, in their order."""
        fields = {name: field.type for name, field in self.fields.items()}
        return fields | {name: d.expression.type for name, d in self.derived.items()}

    def units(self) -> dict[str, str]:
        """Return the units of the columns that have one."""
        owners: dict[str, FieldSpec | Derived] = {**self.fields, **self.derived}
        return {name: owner.unit for name, owner in owners.items() if owner.unit}

    def derived_expressions(self) -> dict[str, Expression]:
        """Return the expressions of the derived columns, in their order."""
        return {name: column.expression for name, column in self.derived.items()}

    def check_expressions(self) -> dict[str, Expression]:
        """Return the conditions of the declared checks by name."""
        return {check.name: check.expect for check in self.checks}

    @property
    def warns(self) -> bool:
        """Whether a check marks rows, so that they have the column for it."""
        return any(check.on_fail == "warn" for check in self.checks)

    def corrections(self) -> tuple[str, ...]:
        """Return the kinds of corrections that are counted, such as `unit:value`."""
        kinds = [("unit", n) for n, field in self.fields.items() if field.units is not None]
        kinds += [("time", n) for n, field in self.fields.items() if field.also]
        return tuple(f"{kind}:{name}" for kind, name in kinds)

    def told_unit(self, name: str) -> SentUnits | None:
        """Return the units that a field tells of another one; None if it tells none."""
        found = (f.units for f in self.fields.values() if f.units and f.units.field == name)
        return next(found, None)

    def window(self, name: str) -> Window:
        """Return the window of this name; KeyError if there is none."""
        return next(w for w in self.windows if w.name == name)

    def raw_tables(self) -> dict[str, CassandraSink]:
        """Return the sinks of landed rows into Cassandra by `keyspace.table`."""
        return {
            f"{sink.keyspace}.{sink.table}": sink
            for sink in self.sinks
            if isinstance(sink, CassandraSink) and sink.of == "raw"
        }

    def kpi(self, name: str) -> Kpi:
        """Return the KPI of this name; KeyError if there is none."""
        for kpi in self.kpis:
            if kpi.name == name:
                return kpi
        raise KeyError(name)

    def anomaly(self, name: str) -> Anomaly | None:
        """Return the anomalies of this name, if it is one of theirs."""
        return next((a for a in self.anomalies if a.name == name), None)

    def analytics(self) -> tuple[str, ...]:
        """Return the names of all hourly tables: the KPIs, then the anomalies."""
        return (*(kpi.name for kpi in self.kpis), *(a.name for a in self.anomalies))

    def delta_tables(self) -> dict[str, DeltaSink]:
        """Return the Delta sinks by their tables' paths."""
        return {sink.path: sink for sink in self.sinks if isinstance(sink, DeltaSink)}

    def period_kinds(self) -> tuple[PeriodKind, ...]:
        """Return the kinds of periods that the KPIs declare, each once."""
        return tuple(dict.fromkeys(kind for kpi in self.kpis for kind in kpi.periods))

    def postgres_connections(self) -> tuple[str, ...]:
        """Return the Airflow connections that the sinks name, each once."""
        found = (sink.connection for sink in self.sinks if isinstance(sink, PostgresSink))
        return tuple(dict.fromkeys(found))

    def dump(self) -> dict[str, Any]:
        """Return the declaration as JSON data, for snapshots; `Spec.model_validate` reads it."""
        return self.model_dump(mode="json", exclude_none=True)


def _expression(given: Expression, columns: dict[str, FieldType], **how: bool) -> Expression:
    try:
        return parse_expression(given.text, columns, **how)
    except ExpressionError as error:
        raise _wrong(given, error) from None


def _condition(given: Expression, columns: dict[str, FieldType]) -> Expression:
    try:
        return parse_condition(given.text, columns)
    except ExpressionError as error:
        raise _wrong(given, error) from None


def _wrong(given: Expression, error: ExpressionError) -> PydanticCustomError:
    return PydanticCustomError(
        "expression", "{text}: {told}", {"text": given.text, "told": str(error)}
    )


def _filtered(owner: Any, columns: dict[str, FieldType]) -> Any:
    if owner.where is None:
        return owner
    return owner.model_copy(update={"where": _condition(owner.where, columns)})


def _measured(owner: Any, columns: dict[str, FieldType], *, streaming: bool) -> Any:
    measures = {
        name: _expression(m, columns, aggregates=True, streaming=streaming)
        for name, m in owner.measures.items()
    }
    return _filtered(owner, columns).model_copy(update={"measures": measures})
