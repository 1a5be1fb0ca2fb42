"""Turns the cells of a file into JSON texts of declared types; what it cannot read stays as it is.

A number keeps its digits: it is written as it stands wherever JSON can write it so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import cast
from zoneinfo import ZoneInfo

from streamkeeper.spec.models import FieldSpec
from streamkeeper.spec.producers import ReplayColumn

NULL = "null"
Convert = Callable[[str], str]
"""Makes the JSON text of a cell; one that is not of the type becomes a JSON string."""
Column = Callable[[Sequence[str]], Sequence[str]]
"""Makes the JSON texts of a column's cells, much faster than one by one."""

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,299})(?:\.[0-9]+)?")
_JSON_NUMBERS = re.compile(rf"(?:{_JSON_NUMBER.pattern}\n)*")
_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:(\.)([0-9]*))?([eE][+-]?[0-9]+)?")
_DIGITS = re.compile(r"[0-9]{1,400}")
_BOOLEANS = {"true": "true", "false": "false"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDTHS = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2}
_SECONDS = {f"{second:02d}": second for second in range(60)}
_WHOLE_SECONDS = frozenset({'Z"', '.000Z"', '.000000Z"'})
_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1000, "epoch_us": 1}
_BELOW = {"epoch_s": 1e11, "epoch_ms": 1e14, "epoch_us": math.inf}


def text(value: str) -> str:
    """Return a text as JSON; half of a surrogate pair stays the escape that it was."""
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return encode_basestring_ascii(value)
    return encode_basestring(value)


def to_bytes(value: str) -> bytes:
    """Return a text's bytes; those that were no UTF-8 are the same as in the file."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def converter(field: FieldSpec, column: ReplayColumn, missing: Sequence[str]) -> Convert:
    """Return what makes the JSON text of one column's cells.

    A cell that equals a missing marker is null. For numbers a marker also matches the same number
    written otherwise, and spaces around a cell do not count, except in a string.
    """
    markers = frozenset(missing)
    if field.type == "string":
        return lambda cell: NULL if cell in markers else encode_basestring(cell)
    read = _reader(field, column)
    is_number = field.type not in ("boolean", "timestamp")
    numbers = frozenset(float(m) for m in missing if number(m) is not None) if is_number else ()

    def convert(cell: str) -> str:
        stripped = cell.strip()
        if cell in markers or stripped in markers:
            return NULL
        found = read(stripped)
        if found is None:
            return encode_basestring(cell)
        return NULL if numbers and float(found) in numbers else found

    if field.type == "timestamp":
        return lambda cell: NULL if cell in markers else read(cell) or convert(cell)
    if is_number and not numbers:
        return lambda cell: cell if _JSON_NUMBER.fullmatch(cell) else convert(cell)
    return convert


def column_converter(field: FieldSpec, column: ReplayColumn, missing: Sequence[str]) -> Column:
    """Return what makes the JSON texts of a whole column's cells, as `converter` does."""
    convert, markers = converter(field, column, missing), frozenset(missing)
    if field.type == "string":

        def texts(cells: Sequence[str]) -> Sequence[str]:
            if markers.isdisjoint(cells):
                return list(map(encode_basestring, cells))
            return list(map(convert, cells))

        return texts
    if field.type == "timestamp":
        read = _reader(field, column)

        def times(cells: Sequence[str]) -> Sequence[str]:
            found = list(map(read, cells)) if markers.isdisjoint(cells) else [None]
            return list(map(convert, cells)) if None in found else cast("list[str]", found)

        return times
    if field.type == "boolean" or any(number(m) is not None for m in missing):
        return lambda cells: list(map(convert, cells))

    def numbers(cells: Sequence[str]) -> Sequence[str]:
        # Mostly all are numbers that JSON writes alike, which one match tells.
        joined = "\n".join(cells) + "\n"
        if _JSON_NUMBERS.fullmatch(joined) and joined.count("\n") == len(cells):
            return cells
        return list(map(convert, cells))

    return numbers


def _reader(field: FieldSpec, column: ReplayColumn) -> Callable[[str], str | None]:
    """Return what reads a text of the field's type; None for any other text."""
    if field.type == "boolean":
        return lambda cell: _BOOLEANS.get(cell.lower())
    if field.type == "timestamp":
        if column.format is not None:
            return time_reader(column.format, column.zone, field.format)
        return encode_basestring if field.format == "iso8601" else number
    return number


def number(cell: str) -> str | None:
    """Return a number as JSON writes it, its digits unchanged; None for what is none.

    JSON has no Infinity: a number beyond double's range is none.
    """
    if _JSON_NUMBER.fullmatch(cell):
        return cell
    match = _NUMBER.fullmatch(cell)
    if match is None or not (match[2] or match[4]):
        return None
    sign, whole, point, fraction, exponent = match.groups()
    if not point and not exponent and not _DIGITS.fullmatch(whole):
        return None
    if (exponent or len(whole) > 300) and not math.isfinite(float(cell)):
        return None
    made = ("-" if sign == "-" else "") + (whole.lstrip("0") or "0")
    return made + (f".{fraction or '0'}" if point else "") + (exponent or "")


