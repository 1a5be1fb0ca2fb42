"""Sends numbered messages to a topic and knows of each whether it is acknowledged."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from streamkeeper.errors import KafkaUnavailable
from streamkeeper_apps.producer.messages import Batch, Counts, HourCount
from streamkeeper_io.kafka import is_away, quiet_logger, unavailable

SENT_AT, EPOCH = "sent_at", "epoch"
_SHOWN_REFUSALS = 10
# One send time for so many messages: at full speed they leave within a few milliseconds.
_STAMP_EVERY = 200
_LOOK_S = 1.0
# What became of a message.
_UNDER_WAY, _ACKED, _FAILED, _UNKNOWN, _REFUSED = range(5)
# A message that Kafka does not take for what it is; sent again, it is refused again.
REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
    }
)
PURGED = {KafkaError._PURGE_QUEUE: _FAILED, KafkaError._PURGE_INFLIGHT: _UNKNOWN}


class _Group:
    """The messages of one batch that were sent; `position` is the number that follows them.

    `open` counts those without an answer, and one more while the call still adds to them.
    """

    __slots__ = ("batch", "open", "position", "sender", "state")

    def __init__(self, sender: Sender, batch: Batch) -> None:
        self.sender, self.batch = sender, batch
        self.position = batch.numbers[0] if batch.numbers else batch.position
        self.open = 1
        self.state = bytearray()

    def sent_to(self, index: int) -> None:
        """Note that the messages up to an index are under way; no answer comes before."""
        count = index - len(self.state)
        self.state.extend(bytes(count))
        self.open += count

    def delivered(self, index: int, error: KafkaError | None, message: Delivered) -> None:
        if error is None:
            self.state[index] = _ACKED
        else:
            self.state[index] = self.sender.note_failure(error)
        if not self.sender.quiet:
            self.close()

    def close(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.sender.settle(self)

    def arrived(self) -> None:
        """Note that all messages without a failure are acknowledged."""
        self.state = self.state.replace(bytes([_UNDER_WAY]), bytes([_ACKED]))
        self.open = 0

    def lost(self) -> Iterator[int]:
        """Yield the numbers of messages that have not arrived, or may not have."""
        if self.state.count(_ACKED) == len(self.state):
            return
        for number, state in zip(self.batch.numbers, self.state, strict=False):
            if state not in (_ACKED, _REFUSED):
                yield number


@dataclass
class Sender:
    """An idempotent producer for one topic.

    Parameters: config, the client's configuration; topic; position, the number of the first
    message; epoch, told in each message's header; give_up_s, after so many seconds an
    unacknowledged message counts as failed; stopped, tells whether to give up waiting for room;
    quiet, hear of failures only, which is faster: once a second all that is under way is waited
    for, and then what has not failed is acknowledged.

    `acked_to` is the number up to which (exclusive) every message is acknowledged, but for those
    that Kafka refuses for what they are; `by_hour` counts by event hour, answers once those of
    their whole batch are there; `lost` holds the numbers of messages that were given up.
    """

    config: Mapping[str, Any]
    topic: str
    position: int
    epoch: int | None = None
    give_up_s: float = 120.0
    stopped: Callable[[], bool] = lambda: False
    quiet: bool = False
    sent: int = 0
    refusals: list[str] = field(default_factory=list)
    away: KafkaUnavailable | None = None
    by_hour: dict[int | None, HourCount] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    _groups: deque[_Group] = field(default_factory=deque)
    _acked: int = 0
    _failed: int = 0

    def __post_init__(self) -> None:
        self.acked_to = self.position
        self._next_look = time.monotonic() + _LOOK_S
        self._where = str(self.config["bootstrap.servers"])
        self._last_error = ""
        self._producer = Producer(
            {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 50,
                # The partition that Java producers choose for the same key.
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": int(self.give_up_s * 1000),
                "queue.buffering.max.messages": 200_000,
                "error_cb": self._note_error,
                "delivery.report.only.error": self.quiet,
            }
            | dict(self.config),
            logger=quiet_logger(),
        )

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        acked, failed = self._acked, self._failed
        for group in list(self._groups):
            if group.open:
                acked += group.state.count(_ACKED)
                failed += group.state.count(_FAILED) + group.state.count(_REFUSED)
        return Counts(self.sent, acked, failed)

    def send(self, batch: Batch) -> int:
        """Send a batch, waiting for room in the producer's queue; return how many were sent.

        Fewer than given are sent only when `stopped` says so. Raises KafkaUnavailable when an
        earlier message was given up.
        """
        group = _Group(self, batch)
        self._groups.append(group)
        total, done = len(batch.messages), 0
        try:
            while done < total:
                end = min(done + _STAMP_EVERY, total)
                done = self._send(group, done, end)
                self.position = batch.position if done == total else batch.numbers[done]
                group.position = self.position
                if done < end:
                    return done
                self._serve(0)
        finally:
            self.sent += len(group.state)
            self._count_sent(batch, len(group.state))
            if not self.quiet:
                group.close()
        if self.quiet and time.monotonic() >= self._next_look:
            self._look()
        return done

    def poll(self, seconds: float) -> None:
        """Serve acknowledgements for at most so long; raises KafkaUnavailable."""
        self._serve(seconds)
        if self.quiet and self._groups and time.monotonic() >= self._next_look:
            self._look()

    def flush(self, seconds: float) -> Counts:
        """Wait until every message has its answer, or for so long; return the counts.

        What has not left yet by then is taken back and counts as given up.
        """
        if self._producer.flush(seconds):
            self._producer.purge()
            self._producer.flush(5)
        self._settle_quietly()
        return self.counts

    def unacknowledged(self) -> list[int]:
        """Return the numbers of all messages that have not arrived, or may not have."""
        return self.lost + [number for group in self._groups for number in group.lost()]

    def settle(self, group: _Group) -> None:
        """Count what became of a group whose messages all have their answers."""
        self._acked += group.state.count(_ACKED)
        self._failed += group.state.count(_FAILED) + group.state.count(_REFUSED)
        hours = group.batch.hours
        if group.state.count(_ACKED) == len(group.state):
            for hour, count in Counter(hours[: len(group.state)]).items():
                self.by_hour[hour].acked += count
        else:
            for hour, state in zip(hours, group.state, strict=False):
                self.by_hour[hour].acked += state == _ACKED
                self.by_hour[hour].failed += state in (_FAILED, _REFUSED)
        self._advance()

    def note_failure(self, error: KafkaError, which: str = "") -> int:
        """Remember why a message did not arrive; return what became of it."""
        code = error.code()
        if code in PURGED:
            return PURGED[code]
        if is_away(error) or error.fatal():
            reason = self._last_error or error.str()
            self.away = unavailable(self._where, self.give_up_s, reason)
        elif len(self.refusals) < _SHOWN_REFUSALS:
            self.refusals.append(which + error.str())
        return _REFUSED if code in REFUSALS else _FAILED

    def _serve(self, seconds: float) -> None:
        self._producer.poll(seconds)
        self._raise_if_away()

    def _look(self) -> None:
        """Wait until nothing is under way, or for a stop; raises KafkaUnavailable."""
        while self._producer.flush(0.2):
            self._raise_if_away()
            if self.stopped():
                return
        self._raise_if_away()
        self._settle_quietly()
        self._next_look = time.monotonic() + _LOOK_S

    def _settle_quietly(self) -> None:
        """Where only failures are heard of: what is no longer under way has arrived or failed."""
        if self.quiet and not len(self._producer):
            for group in list(self._groups):
                group.arrived()
                self.settle(group)

    def _advance(self) -> None:
        """Move `acked_to` over the groups whose messages all have their answers."""
        groups = self._groups
        while groups and groups[0].open == 0:
            group = groups.popleft()
            self.lost += group.lost()
            self.acked_to = self.lost[0] if self.lost else group.position

    def _send(self, group: _Group, begin: int, end: int) -> int:
        """Hand messages over; return the index of the first that was not, for want of room."""
        produce, topic, headers = self._producer.produce, self.topic, self._headers()
        messages, delivered = group.batch.messages, group.delivered
        index = begin
        while index < end:
            refusal: KafkaError | None = None
            try:
                for message in messages[index:end]:
                    answer = partial(delivered, index)
                    produce(topic, message[1], message[0], -1, answer, None, 0, headers)
                    index += 1
            except BufferError:
                pass  # it is full
            except KafkaException as error:
                refusal = error.args[0]
            group.sent_to(index)
            if refusal is not None:
                self._refuse(group, index, refusal)
                index += 1
            elif index < end:
                if self.stopped():
                    return index
                self._serve(0.2)
        return index

    def _count_sent(self, batch: Batch, done: int) -> None:
        for hour, count in Counter(batch.hours[:done]).items():
            self.by_hour.setdefault(hour, HourCount()).sent += count
        if batch.faults:
            for hour, fault in zip(batch.hours[:done], batch.faults, strict=False):
                if fault:
                    self.by_hour[hour].faults[fault] += 1

    def _refuse(self, group: _Group, index: int, error: KafkaError) -> None:
        """Note a message that the client itself does not take, such as one too large."""
        number = group.batch.numbers[index]
        group.state.append(_UNDER_WAY)
        group.state[index] = self.note_failure(error, f"message {number}: ")
        if error.fatal():
            self._raise_if_away()

    def _headers(self) -> list[tuple[str, str | bytes | None]]:
        headers: list[tuple[str, str | bytes | None]] = []
        headers.append((SENT_AT, str(time.time_ns() // 1_000_000).encode()))
        if self.epoch is not None:
            headers.append((EPOCH, str(self.epoch).encode()))
        return headers

    def _raise_if_away(self) -> None:
        if self.away is not None:
            raise self.away

    def _note_error(self, error: KafkaError) -> None:
        self._last_error = error.str()
