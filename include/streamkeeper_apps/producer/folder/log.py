"""A watched folder's topic, written in Kafka's transactions together with the ledger."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from streamkeeper import names
from streamkeeper.errors import Fenced, StreamkeeperError
from streamkeeper.files import AGAIN, FileEntry
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.folder.contents import NotTaken
from streamkeeper_apps.producer.folder.ledger import Ledger, ledger_source
from streamkeeper_apps.producer.sender import EPOCH, PURGED, REFUSALS, SENT_AT
from streamkeeper_io.kafka import (
    Admin,
    client_config,
    end_offsets,
    is_away,
    largest_batch,
    quiet_logger,
    unavailable,
)

FILE, SHA256, RECORD = "file", "sha256", "record"
"""Headers of a message: its file below the folder, the hash of its content, its number there."""
Headers = list[tuple[str, str]]
# Bytes of a batch's own fields, and at most of a record's and of a header's lengths.
_BATCH_HEADER, _RECORD, _HEADER = 61, 15, 5
# A transaction is committed when it holds so much, or is so old: Kafka aborts one after 60 s.
_MOST_RECORDS, _MOST_BYTES, _OLDEST_S = 50_000, 32 << 20, 10.0
# The client itself takes anything, for files are held to what the topic takes. A batch of several
# records has at most so many bytes, and no more than the topic takes.
_CLIENT_TAKES, _BATCH = 1_000_000_000, 1_000_000
_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
)


def around(headers: Headers) -> int:
    """Return at most how many bytes stand around a record without a key, alone in its batch.

    Kafka counts them: https://kafka.apache.org/documentation/#messageformat.
    """
    return _BATCH_HEADER + _RECORD + sum(len(n) + len(v.encode()) + _HEADER for n, v in headers)


class TransactionalLog:
    """A topic and its ledger, as `watching.Log` describes them.

    From its making on no older producer of the stream's folder can write any more, and what that
    one had not committed is gone.

    Parameters: settings; spec; epoch, told in each message's header; wait_s, how long to wait for
    the brokers.
    Raises KafkaUnavailable, Fenced.
    """

    def __init__(
        self, settings: Settings, spec: Spec, *, epoch: int | None = None, wait_s: float = 120.0
    ) -> None:
        self._topic, self._epoch, self._wait_s = spec.source.kafka.topic, epoch, wait_s
        self._config = client_config(settings)
        self._where = str(self._config["bootstrap.servers"])
        self._last_error, self._id = "", names.transactional_id(spec.name)
        self._admin, self._answer_s = Admin(settings), min(wait_s, 15.0)
        self._limit, self._ledgers_limit = (
            largest_batch(self._admin, topic, timeout_s=self._answer_s)
            for topic in (self._topic, ledger_source(spec).topic)
        )
        self._connect()
        ident, ends = end_offsets(self._admin, self._topic, timeout_s=self._answer_s)
        self._topic_id, self._partitions = ident, len(ends)
        # Only now: no older producer adds to it any more.
        self._ledger = Ledger(settings, spec, self._answer_s)
        self._ledger.refresh()
        self._forget()

    def _connect(self) -> None:
        """Make the client; from then on no client before it can write any more."""
        self._batch = min(self._limit, self._ledgers_limit, _BATCH)
        self._producer = Producer(
            {
                "transactional.id": self._id,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
                "message.max.bytes": _CLIENT_TAKES,
                "batch.size": self._batch,
                "error_cb": self._note_error,
            }
            | self._config,
            logger=quiet_logger(),
        )
        self._do(lambda: self._producer.init_transactions(self._wait_s))

    @property
    def entries(self) -> dict[str, FileEntry]:
        """What is committed of each file."""
        return self._ledger.entries

    @property
    def asked(self) -> dict[str, datetime]:
        """The files that a person asks to read again."""
        return self._ledger.asked

    def refresh(self) -> None:
        """Read on in the ledger: what people ask for; and what the topic takes.

        Raises KafkaUnavailable.
        """
        self._ledger.refresh()
        self._limit = largest_batch(self._admin, self._topic, timeout_s=self._answer_s)

    def largest(self, path: str) -> int:
        """Return how many bytes a record of a file may have, whatever its number.

        How well it could be packed does not count.
        """
        return max(self._limit - around(self._headers(path, "0" * 64, 10**12)), 1)

    def begin(self) -> None:
        """Begin a transaction."""
        self._do(self._producer.begin_transaction)
        self._forget()
        self._began = time.monotonic()

    def send(self, path: str, sha256: str, number: int, record: bytes) -> None:
        """Send a record; all of a file go into one partition, so that they keep their order.

        Raises KafkaUnavailable, Fenced, NotTaken.
        """
        headers, size = self._headers(path, sha256, number), len(record)
        if self._limit < self._batch:
            self._keep_batches_small(size + around(headers))
        place = self._topic, self._partition(path)
        self._produce(place, None, record, partial(self._delivered, path, size), headers)
        self._records += 1
        self._bytes += size

    def full(self) -> bool:
        """Tell whether the transaction is large or old enough to be committed."""
        old = time.monotonic() - self._began >= _OLDEST_S
        return self._records >= _MOST_RECORDS or self._bytes >= _MOST_BYTES or old

    def commit(self, entries: Sequence[FileEntry], served: Sequence[str]) -> None:
        """Commit what was sent with the states of its files and the requests that were served.

        Raises KafkaUnavailable, Fenced, NotTaken. What became of the transaction tells the ledger,
        to whoever makes a log next.
        """
        # The offsets, which the ledger tells too, are known once the records have arrived.
        self._arrive()
        placed, ledger = [self._placed(entry) for entry in entries], (self._ledger.topic, 0)
        for entry in placed:
            self._produce(ledger, entry.path, entry.model_dump_json().encode())
        for path in served:
            self._produce(ledger, AGAIN + path, None)
        self._do(lambda: self._producer.commit_transaction(self._wait_s))
        self._ledger.entries.update({entry.path: entry for entry in placed})
        for path in served:
            self._ledger.asked.pop(path, None)

    def abort(self) -> None:
        """Take back what was sent since `begin`; where Kafka is away its time does so.

        Raises KafkaUnavailable, Fenced after a refusal.
        """
        try:
            self._serve(lambda: self._producer.abort_transaction(min(self._wait_s, 10.0)))
        except (KafkaException, StreamkeeperError) as error:
            # The next log, or Kafka itself after a minute, ends the transaction.
            self._last_error = str(error)
            return
        if self._refusal is not None and self._refusal[0].code() in REFUSALS:
            # Brokers number what they take, the client what it sends: what follows a refusal would
            # be out of order. That they let it abort says that nobody has taken its place.
            self._connect()

    def _forget(self) -> None:
        self._began = time.monotonic()
        self._records = self._bytes = 0
        self._spans: dict[str, tuple[int, int]] = {}
        self._under_way = 0
        self._refusal: tuple[KafkaError, int, str] | None = None

    def _headers(self, path: str, sha256: str, number: int) -> Headers:
        headers = [
            (SENT_AT, str(time.time_ns() // 1_000_000)),
            (FILE, path),
            (SHA256, sha256),
            (RECORD, str(number)),
        ]
        return headers if self._epoch is None else [*headers, (EPOCH, str(self._epoch))]

    def _keep_batches_small(self, size: int) -> None:
        """Let all arrive before a batch outgrows what the topic takes, if that is less by now."""
        if self._under_way + size > self._limit:
            self._arrive()
        self._under_way += size

    def _arrive(self) -> None:
        """Wait until all that was sent has its answer; raises KafkaUnavailable, NotTaken."""
        deadline = time.monotonic() + self._wait_s
        while self._serve(lambda: self._producer.flush(0.2)):
            self._raise_refusal()
            if time.monotonic() > deadline:
                raise unavailable(self._where, self._wait_s, self._last_error or "no answer")
        self._raise_refusal()
        self._under_way = 0

    def _partition(self, path: str) -> int:
        entry = self.entries.get(path)
        if entry and entry.state == "sending" and entry.topic_id == self._topic_id:
            assert entry.partition is not None
            return entry.partition
        return zlib.crc32(path.encode()) % self._partitions

    def _placed(self, entry: FileEntry) -> FileEntry:
        """Return an entry with the place of its records, as far as this transaction knows it."""
        span = self._spans.get(entry.path)
        if span is None:
            return entry
        goes_on = entry.topic_id == self._topic_id and entry.first_offset is not None
        return entry.model_copy(
            update={
                "topic_id": self._topic_id,
                "partition": self._partition(entry.path),
                "first_offset": entry.first_offset if goes_on else span[0],
                "last_offset": span[1],
            }
        )

    def _delivered(
        self, path: str, size: int, error: KafkaError | None, message: Delivered
    ) -> None:
        if error is not None:
            # A batch is refused as a whole, for its largest; what follows is taken back.
            if error.code() not in PURGED and (not self._refusal or self._refusal[1] < size):
                self._refusal = error, size, path
            return
        offset = message.offset() or 0
        first, _ = self._spans.get(path, (offset, offset))
        self._spans[path] = (first, offset)

    def _produce(
        self,
        place: tuple[str, int],
        key: str | None,
        value: bytes | None,
        delivered: Any = None,
        headers: Any = None,
    ) -> None:
        """Hand a message over, waiting for room; place, topic and partition."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                self._producer.produce(place[0], value, key, place[1], delivered, None, 0, headers)
            except BufferError:
                if time.monotonic() > deadline:
                    raise unavailable(self._where, self._wait_s, self._last_error) from None
                self._serve(lambda: self._producer.poll(0.2))
                self._raise_refusal()
            except KafkaException as error:
                # After a refusal a transaction takes nothing more; the answer to that one is near.
                if error.args[0].code() == KafkaError._STATE:
                    self._arrive()
                raise self._told(error.args[0]) from None
            else:
                self._serve(lambda: self._producer.poll(0))
                return

    def _do(self, call: Callable[[], Any]) -> None:
        """Do a step of a transaction; raises KafkaUnavailable, Fenced, StreamkeeperError."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                self._serve(call)
            except KafkaException as error:
                if error.args[0].retriable() and time.monotonic() < deadline:
                    self._serve(lambda: self._producer.poll(0.1))
                    continue
                raise self._told(error.args[0]) from None
            return

    def _serve(self, call: Callable[[], Any]) -> Any:
        """Do what may call back, and let a fatal error be told; raises KafkaException for others.

        The client raises a fatal error within such a call. When it calls back after that, Python
        raises a SystemError of which the fatal error is the cause.
        """
        try:
            return call()
        except (KafkaException, SystemError) as error:
            found = error.__cause__ if isinstance(error, SystemError) else error
            if isinstance(found, KafkaException) and found.args[0].fatal():
                raise self._told(found.args[0]) from None
            raise

    def _raise_refusal(self) -> None:
        if self._refusal is None:
            return
        error, size, path = self._refusal
        if error.code() in REFUSALS:
            told = f"Kafka does not take a record of {size:,} bytes: {error.str()}"
            raise NotTaken(path, told)
        raise self._told(error)

    def _told(self, error: KafkaError) -> StreamkeeperError:
        if error.code() == KafkaError._FATAL:
            error = self._why_fatal(error)
        if error.code() in _FENCED:
            return Fenced(f"a newer producer took this one's place: {error.str()}")
        if is_away(error) or error.retriable():
            return unavailable(self._where, self._wait_s, self._last_error or error.str())
        return StreamkeeperError(f"Kafka at {self._where} refuses a transaction: {error.str()}")

    def _why_fatal(self, error: KafkaError) -> KafkaError:
        """Return the fatal error after which everything is refused; only transactions tell it."""
        try:
            self._producer.begin_transaction()
        except KafkaException as found:
            return found.args[0]
        return error

    def _note_error(self, error: KafkaError) -> None:
        self._last_error = error.str()
