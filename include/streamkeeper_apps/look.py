"""Looks at a topic's messages without leaving a trace: no group, no commit."""

from __future__ import annotations

import argparse
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from streamkeeper.errors import StreamkeeperError
from streamkeeper.settings import Settings
from streamkeeper_apps.producer.json_files import encode, strict_object
from streamkeeper_apps.streams import declared
from streamkeeper_io.kafka import (
    Admin,
    begin_offsets,
    client_config,
    end_offsets,
    quiet_logger,
    unavailable,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_LAST = 10


def run_look(settings: Settings, options: argparse.Namespace) -> int:
    """Print messages; return the exit code.

    Raises KafkaUnavailable, TopicMissing; StreamkeeperError for a place that the topic lacks.
    """
    if (options.stream is None) == (options.topic is None):
        raise StreamkeeperError("name either a stream or a --topic")
    topic = options.topic or declared(settings, options.stream).source.kafka.topic
    if options.offset is not None and options.partition is None:
        raise StreamkeeperError("an offset stands in one partition: add --partition")
    admin = Admin(settings)
    _, begin = begin_offsets(admin, topic, timeout_s=options.wait)
    _, end = end_offsets(admin, topic, timeout_s=options.wait)
    if options.partition is not None:
        begin, end = _one(topic, options.partition, begin), _one(topic, options.partition, end)
    last = _DEFAULT_LAST if options.last is None else options.last
    if options.offset is None and not options.follow:
        found = newest(settings, topic, begin, end, last=last, wait_s=options.wait)
        for message in found:
            print("\n".join(described(message)))
        if not found:
            print("no messages")
        return 0
    spans: dict[int, Span] = {p: (e, None) for p, e in end.items()}
    if options.offset is not None:
        spans = {options.partition: _from(options, begin, end)}
    with closing(Reading(settings, topic, spans, options.wait)) as reading:
        _show(reading, None if options.follow else last)
    return 0


def newest(
    settings: Settings,
    topic: str,
    begin: dict[int, int],
    end: dict[int, int],
    *,
    last: int,
    wait_s: float,
) -> list[Message]:
    """Return the newest messages of all partitions, in the order of their times.

    Parameters: begin and end, the kept offsets by partition; last, so many at most.
    """
    window = last
    while True:
        spans: dict[int, Span] = {p: (max(begin[p], e - window), e) for p, e in end.items()}
        with closing(Reading(settings, topic, spans, wait_s)) as reading:
            found = list(reading.messages())
        counts = Counter(message.partition() for message in found)
        if all(counts[p] >= last or spans[p][0] == begin[p] for p in spans):
            found.sort(key=lambda m: (m.timestamp()[1], m.partition() or 0, m.offset() or 0))
            return found[max(len(found) - last, 0) :]
        # Markers of transactions and compacted offsets are no messages: it looks further back.
        window *= 8


Span = tuple[int, int | None]
"""From which offset on, and up to which (exclusive); None: without an end."""


def _one(topic: str, partition: int, offsets: dict[int, int]) -> dict[int, int]:
    if partition not in offsets:
        raise StreamkeeperError(
            f"the topic {topic!r} has no partition {partition}; "
            f"there are {', '.join(map(str, offsets))}"
        )
    return {partition: offsets[partition]}


def _from(options: argparse.Namespace, begin: dict[int, int], end: dict[int, int]) -> Span:
    """Return the span from the asked offset on."""
    partition, offset = options.partition, options.offset
    first, stop = begin[partition], end[partition]
    if not first <= offset < stop:
        kept = f"{first} to {stop - 1}" if stop > first else "none"
        raise StreamkeeperError(
            f"partition {partition} has no offset {offset}; its kept offsets: {kept}"
        )
    return offset, None if options.follow else stop


class Reading:
    """Messages of spans of a topic.

    Parameters: settings; topic; spans, by partition; wait_s, how long to wait for the brokers.
    """

    def __init__(
        self, settings: Settings, topic: str, spans: Mapping[int, Span], wait_s: float
    ) -> None:
        config = client_config(settings)
        self._where, self._wait_s = str(config["bootstrap.servers"]), wait_s
        self._open = {p: end for p, (begin, end) in spans.items() if end is None or begin < end}
        own = {
            # The client asks for a name; without a subscription nobody ever hears of it.
            "group.id": f"look-{secrets.token_hex(4)}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
        self._consumer = Consumer(config | own, logger=quiet_logger())
        self._consumer.assign([TopicPartition(topic, p, spans[p][0]) for p in self._open])

    def messages(self) -> Iterator[Message]:
        """Yield messages until all spans are read; raises KafkaUnavailable."""
        heard = time.monotonic()
        while self._open:
            message = self._consumer.poll(0.2)
            if message is None:
                endless = None in self._open.values()
                if not endless and time.monotonic() - heard > self._wait_s:
                    raise unavailable(self._where, self._wait_s, "no answer")
                continue
            heard = time.monotonic()
            error, partition = message.error(), message.partition()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                # Markers of transactions and compacted offsets hold no message.
                self._close(partition, message.offset())
            elif error is not None:
                raise unavailable(self._where, self._wait_s, error.str())
            else:
                stop = self._open.get(partition or 0)
                if stop is None or (message.offset() or 0) < stop:
                    yield message
                self._close(partition, (message.offset() or 0) + 1)

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _close(self, partition: int | None, position: int | None) -> None:
        stop = self._open.get(partition or 0)
        if stop is not None and position is not None and position >= stop:
            del self._open[partition or 0]


def _show(reading: Reading, last: int | None) -> None:
    """Print messages as they come: so many, or until Ctrl-C."""
    try:
        for count, message in enumerate(reading.messages(), 1):
            print("\n".join(described(message)), flush=True)
            if count == last:
                return
    except KeyboardInterrupt:
        return


def described(message: Message) -> list[str]:
    """Return the lines that show a message."""
    headers: Any = message.headers() or []
    told = "".join(f" {name}={shown(value)}" for name, value in headers)
    place = f"partition {message.partition()} offset {message.offset()}"
    key = message.key()
    keyed = "no key" if key is None else f"key {shown(key)}"
    lines = [f"{place}  {_time(*message.timestamp())}  {keyed}{told and f'  headers{told}'}"]
    value = message.value()
    return [*lines, *(f"  {line}" for line in pretty(value))]


def _time(kind: int, millis: int) -> str:
    if kind == TIMESTAMP_NOT_AVAILABLE:
        return "no time"
    instant = (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds")
    by = "broker" if kind == TIMESTAMP_LOG_APPEND_TIME else "sender"
    return f"{instant.replace('+00:00', 'Z')} ({by})"


def shown(value: object) -> str:
    """Return bytes as text; those that are no printable UTF-8 as escapes."""
    if value is None:
        return "null"
    raw = value.encode() if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return repr(raw)
    return text if text.isprintable() else repr(text)


def pretty(value: bytes | str | None) -> list[str]:
    """Return a value's lines: an object over several, numbers as written; else one, escaped."""
    if value is None:
        return ["null (a tombstone)"]
    try:
        found = strict_object(value if isinstance(value, str) else value.decode())
    except UnicodeDecodeError:
        return [shown(value)]
    return _indented(found).splitlines() if isinstance(found, dict) else [shown(value)]


def _indented(value: Any, inset: str = "") -> str:
    deeper = inset + "  "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{encode(k)}: {_indented(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{inset}}}"
    if isinstance(value, list) and value:
        rows = [deeper + _indented(v, deeper) for v in value]
        return "[\n" + ",\n".join(rows) + f"\n{inset}]"
    return encode(value)
