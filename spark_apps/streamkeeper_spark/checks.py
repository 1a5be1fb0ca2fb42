"""The checks: pure functions of a record and its broker timestamp, never of the present time.

A record is good or bad by one condition, which is cheap. Only bad records are looked at again to
say what is wrong with them, each finding as `rule: message`. docs/bad-input.md has the verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from streamkeeper import names
from streamkeeper.spec.durations import format_duration
from streamkeeper.spec.field_types import FieldType, digits
from streamkeeper.spec.models import Check, FieldSpec, SentUnits, Spec
from streamkeeper.spec.pieces import text_literal
from streamkeeper.spec.values import Scalar
from streamkeeper_spark import corrections, exact
from streamkeeper_spark.csv_records import CsvReader
from streamkeeper_spark.parse import Frame, JsonReader
from streamkeeper_spark.schema import landed_schema
from streamkeeper_spark.sql import TEXT, all_of, any_of, known, let, matches, quoted, shown

_FROM_KAFKA = (
    ("key", names.KEY),
    ("value", names.VALUE),
    ("partition", names.PARTITION),
    ("offset", names.OFFSET),
    ("timestamp", names.TIMESTAMP),
)
_FIRST, _END = "1970-01-01 00:00:00", "2200-01-01 00:00:00"
_BLANK = r"[ \t\r\n]*+"
_MICROS_AN_HOUR = 3_600_000_000
_LARGER_THAN_DECIMALS = 1e20
_PARSED = "_parsed"
_FEW = 3
_KAFKA_TEXT = "CAST(value AS string)"


class Rule(NamedTuple):
    """A rule's name, the condition of a bad record (SQL, never null), the SQL of its message."""

    name: str
    bad: str
    message: str

    @property
    def finding(self) -> str:
        """The SQL of the finding; null for a record that keeps the rule."""
        told = f"concat({text_literal(self.name + ': ')}, {self.message})"
        return f"CASE WHEN {self.bad} THEN {told} END"


