"""A slow reader of messages in plain Python, written from docs/bad-input.md alone.

`judge` tells for one message what must land, or which rules it breaks. It shares no code with the
driver: JSON by Python's own decoder, numbers by `decimal`, times by `datetime` and `zoneinfo`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from streamkeeper.spec.models import FieldSpec, Spec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(2200, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
LOOSE = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,6})0*)?(?:(Z)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
PER_SECOND = {"epoch_s": 1, "epoch_ms": 1000, "epoch_us": 1_000_000}
BITS = {"integer": 64, "int32": 32}


class Wrong(Exception):
    """The message, or a value of it, cannot be read; the text is the rule."""


class Number(str):
    """A JSON number as it is written."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys, equal ones too."""

    def twice(self) -> bool:
        keys = [key for key, _ in self]
        return len(keys) != len(set(keys))


@dataclass
class Judgement:
    """What lands, and the rules that are broken."""

    values: dict[str, Any] = field(default_factory=dict)
    rules: set[str] = field(default_factory=set)


def judge(spec: Spec, message: bytes | None, broker: datetime) -> Judgement:
    """Return what a message comes to."""
    found = Judgement()
    try:
        sent = _sent(spec, message)
    except Wrong as wrong:
        return Judgement(rules={str(wrong)})
    for name, declared in spec.fields.items():
        value = sent[name]
        if isinstance(value, Wrong):
            found.rules.add(f"type:{name}")
            value = None
        elif value is not None:
            value = _landed(value, declared, spec, name, found)
        elif declared.required or name == spec.event_time.field:
            found.rules.add(f"required:{name}")
        found.values[name] = value
    _judge_time(spec, found, broker)
    return found


def _sent(spec: Spec, message: bytes | None) -> dict[str, Any]:
    if not message:
        raise Wrong("parse:empty")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        raise Wrong("parse:utf8") from None
    if not text.strip(" \t\r\n"):
        raise Wrong("parse:empty")
    if spec.source.format == "csv":
        return _csv(spec, text)
    return _json(spec, text)