def time_reader(pattern: str, zone_name: str | None, written: str) -> Callable[[str], str | None]:
    """Return what reads a time by a strptime pattern and writes it in a field's own format."""
    zone = ZoneInfo(zone_name) if zone_name else None

    def read(cell: str) -> datetime | None:
        return _instant(lambda: datetime.strptime(cell, pattern), zone)

    def slowly(cell: str) -> str | None:
        instant = read(cell)
        return None if instant is None else write_time(instant, written)

    parts = re.findall(r"%.|[^%]+", pattern)
    if sorted(part for part in parts if part.startswith("%")) != sorted(_WIDTHS):
        return slowly
    # strptime takes parts of fewer digits, more spaces and either case; here all stand in full.
    widths = (f"[0-9]{{{_WIDTHS[p]}}}" if p in _WIDTHS else re.escape(p) for p in parts)
    in_full = re.compile("".join(widths)).fullmatch
    before = parts[: parts.index("%S")]
    place = sum(_WIDTHS.get(part, len(part)) for part in before)
    return by_minute(lambda cell: read(cell) if in_full(cell) else None, place, written, slowly)


def _instant(parse: Callable[[], datetime], zone: ZoneInfo | None) -> datetime | None:
    """Return the instant (UTC) of a time, local to a zone if it has none of its own."""
    try:
        instant = parse()
        if instant.tzinfo is None:
            if zone is None:
                return None
            local = instant.replace(tzinfo=zone)
            # A time that the clocks skip is none; one that they show twice is the first.
            if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != instant:
                return None
            instant = local
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def by_minute(
    read: Callable[[str], datetime | None],
    place: int,
    written: str,
    slowly: Callable[[str], str | None],
) -> Callable[[str], str | None]:
    """Return what reads times much faster where many lie in one minute.

    Parameters: read, gives the instant (UTC) of a time that stands in full; place, where its two
    digits of seconds stand; written, the format of what is returned; slowly, reads any other time.
    """
    begins = minutes(read)
    unit = _UNITS.get(written)

    def quickly(cell: str) -> str | None:
        second = _SECONDS.get(cell[place : place + 2])
        found = begins(cell[:place], cell[place + 2 :]) if second is not None else None
        if found is None or second is None:
            return slowly(cell)
        if unit is None:
            return f'"{found[0]}{second:02d}.000Z"'
        return str((found[1] + second * 1_000_000) // unit)

    return quickly


def minutes(
    read: Callable[[str], datetime | None],
) -> Callable[[str, str], tuple[str, int] | None]:
    """Return what tells a minute's beginning, as text and as µs since 1970.

    It is asked with what stands before the seconds and behind them, and gives None where these are
    no time or not all seconds of the minute follow one another.
    """

    @lru_cache(maxsize=8192)
    def begins(head: str, tail: str) -> tuple[str, int] | None:
        first, last = read(f"{head}00{tail}"), read(f"{head}59{tail}")
        if first is None or last is None or first.second or first.microsecond:
            return None
        if last - first != timedelta(seconds=59):
            return None
        return first.isoformat()[:17], micros(first)

    return begins


def write_time(instant: datetime, written: str) -> str:
    """Return an instant (UTC) as JSON text in a field's format."""
    if written == "iso8601":
        whole = instant.microsecond % 1000 == 0
        made = instant.isoformat(timespec="milliseconds" if whole else "microseconds")
        return f'"{made[:-6]}Z"'
    quotient, rest = divmod(micros(instant), _UNITS[written])
    return str(quotient) if not rest else repr(micros(instant) / _UNITS[written])


def micros(instant: datetime) -> int:
    """Return an instant in µs since 1970."""
    gap = instant - _EPOCH
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


def instant_reader(field: FieldSpec) -> Callable[[str], int | None]:
    """Return what tells the instant (µs since 1970) of a timestamp field's JSON text.

    It gives None for what is no instant between the years 1 and 9999.
    """
    if field.also:
        return _instant_in_any_form(field)
    if field.format != "iso8601":
        unit = _UNITS[field.format]
        return lambda made: _epoch(made, unit)
    zone = ZoneInfo(field.zone) if field.zone else None

    def read(text: str) -> datetime | None:
        try:
            instant = datetime.fromisoformat(text)
            if instant.tzinfo is None:
                return None if zone is None else instant.replace(tzinfo=zone).astimezone(UTC)
            return instant.astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    begins = minutes(read)

    def tell(made: str) -> int | None:
        second = _SECONDS.get(made[18:20])
        # Whole seconds in UTC share their minutes; every other time is read by itself.
        if second is not None and made[20:] in _WHOLE_SECONDS:
            found = begins(made[1:18], "Z")
            if found is not None:
                return found[1] + second * 1_000_000
        instant = read(made[1:-1])
        return None if instant is None else micros(instant)

    return tell


def _instant_in_any_form(field: FieldSpec) -> Callable[[str], int | None]:
    """Return what tells the instant of a text in the field's format or one of `also`.

    Of several counts the size tells the unit, as it does on landing.
    """
    forms = (field.format, *field.also)
    counts = [(unit, below) for unit, below in _BELOW.items() if unit in forms]
    plain = field.model_copy(update={"format": "iso8601", "also": ()})
    written = None if {"iso8601", "local"}.isdisjoint(forms) else instant_reader(plain)

    def tell(made: str) -> int | None:
        text = made.strip('"')
        if number(text) is None:
            return None if written is None else written(made)
        size = abs(float(text))
        fitting = (unit for unit, below in counts[:-1] if size < below)
        return _epoch(text, _UNITS[next(fitting, counts[-1][0])]) if counts else None

    return tell


def _epoch(made: str, unit: int) -> int | None:
    try:
        found = int(made) * unit if _DIGITS.fullmatch(made) else round(float(made) * unit)
        _EPOCH + timedelta(microseconds=found)
    except (ValueError, OverflowError):
        return None
    return found