class RecordChecks:
    """Parsing and checking of one stream's messages, in two steps of columns.

    The first step reads, the second one judges; derived columns stand between, if there are any.
    There are no more steps, as each copies every row: Spark does not compile its JSON parser into
    what stands around it. The steps are SQL, as Spark reads a text far sooner than Python could put
    the same columns together.

    Parameters: spec; frame, the keys that guard the parsing.
    """

    def __init__(self, spec: Spec, frame: Frame) -> None:
        self._spec = spec
        reader = CsvReader if spec.source.format == "csv" else JsonReader
        self._reader = reader(spec, frame)
        # What the parser gives as it lands, and what is computed of that.
        sent = {n: self._reader.sent(n) for n in spec.fields}
        self._computed = [n for n in spec.fields if self._landed_value(n) != sent[n]]
        self._plain = [f"{sent[n]} AS {quoted(n)}" for n in sent if n not in self._computed]
        self._last = self._landed()

    def apply(self, messages: DataFrame, topic_id: str) -> DataFrame:
        """Return the columns of a landed row without generation and batch: one row a message.

        `_errors` is null for a valid row, `_value` has the original bytes of any other.

        Parameters: messages, Kafka's columns (key, value, partition, offset, timestamp); topic_id,
        the id of the topic that they came from.
        """
        return self.judge(self.read(messages), {names.TOPIC_ID: text_literal(topic_id)})

    def read(self, messages: DataFrame) -> DataFrame:
        """Return the messages as far as they can be read; `judge` makes landed rows of them."""
        columns = [f"{kafka} AS {own}" for kafka, own in _FROM_KAFKA]
        columns.append(f"{self._reader.parsed} AS {_PARSED}")
        values = [f"{self._landed_value(n)} AS {quoted(n)}" for n in self._computed]
        text = quoted(_PARSED)
        # Few mentions of the parsing are written out, and Spark parses once; many would make the
        # code too long, so that they are worth a copy of the rows.
        at_once = all(value.count(text) <= _FEW for value in values)
        if at_once:
            columns += [value.replace(text, f"({self._reader.parsed})") for value in values]
        rows = messages.selectExpr(*(c.replace(TEXT, _KAFKA_TEXT) for c in columns))
        if not at_once:
            rows = rows.selectExpr("*", *values)
        derived = self._spec.derived_expressions()
        if derived:
            rows = rows.selectExpr("*", *self._plain)
        for name, expression in derived.items():
            rows = rows.selectExpr("*", f"{expression.sql} AS {quoted(name)}")
        return rows

    def judge(self, rows: DataFrame, constants: Mapping[str, str]) -> DataFrame:
        """Return landed rows: the columns of the fields, and those that tell what they are.

        Parameters: rows, as `read` returns them; constants, SQL of the columns that are the same
        for all rows: the topic's id, or generation and batch too.
        """
        # A name for a part of a struct costs nothing here: Spark puts the part in its place.
        named = rows if self._spec.derived else rows.selectExpr("*", *self._plain)
        made = [
            f"{constants.get(name, value)} AS {quoted(name)}"
            for name, value in self._last.items()
            if name in constants or value
        ]
        return named.selectExpr(*made)

    def _landed_value(self, name: str) -> str:
        value, field = self._reader.value(name), self._spec.fields[name]
        if field.units is not None:
            return corrections.landed_value(value, self._reader.text(field.units.field), field)
        if (told := self._spec.told_unit(name)) is not None:
            return corrections.landed_unit(value, told)
        conversion = field.conversion()
        return value if conversion is None else corrections.converted(value, conversion, field)

    def _landed(self) -> dict[str, str]:
        """Return the columns of the landed row; those that are no part of a row are empty."""
        event_time = quoted(self._spec.event_time.field)
        micros = f"unix_micros({event_time})"
        bad = f"NOT {known(all_of(self._good()))}"
        made = {
            names.EVENT_TIME: event_time,
            names.HOUR: f"timestamp_micros({micros} - pmod({micros}, {_MICROS_AN_HOUR}L))",
            names.ERRORS: f"CASE WHEN {bad} THEN {self._findings()} END",
            names.VALUE: f"CASE WHEN {bad} THEN {names.VALUE} END",
            names.WARNINGS: self._warnings(bad),
            names.CORRECTED: self._corrected(bad),
            **dict.fromkeys((names.TOPIC_ID, names.GENERATION, names.BATCH), ""),
        }
        return {f.name: made.get(f.name, quoted(f.name)) for f in landed_schema(self._spec)}

    def _good(self) -> list[str]:
        """Return the conditions that a record must meet, cheap ones first."""
        spec, reader = self._spec, self._reader
        conditions = [reader.clean]
        for name in spec.fields:
            conditions += [f"NOT {rule.bad}" for rule in self._field_rules(name)]
            if name in self._computed:
                conditions.append(f"{reader.sent(name)} IS NULL OR {quoted(name)} IS NOT NULL")
        conditions += [f"NOT {rule.bad}" for rule in self._time_rules()]
        conditions += [f"NOT {rule.bad}" for rule in self._declared_rules()]
        conditions.append(reader.settled)
        return [known(c) for c in conditions]

    def _findings(self) -> str:
        """Return all that is wrong with a bad record, each as `rule: message`; never empty."""
        error = (
            f"CASE WHEN {names.VALUE} IS NULL THEN 'parse:empty: the value is null' "
            f"WHEN octet_length({names.VALUE}) = 0 THEN 'parse:empty: the value has no bytes' "
            f"WHEN NOT is_valid_utf8({TEXT}) THEN 'parse:utf8: the value is not valid UTF-8' "
            f"WHEN {matches(TEXT, _BLANK)} THEN 'parse:empty: the value is blank' "
            f"ELSE {self._reader.error} END"
        )
        found: list[str] = []
        for place, name in enumerate(self._spec.fields):
            mistyped = f"_mistyped[{place}]"
            found.append(mistyped)
            for rule in self._field_rules(name):
                found.append(f"CASE WHEN {mistyped} IS NULL THEN {rule.finding} END")
        found += [rule.finding for rule in (*self._time_rules(), *self._declared_rules())]
        all_found = f"array_compact(array({', '.join(found)}))"
        by_field = let("_mistyped", self._reader.mistyped(), all_found)
        or_unread = f"if(size(_found) > 0, _found, array({self._reader.unread}))"
        of_fields = let("_found", by_field, or_unread)
        return let("_whole", error, f"if(_whole IS NOT NULL, array(_whole), {of_fields})")

    def _field_rules(self, name: str) -> list[Rule]:
        """Return the checks on one field, other than that of its type."""
        field, value = self._spec.fields[name], quoted(name)
        rules: list[Rule] = []
        # Without its event time a reading belongs to no hour.
        if field.required or name == self._spec.event_time.field:
            missing = f"({self._reader.sent(name)} IS NULL)"
            rules.append(Rule(f"required:{name}", missing, "'it is missing or null'"))
        if field.type in ("double", "float"):
            bad = known(f"abs({value}) = CAST('Infinity' AS {field.type})")
            told = f"the number is larger than a {field.type} holds"
            rules.append(Rule(f"type:{name}", bad, text_literal(told)))
        if field.units is not None:
            rules.append(self._unit_rule(name, field.units))
        rules += _range_rules(name, field)
        if field.allowed is not None:
            literals = ", ".join(_literal(v, field.type) for v in field.allowed)
            listed = ", ".join(str(v) for v in field.allowed[:10])
            more = " and others" if len(field.allowed) > 10 else ""
            told = f"concat('''', {shown(value)}, ''' is not one of ', "
            told += f"{text_literal(listed + more)})"
            rules.append(Rule(f"allowed:{name}", known(f"{value} NOT IN ({literals})"), told))
        return rules

    def _unit_rule(self, name: str, told: SentUnits) -> Rule:
        """Return the rule that the unit of a value is one that lands, or becomes one."""
        unit = self._reader.text(told.field)
        bad = f"{quoted(name)} IS NOT NULL AND NOT {known(corrections.is_unit(unit, told))}"
        none = text_literal(f"; it is none of {', '.join(told.landed)}, nor becomes one of them")
        message = f"concat('its unit is ', coalesce({shown(unit)}, 'missing'), {none})"
        return Rule(f"unit:{name}", f"({bad})", message)

    def _time_rules(self) -> list[Rule]:
        """Return the checks on the event time: the broker's timestamp and the years kept."""
        event, spec = quoted(self._spec.event_time.field), self._spec.event_time
        text = f"CAST({event} AS string)"
        kept = f"{event} >= TIMESTAMP '{_FIRST}' AND {event} < TIMESTAMP '{_END}'"
        told = f"concat({text}, ' is outside the years 1970 to 2199')"
        rules = [Rule("event_time:range", known(f"NOT ({kept})"), told)]
        ahead = f"try_subtract(unix_micros({event}), unix_micros({names.TIMESTAMP}))"
        for rule, limit, sign, side in (
            ("event_time:max_ahead", spec.max_ahead, ">", "after"),
            ("event_time:too_late", spec.lateness, "< -", "before"),
        ):
            if limit is None:
                continue
            micros = round(limit.total_seconds() * 1_000_000)
            told = f" is more than {format_duration(limit)} {side} the broker's "
            broker = f"CAST({names.TIMESTAMP} AS string)"
            message = f"concat({text}, {text_literal(told)}, {broker})"
            rules.append(Rule(rule, known(f"{ahead} {sign}{micros}L"), message))
        return rules

    def _declared_rules(self) -> list[Rule]:
        """Return the declared checks that a valid row must meet."""
        return [_declared(check) for check in self._spec.checks if check.on_fail != "warn"]

    def _warnings(self, bad: str) -> str:
        """Return the names of the checks that only mark a row; null if it met them all."""
        failed = [
            f"CASE WHEN {_declared(check).bad} THEN {text_literal(check.name)} END"
            for check in self._spec.checks
            if check.on_fail == "warn"
        ]
        any_failed = any_of(
            _declared(check).bad for check in self._spec.checks if check.on_fail == "warn"
        )
        return _marks(bad, any_failed, failed)

    def _corrected(self, bad: str) -> str:
        """Return what was corrected of a valid row, by kind; null if nothing was."""
        reader, found = self._reader, list[tuple[str, str]]()
        for name, field in self._spec.fields.items():
            if field.units is not None:
                unit = reader.text(field.units.field)
                other = known(corrections.is_other_unit(unit, field.units))
                found.append((f"unit:{name}", f"({quoted(name)} IS NOT NULL AND {other})"))
            if field.also:
                usual = known(exact.is_in_format(reader.text(name), field))
                found.append((f"time:{name}", f"({quoted(name)} IS NOT NULL AND NOT {usual})"))
        kinds = [f"CASE WHEN {when} THEN {text_literal(kind)} END" for kind, when in found]
        return _marks(bad, any_of(when for _, when in found), kinds)