def _json(spec: Spec, text: str) -> dict[str, Any]:
    try:
        found = json.loads(
            text,
            object_pairs_hook=Pairs,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse,
        )
        _all_texts_encode(found)
    except (ValueError, RecursionError):
        raise Wrong("parse:json") from None
    if not isinstance(found, Pairs):
        raise Wrong("parse:json")
    sent: dict[str, Any] = {}
    for name, declared in spec.fields.items():
        *above, last = declared.keys(name)
        within: Any = found
        for key in (*above, last):
            if within is None:
                break
            if not isinstance(within, Pairs):
                within = Wrong("no object")
                break
            if spec.source.strict and within.twice():
                raise Wrong("parse:json")
            within = dict(within).get(key)
        sent[name] = within
    return sent


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _all_texts_encode(value: Any) -> None:
    """Raise ValueError where a text has half of a surrogate pair."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Pairs):
        for key, inner in value:
            key.encode()
            _all_texts_encode(inner)
    elif isinstance(value, list):
        for inner in value:
            _all_texts_encode(inner)


def _csv(spec: Spec, text: str) -> dict[str, Any]:
    csv = spec.source.csv
    columns = {n: ".".join(f.keys(n)) for n, f in spec.fields.items()}
    order = list(csv.columns or columns.values())
    if text.startswith("\ufeff"):
        raise Wrong("parse:csv")
    cells = _cells(re.sub(r"\r?\n\Z", "", text), csv.delimiter)
    if len(cells) != len(order):
        raise Wrong("parse:csv")
    found = dict(zip(order, cells, strict=True))
    return {n: None if found[c] in csv.missing else found[c] for n, c in columns.items()}


def _cells(line: str, delimiter: str) -> list[str]:
    cells: list[str] = []
    at = 0
    while True:
        if line[at : at + 1] == '"':
            cell, at = "", at + 1
            while True:
                end = line.find('"', at)
                if end < 0:
                    raise Wrong("parse:csv")
                cell += line[at:end]
                at = end + 1
                if line[at : at + 1] != '"':
                    break
                cell, at = cell + '"', at + 1
        else:
            end = line.find(delimiter, at)
            cell = line[at:] if end < 0 else line[at:end]
            at += len(cell)
            if re.search(r'["\r\n]', cell):
                raise Wrong("parse:csv")
        cells.append(cell)
        if at == len(line):
            return cells
        if line[at] != delimiter:
            raise Wrong("parse:csv")
        at += 1


def _landed(value: Any, declared: FieldSpec, spec: Spec, name: str, found: Judgement) -> Any:
    """Return a value in its landed type and unit; null, and a broken rule, where it has none."""
    try:
        value = _read(value, declared, spec)
    except Wrong:
        found.rules.add(f"type:{name}")
        return None
    conversion = declared.conversion()
    if conversion is not None:
        value = _as_type(conversion.apply(float(value)), declared)
    if isinstance(value, float) and math.isinf(value):
        found.rules.add(f"type:{name}")
    low, high = declared.range or (None, None)
    if (low is not None and value < low) or (high is not None and value > high):
        found.rules.add(f"range:{name}")
    if declared.allowed is not None and value not in declared.allowed:
        found.rules.add(f"allowed:{name}")
    return value


def _as_type(value: float, declared: FieldSpec) -> float:
    return _as_float(value) if declared.type == "float" else value


def _as_float(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _read(value: Any, declared: FieldSpec, spec: Spec) -> Any:
    """Return a sent value in the landed type, exactly; raise Wrong where that is impossible."""
    strict, kind = spec.source.strict, declared.type
    from_cell = spec.source.format == "csv"
    if kind == "string":
        if type(value) is str or (not strict and isinstance(value, Number)):
            return str(value)
        if not strict and isinstance(value, bool):
            return json.dumps(value)
        raise Wrong
    if kind == "boolean":
        if isinstance(value, bool):
            return value
        if type(value) is str and (from_cell or not strict):
            word = value if strict else value.lower()
            if word in ("true", "false"):
                return word == "true"
        raise Wrong
    if kind == "timestamp" and declared.format == "iso8601":
        if type(value) is not str:
            raise Wrong
        return _time(value, declared.zone, strict)
    return _number(_number_text(value, strict, from_cell), declared, strict)


def _number_text(value: Any, strict: bool, from_cell: bool) -> str:
    if isinstance(value, Number):
        text = str(value)
    elif type(value) is str and (from_cell or not strict):
        text = value
    else:
        raise Wrong
    if len(text) > 1000 or not (NUMBER if strict else LOOSE).fullmatch(text):
        raise Wrong
    return text


def _number(text: str, declared: FieldSpec, strict: bool) -> Any:
    kind = declared.type
    if kind in ("double", "float"):
        return _as_type(float(text), declared)
    if kind == "timestamp":
        return _instant(text, declared.format, strict)
    if kind in BITS:
        if strict and not WHOLE.fullmatch(text):
            raise Wrong
        whole = _exactly(text, 19, 0)
        if not -(2 ** (BITS[kind] - 1)) <= whole < 2 ** (BITS[kind] - 1):
            raise Wrong
        return int(whole)
    precision, scale = map(int, re.findall(r"\d+", kind))
    return _exactly(text, precision, scale)


def _exactly(text: str, precision: int, scale: int) -> Decimal:
    """Return a number that so many digits hold; raise Wrong where some would be lost."""
    sign, digits, exponent = Decimal(text).as_tuple()
    shortest = "".join(map(str, digits)).lstrip("0")
    last = int(exponent) + len(shortest) - len(shortest.rstrip("0"))
    shortest = shortest.rstrip("0")
    if not shortest:
        return Decimal(0)
    if last < -scale or last + len(shortest) > precision - scale:
        raise Wrong
    return Decimal((sign, tuple(map(int, shortest)), last))


def _instant(text: str, unit: str, strict: bool) -> datetime:
    if unit != "epoch_s" and strict and not WHOLE.fullmatch(text):
        raise Wrong
    places = 6 if unit == "epoch_s" else 0
    count = Fraction(_exactly(text, 18 if places else 19, places))
    try:
        return EPOCH + timedelta(microseconds=int(count * 1_000_000 / PER_SECOND[unit]))
    except OverflowError:
        raise Wrong from None  # the years 1 to 9999 are those of Python too


def _time(text: str, zone: str | None, strict: bool) -> datetime:
    match = TIME.fullmatch(text)
    if match is None:
        raise Wrong
    *parts, fraction, utc, sign, hours, minutes = match.groups()
    try:
        shown = datetime(*map(int, parts), int((fraction or "").ljust(6, "0")))  # type: ignore[arg-type]
        if utc:
            return shown.replace(tzinfo=UTC)
        if text[:10] in ("0001-01-01", "9999-12-31"):
            raise Wrong
        if hours:
            offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
            if offset > timedelta(hours=18) or int(minutes or 0) > 59:
                raise Wrong
            return (shown - (offset if sign == "+" else -offset)).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Wrong from None
    if zone is None:
        raise Wrong
    return _shown_in(shown, ZoneInfo(zone), strict)


def _shown_in(shown: datetime, zone: ZoneInfo, strict: bool) -> datetime:
    """Return the instant at which a zone's clocks show a time."""
    instants = set()
    for fold in (0, 1):
        instant = shown.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) == shown:
            instants.add(instant)
    if not instants or (strict and len(instants) > 1):
        raise Wrong
    return min(instants)


def _judge_time(spec: Spec, found: Judgement, broker: datetime) -> None:
    at, limits = found.values[spec.event_time.field], spec.event_time
    if at is None:
        return
    if not EPOCH <= at < LAST:
        found.rules.add("event_time:range")
    if limits.max_ahead is not None and at - broker > limits.max_ahead:
        found.rules.add("event_time:max_ahead")
    if limits.lateness is not None and broker - at > limits.lateness:
        found.rules.add("event_time:too_late")
