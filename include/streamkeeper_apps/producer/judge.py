"""What the checks of a declaration would say of one message, without Spark.

It covers the form of the message, types, `required`, `range`, `allowed` and the event time; the
declared `checks` are expressions and are not tried here.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from streamkeeper.spec.field_types import Digits, digits, is_number
from streamkeeper.spec.models import FieldSpec, Spec
from streamkeeper_apps.producer.cells import instant_reader, micros
from streamkeeper_apps.producer.json_files import Literal, encode, find, strict_object

_WHOLE = {"integer": 2**63, "int32": 2**31}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def findings(spec: Spec, value: bytes, now: datetime) -> list[str]:
    """Return what is wrong with a message that arrives now, each as `rule: message`."""
    if not value.strip():
        return ["parse:empty: there is nothing in it"]
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return [f"parse:utf8: {error.reason} at byte {error.start}"]
    if spec.source.format == "csv":
        return list(_csv(spec, text, now))
    found = strict_object(text)
    if isinstance(found, str):
        return [f"parse:json: {found}"]
    return [
        finding
        for name, field in spec.fields.items()
        for finding in _field(spec, name, field, find(found, field.keys(name)), now)
    ]


def _csv(spec: Spec, text: str, now: datetime) -> Iterator[str]:
    declared = spec.source.csv
    columns = {name: field.path or name for name, field in spec.fields.items()}
    titles = list(declared.columns or columns.values())
    try:
        [cells] = csv.reader([text], delimiter=declared.delimiter, strict=True)
    except (csv.Error, ValueError) as error:
        yield f"parse:csv: {error}"
        return
    if len(cells) != len(titles):
        yield f"parse:csv: {len(cells)} cells; declared are {len(titles)}"
        return
    for name, field in spec.fields.items():
        cell = cells[titles.index(columns[name])]
        made: Any = None if cell in declared.missing else cell
        if made is not None and field.type == "boolean" and cell in ("true", "false"):
            made = cell == "true"
        elif made is not None and (is_number(field.type) or field.format != "iso8601"):
            made = Literal(cell)
        yield from _field(spec, name, field, made, now)


def _field(spec: Spec, name: str, field: FieldSpec, value: Any, now: datetime) -> Iterator[str]:
    is_event_time = name == spec.event_time.field
    if value is None:
        if field.required or is_event_time:
            yield f"required:{name}: it is missing"
        return
    if not spec.source.strict:
        value = _loose(field, value)
    shown = encode(value)
    if field.type == "timestamp":
        instant = instant_reader(field)(shown) if _is_time(field, value) else None
        if instant is None:
            forms = ", ".join((field.format, *field.also))
            yield f"type:{name}: {shown} is no time of the format {forms}"
        elif is_event_time:
            yield from _event_time(spec, instant, now)
        return
    if not _is_of(field, value):
        yield f"type:{name}: {shown} is not of the type {field.type}"
        return
    plain: Any = float(value) if is_number(field.type) else value
    if field.units is not None:
        return  # its limits are those of the landed unit, which another field tells
    converted = field.conversion()
    landed = converted.apply(plain) if converted else plain
    low, high = field.range or (None, None)
    if (low is not None and landed < low) or (high is not None and landed > high):
        yield f"range:{name}: {landed:g} lies outside {low} to {high}"
    if field.allowed is not None and plain not in field.allowed:
        yield f"allowed:{name}: {shown} is not one of {', '.join(map(str, field.allowed))}"


def _loose(field: FieldSpec, value: Any) -> Any:
    """Read what was written as another type, where that is exact."""
    is_text = isinstance(value, str) and not isinstance(value, Literal)
    if field.type == "string" and not is_text and not isinstance(value, dict | list):
        return encode(value)
    if field.type == "boolean" and value in ("true", "false"):
        return value == "true"
    if not is_number(field.type) or not isinstance(value, str):
        return value
    whole = re.fullmatch(r"(.*)\.0+", value) if field.type in _WHOLE else None
    return Literal(whole[1] if whole else value)


def _is_of(field: FieldSpec, value: Any) -> bool:
    is_text = isinstance(value, str) and not isinstance(value, Literal)
    if field.type in ("string", "boolean"):
        return is_text if field.type == "string" else isinstance(value, bool)
    if not isinstance(value, Literal):
        return False
    if field.type in _WHOLE:
        limit = _WHOLE[field.type]
        return bool(_INTEGER.fullmatch(value)) and -limit <= int(value) < limit
    return _is_decimal(value, digits(field.type))


def _is_decimal(value: str, exact: Digits | None) -> bool:
    try:
        is_finite = math.isfinite(float(value))
    except ValueError:
        return False
    if exact is None or not is_finite:
        return is_finite
    whole, _, fraction = value.lstrip("-").partition(".")
    return len(fraction.rstrip("0")) <= exact.scale and len(whole) <= exact.precision - exact.scale


def _is_time(field: FieldSpec, value: Any) -> bool:
    if field.also:
        return isinstance(value, str)
    if field.format != "iso8601":
        return isinstance(value, Literal)
    if not isinstance(value, str) or isinstance(value, Literal):
        return False
    match = _TIME.fullmatch(value)
    return match is not None and (match[2] is not None or _zone(field) is not None)


def _zone(field: FieldSpec) -> ZoneInfo | None:
    return ZoneInfo(field.zone) if field.zone else None


def _event_time(spec: Spec, instant: int, now: datetime) -> Iterator[str]:
    ahead = timedelta(microseconds=instant - micros(now))
    if ahead > spec.event_time.max_ahead:
        yield f"event_time:max_ahead: it lies {ahead} ahead of the present"
    lateness = spec.event_time.lateness
    if lateness is not None and -ahead > lateness:
        yield f"event_time:too_late: it lies {-ahead} back"
    year = 1970 + instant // 31_556_952_000_000
    if not 1970 <= year < 2200:
        yield "event_time:range: it lies outside the years 1970 to 2199"
