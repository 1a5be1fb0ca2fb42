"""What `show --zone topic` tells: the messages that the topic keeps, without leaving a trace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from streamkeeper.settings import Settings
from streamkeeper.showing import HourRange
from streamkeeper.spec.models import Spec
from streamkeeper_apps.look import newest
from streamkeeper_apps.show_tables import Shown
from streamkeeper_io.kafka import Admin, begin_offsets, end_offsets, offsets_at

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Someone waits for the answer; brokers that need longer are away.
_WAIT_S = 8.0
_COLUMNS = ("partition", "offset", "time", "key", "headers", "value")


def topic_messages(settings: Settings, spec: Spec, limit: int, hours: HourRange | None) -> Shown:
    """Return the newest messages, or the last ones that arrived in some hours.

    Raises KafkaUnavailable, TopicMissing.
    """
    topic = spec.source.kafka.topic
    begin, end = _kept(settings, topic, hours)
    found = newest(settings, topic, begin, end, last=limit, wait_s=_WAIT_S)
    title = f"{spec.name} topic {topic}{_of(hours)}: the last messages"
    rows = [_row(message) for message in found]
    return Shown(title, _COLUMNS, rows, frozenset({"value"}), "no messages")


def topic_counts(settings: Settings, spec: Spec, hours: HourRange | None) -> Shown:
    """Return the kept offsets of each partition, or those that arrived in some hours.

    Raises KafkaUnavailable, TopicMissing.
    """
    topic = spec.source.kafka.topic
    begin, end = _kept(settings, topic, hours)
    rows = [(p, begin[p], end[p], end[p] - begin[p]) for p in sorted(end)]
    total, of = sum(row[-1] for row in rows), "messages"
    if spec.source.kafka.kind != "plain":
        of = f"offsets, not all of which hold a message ({spec.source.kafka.kind})"
    title = f"{spec.name} topic {topic}{_of(hours)}: {total:,} {of}"
    return Shown(title, ("partition", "first", "end", "offsets"), rows)


def topic_schema(spec: Spec) -> Shown:
    """Return the declared fields: what a message holds, and where."""
    rows = [
        (name, field.type, ".".join(field.keys(name)), "yes" if field.required else "no")
        for name, field in spec.fields.items()
    ]
    title = f"{spec.name} topic {spec.source.kafka.topic}: declared fields ({spec.source.format})"
    return Shown(title, ("column", "type", "path", "required"), rows)


def _kept(
    settings: Settings, topic: str, hours: HourRange | None
) -> tuple[dict[int, int], dict[int, int]]:
    admin = Admin(settings)
    _, begin = begin_offsets(admin, topic, timeout_s=_WAIT_S)
    _, end = end_offsets(admin, topic, timeout_s=_WAIT_S)
    if hours is None:
        return begin, end
    # A partition without a message of that time or later is not named: all of it is earlier.
    _, from_ = offsets_at(admin, topic, hours.first, timeout_s=_WAIT_S)
    _, upto = offsets_at(admin, topic, hours.end, timeout_s=_WAIT_S)
    first = {p: max(begin[p], from_.get(p, e)) for p, e in end.items()}
    return first, {p: max(first[p], upto.get(p, e)) for p, e in end.items()}


def _row(message: Message) -> tuple[Any, ...]:
    kind, millis = message.timestamp()
    at = None if kind == TIMESTAMP_NOT_AVAILABLE else _EPOCH + timedelta(milliseconds=millis)
    headers: Any = message.headers() or []
    told = [
        f"{name}={'' if value is None else value.decode('utf-8', 'backslashreplace')}"
        for name, value in headers
    ]
    return (
        message.partition(),
        message.offset(),
        at,
        message.key(),
        told,
        message.value(),
    )


def _of(hours: HourRange | None) -> str:
    return f", arrived in {hours}" if hours else ""
