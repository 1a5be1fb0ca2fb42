"""Reads Apache's access logs, common and combined, line by line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import Spec
from streamkeeper.spec.producer_references import LOG_FIELDS
from streamkeeper_apps.producer.cells import (
    NULL,
    by_minute,
    column_converter,
    converter,
    text,
    write_time,
)
from streamkeeper_apps.producer.records import Record, Source, Writer, malformed

_QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_COMMON = rf"(\S+) (\S+) (\S+|.+?) \[([^\]]*)\] {_QUOTED} ([0-9]{{3}}|-) ([0-9]+|-)"
_LINES = {
    "apache_common": re.compile(_COMMON),
    "apache_combined": re.compile(rf"{_COMMON} {_QUOTED} {_QUOTED}"),
}
_REQUEST = re.compile(r"(\S+) (\S+)(?: (HTTP/\S+))?")
_TIME = re.compile(
    r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r" ([+-])([0-9]{2})([0-9]{2})"
)
_PLACE_OF_SECONDS = 18
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
# Where a part stands in a line, and the parts of a request within it.
_PLACES = {
    **{"host": 0, "identity": 1, "user": 2, "time": 3, "request": 4, "status": 5, "bytes": 6},
    **{"referer": 7, "agent": 8},
}
_OF_REQUEST = {"method": 0, "path": 1, "protocol": 2}
_LINES_AT_ONCE = 256
Columns = Sequence[Sequence[str]]
_Fill = Callable[[Columns, int], Sequence[str]]


def log_time(written: str) -> datetime | None:
    """Return the instant of a log's time, such as `17/May/2015:10:05:03 +0000`; None for none."""
    found = _TIME.fullmatch(written)
    if found is None or found[2] not in _MONTHS:
        return None
    day, _, year, hour, minute, second, sign, hours, mins = found.groups()
    try:
        offset = timedelta(hours=int(hours), minutes=int(mins))
        zone = timezone(offset if sign == "+" else -offset)
        instant = datetime(
            *(int(year), _MONTHS[found[2]], int(day)),
            *(int(hour), int(minute), int(second)),
            tzinfo=zone,
        )
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=8192)
def _request(line: str) -> tuple[str, str, str | None] | None:
    """Return method, path and protocol of a request; None for what is none."""
    found = _REQUEST.fullmatch(line)
    return (found[1], found[2], found[3]) if found else None


class LogFile(Source):
    """An access log of a web server, a request a line.

    A part that is `-` is null. Escapes (`\\xe4`, `\\"`) stay as the server wrote them.

    Parameters: path; spec, a declaration with `producer.replay` of one of Apache's formats.
    """

    def __init__(self, path: Path, spec: Spec) -> None:
        super().__init__(path, spec)
        self._writer = Writer(spec)
        self._line = _LINES[self.replay.format]
        self._plan = [self._filler(name) for name in self._writer.names]

    def records(self) -> Iterator[Record]:
        """Yield every line; one that is not of the format as its own bytes.

        Raises StreamkeeperError for a broken archive.
        """
        match, found = self._line.fullmatch, list[tuple[str, ...]]()
        try:
            for line in self.lines():
                parts = match(line.decode("utf-8", "surrogateescape"))
                if parts is None:
                    yield from self._whole(found)
                    yield malformed(line)
                    continue
                found.append(parts.groups())
                if len(found) >= _LINES_AT_ONCE:
                    yield from self._whole(found)
        except StreamkeeperError:
            yield from self._whole(found)
            raise
        yield from self._whole(found)

    def _whole(self, found: list[tuple[str, ...]]) -> Iterator[Record]:
        """Return the records of whole lines, which are taken away."""
        columns, count = list(zip(*found, strict=True)), len(found)
        found.clear()
        if not count:
            return iter(())
        return self._writer.records([fill(columns, count) for fill in self._plan])

    def _filler(self, name: str) -> _Fill:
        """Return what makes the JSON texts of a field from the columns of many lines."""
        constant = self._writer.constant(name)
        if constant is not None:
            return lambda columns, count: [constant] * count
        column, field = self.replay.columns[name], self.spec.fields[name]
        part = str(column.column)
        assert part in LOG_FIELDS[self.replay.format]
        if part == "time" and field.type == "timestamp":
            read = _time_reader(field.format)
            return lambda columns, count: list(map(read, columns[_PLACES["time"]]))
        missing = ("-", *self.replay.missing)
        if part in _OF_REQUEST:
            place, convert = _OF_REQUEST[part], converter(field, column, missing)

            def of_requests(columns: Columns, count: int) -> Sequence[str]:
                found = map(_request, columns[_PLACES["request"]])
                parts = (request and request[place] for request in found)
                return [NULL if part is None else convert(part) for part in parts]

            return of_requests
        whole = column_converter(field, column, missing)
        return lambda columns, count: whole(columns[_PLACES[part]])


def _time_reader(form: str) -> Callable[[str], str]:
    """Return what writes a log's time in a field's format; what is no time becomes a text."""

    def slowly(written: str) -> str:
        instant = log_time(written)
        return text(written) if instant is None else write_time(instant, form)

    read = by_minute(log_time, _PLACE_OF_SECONDS, form, slowly)
    return lambda written: read(written) or NULL
