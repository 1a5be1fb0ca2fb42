"""What `show` decides and writes: which hours are meant, why one is not closed, exact texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from streamkeeper.errors import StreamkeeperError
from streamkeeper.hours import HOUR, look_due
from streamkeeper.names import format_hour, parse_hour
from streamkeeper.spec.durations import format_duration

_DAY = timedelta(days=1)
_BACKSLASH = "\\"
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t", _BACKSLASH: r"\\"}


class HourRange(NamedTuple):
    """Whole hours: from the start of the first one up to `end`, which is not in."""

    first: datetime
    end: datetime

    @classmethod
    def one(cls, hour: datetime) -> HourRange:
        """Return the range of a single hour."""
        return cls(hour, hour + HOUR)

    @property
    def hours(self) -> list[datetime]:
        """The hours' starts, oldest first."""
        return [self.first + i * HOUR for i in range((self.end - self.first) // HOUR)]

    def __contains__(self, instant: object) -> bool:
        return isinstance(instant, datetime) and self.first <= instant < self.end

    def __str__(self) -> str:
        last = self.end - HOUR
        first = format_hour(self.first)
        return first if last == self.first else f"{first}..{format_hour(last)}"


def parse_hours(text: str) -> HourRange:
    """Read `2026-11-24T14`, or `2026-11-24T14..2026-11-24T18` with both ends in (UTC).

    Raises ValueError with the expected form.
    """
    begin, dots, last = text.partition("..")
    first = parse_hour(begin)
    found = HourRange(first, (parse_hour(last) if dots else first) + HOUR)
    if found.end <= found.first:
        raise ValueError(f"{text!r} ends before it begins; write the earlier hour first")
    return found


def parse_day(text: str) -> HourRange:
    """Read `2026-11-24` as the hours of that day (UTC).

    Raises ValueError with the expected form.
    """
    try:
        first = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r} is not a day; write it as 2026-11-24 (UTC)") from None
    return HourRange(first, first + _DAY)


def meant_zone(
    zone: str | None, kpi: str | None, window: str | None, table: str | None = None
) -> str:
    """Return the zone that is meant: by itself, by the name of one of its parts, or `rows`.

    Parameters: zone, as it was given; kpi, window and table, the names that were given.
    Raises StreamkeeperError when they are not of one zone.
    """
    named = {
        "kpis": ("--kpi", kpi),
        "windows": ("--window", window),
        "delta": ("--table", table),
    }
    given = {of: f"{option} {name}" for of, (option, name) in named.items() if name is not None}
    if len(given) > 1:
        both = " and ".join(given.values())
        raise StreamkeeperError(f"{both} are of two zones; leave one of them out")
    for of, option in given.items():
        if zone not in (None, of):
            raise StreamkeeperError(
                f"{option} is of the zone {of}, not of {zone}; leave out it or --zone {zone}"
            )
        return of
    return zone or "rows"


def why_not_closed(hour: datetime, now: datetime, grace: timedelta, stream: str) -> str:
    """Tell why an hour that no close has committed is not closed.

    Parameters: grace, how long after its end it is not due yet.
    """
    due, end = look_due(hour, grace), hour + HOUR
    if now < hour:
        return f"has not begun: it is {now:%Y-%m-%dT%H:%M} UTC"
    if now < end:
        return f"is open until {end:%H:%M} UTC, and due at {due:%H:%M} UTC"
    if now < due:
        return f"has ended, and is due at {due:%H:%M} UTC (grace {format_duration(grace)})"
    return (
        f"is not closed, and due since {due:%Y-%m-%dT%H:%M} UTC: hours__{stream} closes it "
        "(`airflow dags trigger` with `hour` for one of the past)"
    )


def escaped(raw: bytes) -> str:
    r"""Return bytes as text that tells each of them: printable UTF-8 as it is, the rest as escapes.

    A backslash is written twice, a byte of no UTF-8 as `\xff`, a character that does not print as
    `\n`, `\r`, `\t`, or its bytes.
    """
    text = raw.decode(errors="surrogateescape")
    if text.isprintable() and _BACKSLASH not in text:
        return text
    return "".join(_escape(c) for c in text)


def _escape(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    told = character.encode(errors="surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in told)


def cell_text(value: Any) -> str:
    """Return a value as a table's cell: a float in ten digits, bytes escaped, times in UTC."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    return escaped(value.encode()) if isinstance(value, str) else _text(value)


def exact_text(value: Any) -> str | None:
    """Return a value as a cell of CSV: nothing of it is lost; null is no text, not an empty one."""
    if value is None:
        return None
    if isinstance(value, float):
        return repr(value)
    return value if isinstance(value, str) else cell_text(value)


def json_value(value: Any) -> Any:
    """Return a value as JSON has it: what JSON cannot say is a text, and so is a decimal."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        # JSON knows neither NaN nor infinity.
        return value if value - value == 0 else str(value)
    if isinstance(value, list | tuple):
        return [json_value(one) for one in value]
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        at = value.astimezone(UTC)
        # Microseconds where there are any, so that nothing is cut off.
        finest = "microseconds" if at.microsecond % 1000 else "milliseconds"
        return at.isoformat(timespec=finest).replace("+00:00", "Z")
    if isinstance(value, bytes):
        return escaped(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        return "; ".join(cell_text(one) for one in value)
    return str(value)


def shortened(text: str, longest: int) -> str:
    """Return a text cut to `longest` characters, with how many it has."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text):,} characters)"