def _marks(bad: str, any_of_them: str, texts: list[str]) -> str:
    """Return an array of the texts that are not null, of valid rows with any; else null."""
    marked = f"array_compact(array({', '.join(texts)}))"
    return f"CASE WHEN NOT ({bad}) AND ({any_of_them}) THEN {marked} END"


def _declared(check: Check) -> Rule:
    expected = text_literal(f"expected {check.expect}")
    return Rule(check.rule, known(f"NOT ({check.expect.sql})"), expected)


def _range_rules(name: str, field: FieldSpec) -> list[Rule]:
    low, high = field.range or (None, None)
    value = quoted(name)
    outside = [] if low is None else [f"{value} < {_number(low, field.type)}"]
    outside += [] if high is None else [f"{value} > {_number(high, field.type)}"]
    if not outside:
        return []
    told = text_literal(f" is outside {_bound(low)} to {_bound(high)}")
    message = f"concat(CAST({value} AS string), {told})"
    return [Rule(f"range:{name}", known(any_of(outside)), message)]


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _number(value: float, kind: FieldType) -> str:
    """Return a bound as a literal that Spark compares with a type without loss."""
    if kind in ("integer", "int32") and value == int(value) and abs(value) < 2**63:
        return f"({int(value)}L)"
    if digits(kind) and abs(value) < _LARGER_THAN_DECIMALS:
        return f"({Decimal(repr(value)):f}BD)"
    return f"({float(value)!r}D)"


def _literal(value: Scalar, kind: FieldType) -> str:
    """Return an allowed value as a literal of the field's type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return text_literal(value)
    return _number(value, kind)


def rule_of(finding: str) -> str:
    """Return the rule's name of one finding, such as `range:temperature`."""
    return ":".join(finding.split(":", 2)[:2]).rstrip()


def valid_rows(rows: DataFrame) -> DataFrame:
    """Return the rows that no check has failed."""
    return rows.where(F.col(names.ERRORS).isNull())
