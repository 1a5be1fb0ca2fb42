"""The options of the Cassandra data source, read and checked on the driver."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamkeeper.connections.cassandra import (
    CASSANDRA_OPTIONS,
    PASSWORD,
    TLS,
    TLS_OPTIONS,
    USER,
    cassandra_options,
)
from streamkeeper.errors import Mistake, OptionsError, SettingsError
from streamkeeper.spec.durations import parse_duration

SOURCE = 'format("cassandra")'
CONSISTENCIES = (
    *("ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL"),
    *("LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"),
)
_LONGEST_TTL_S = 20 * 365 * 24 * 3600  # Cassandra's own limit


@dataclass(frozen=True)
class Options:
    """What a read or a write was asked for.

    connection: account, TLS and policy as `connect` takes them, as JSON;
    columns: only these are read, all when empty; splits: tasks of a full scan, None: by size;
    split_mib: size of a task then; page_rows: rows a request; consistency: of reads or writes;
    trace: whether Cassandra traces each statement; write_timestamp: of all cells, microseconds by
    custom; ttl_s: seconds that cells live, 0: for ever; in_flight and batch_rows: requests at a
    time and rows in each.
    """

    contact_points: str
    keyspace: str
    table: str
    connection: str = field(default="{}", repr=False)
    columns: tuple[str, ...] = ()
    splits: int | None = None
    split_mib: int = 64
    page_rows: int = 5000
    consistency: str = "LOCAL_ONE"
    trace: bool = False
    write_timestamp: int | None = None
    ttl_s: int = 0
    in_flight: int = 64
    batch_rows: int = 50

    @property
    def full_name(self) -> str:
        """Keyspace and table."""
        return f"{self.keyspace}.{self.table}"


def read_options(given: Mapping[str, str]) -> Options:
    """Read the options.

    Raises OptionsError with every mistake: options that are unknown, missing or malformed.
    """
    mistakes: list[Mistake] = []
    read: dict[str, Any] = {}
    for name, text in given.items():
        key = name.lower()
        if key not in _READERS:
            nearest = difflib.get_close_matches(key, _READERS, n=1)
            valid = tuple(_READERS)
            mistakes.append(_mistake(key, "is no option", "", valid, nearest[0] if nearest else ""))
            continue
        target, reader = _READERS[key]
        try:
            read[target] = reader(text)
        except ValueError as error:
            mistakes.append(_mistake(key, f" {error}", repr(text)))
    for needed in ("contact_points", "keyspace", "table"):
        if not given.get(needed):
            mistakes.append(_mistake(needed, f'is needed; add .option("{needed}", ...)', ""))
    connection = {key: read.pop(key) for key in list(read) if key in _CONNECTION}
    try:
        read["connection"] = json.dumps(_connection(connection))
    except SettingsError as error:
        mistakes.append(_mistake("connection", str(error), ""))
    if mistakes:
        raise OptionsError(tuple(mistakes))
    return Options(**read)


def connection_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of a read or write that connects as checked options say."""
    flat = {name: str(value) for name, value in options.items() if name != TLS}
    return flat | {_TLS + name: str(value) for name, value in options.get(TLS, {}).items()}


def _connection(given: Mapping[str, str]) -> dict[str, Any]:
    flat: dict[str, Any] = {k: v for k, v in given.items() if not k.startswith(_TLS)}
    tls = {k.removeprefix(_TLS): v for k, v in given.items() if k.startswith(_TLS)}
    return cassandra_options(flat | ({TLS: tls} if tls else {}), connection=SOURCE)


def _mistake(
    key: str, message: str, value: str, valid: tuple[str, ...] = (), nearest: str = ""
) -> Mistake:
    return Mistake(SOURCE, None, key, message, value, valid, nearest or None)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"is not a whole number from {low:,} to {high:,}")
        return value

    return read


def _points(text: str) -> str:
    for point in text.split(","):
        host, _, port = point.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("is not written as host:port,host:port")
    return text


def _names(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ValueError("names no column; write them with commas between")
    return found


def _consistency(text: str) -> str:
    level = text.upper()
    if level not in CONSISTENCIES:
        near = difflib.get_close_matches(level, CONSISTENCIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"is no consistency level; valid: {', '.join(CONSISTENCIES)}{hint}")
    return level


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.lower() == "true"


def _ttl(text: str) -> int:
    seconds = float(text) if text.isdigit() else parse_duration(text).total_seconds()
    if not 0 <= seconds <= _LONGEST_TTL_S or seconds % 1:
        raise ValueError("is not a number of seconds up to 20 years, nor a duration such as 30d")
    return int(seconds)


def _filled(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


_TLS = "ssl_"
_CONNECTION = (USER, PASSWORD, *CASSANDRA_OPTIONS, *(_TLS + name for name in TLS_OPTIONS))
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "contact_points": ("contact_points", _points),
    "keyspace": ("keyspace", _filled),
    "table": ("table", _filled),
    **{name: (name, _filled) for name in _CONNECTION},
    "columns": ("columns", _names),
    "splits": ("splits", _whole(1, 100_000)),
    "split_mib": ("split_mib", _whole(1, 1_000_000)),
    "page_rows": ("page_rows", _whole(1, 1_000_000)),
    "consistency": ("consistency", _consistency),
    "trace": ("trace", _flag),
    "write_timestamp": ("write_timestamp", _whole(-(2**63) + 1, 2**63 - 1)),
    "ttl": ("ttl_s", _ttl),
    "in_flight": ("in_flight", _whole(1, 2000)),
    "batch_rows": ("batch_rows", _whole(1, 1000)),
}
