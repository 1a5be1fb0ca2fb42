"""The topic of a watched folder and the ledger of its files, written in Kafka's transactions."""

from __future__ import annotations

import difflib
import getpass
import json
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from streamkeeper import names
from streamkeeper.errors import Fenced, StreamkeeperError
from streamkeeper.files import AGAIN, FileEntry
from streamkeeper.settings import Settings
from streamkeeper.spec.models import KafkaSource, Spec
from streamkeeper_apps.look import Reading
from streamkeeper_apps.producer.sender import EPOCH, SENT_AT
from streamkeeper_io.kafka import (
    Admin,
    begin_offsets,
    client_config,
    end_offsets,
    ensure_topic,
    is_away,
    quiet_logger,
    unavailable,
)

FILE, SHA256, RECORD = "file", "sha256", "record"
"""Headers of a message: its file below the folder, the hash of its content, its number there."""
# A transaction is committed when it holds so much, or is so old: Kafka aborts one after 60 s.
_MOST_RECORDS, _MOST_BYTES, _OLDEST_S = 50_000, 32 << 20, 10.0
_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
)


def ledger_source(spec: Spec) -> KafkaSource:
    """Return how the ledger's topic is made."""
    kafka = spec.source.kafka
    return KafkaSource(
        topic=names.files_topic(kafka.topic),
        kind="compacted",
        partitions=1,
        replication=kafka.replication,
    )


class Ledger:
    """The ledger of a stream's files, as far as it was read.

    Parameters: settings; spec; wait_s, how long to wait for the brokers.
    """

    def __init__(self, settings: Settings, spec: Spec, wait_s: float) -> None:
        self._settings, self._wait_s = settings, wait_s
        self.topic = names.files_topic(spec.source.kafka.topic)
        self._admin = Admin(settings)
        self._read_to: int | None = None
        self.entries: dict[str, FileEntry] = {}
        self.asked: dict[str, datetime] = {}

    def refresh(self) -> None:
        """Read on to its present end; raises KafkaUnavailable, TopicMissing."""
        if self._read_to is None:
            _, begin = begin_offsets(self._admin, self.topic, timeout_s=self._wait_s)
            self._read_to = begin[0]
        _, ends = end_offsets(self._admin, self.topic, timeout_s=self._wait_s)
        if ends[0] <= self._read_to:
            return
        spans = {0: (self._read_to, ends[0])}
        with closing(Reading(self._settings, self.topic, spans, self._wait_s)) as reading:
            for message in reading.messages():
                self._take(message)
        self._read_to = ends[0]

    def _take(self, message: Any) -> None:
        key, value = message.key().decode(), message.value()
        if key.startswith(AGAIN):
            path = key.removeprefix(AGAIN)
            if value is None:
                self.asked.pop(path, None)
            else:
                self.asked[path] = datetime.fromisoformat(json.loads(value)["at"])
        elif value is None:
            self.entries.pop(key, None)  # somebody has taken it out by hand
        else:
            self.entries[key] = FileEntry.model_validate_json(value)


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
        config = client_config(settings)
        self._where = str(config["bootstrap.servers"])
        self._last_error = ""
        self._producer = Producer(
            {
                "transactional.id": names.transactional_id(spec.name),
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
                "error_cb": self._note_error,
            }
            | config,
            logger=quiet_logger(),
        )
        self._do(lambda: self._producer.init_transactions(wait_s))
        ident, ends = end_offsets(Admin(settings), self._topic, timeout_s=min(wait_s, 15.0))
        self._topic_id, self._partitions = ident, len(ends)
        # Only now: no older producer adds to it any more.
        self._ledger = Ledger(settings, spec, min(wait_s, 15.0))
        self._ledger.refresh()
        self._forget()

    @property
    def entries(self) -> dict[str, FileEntry]:
        """What is committed of each file."""
        return self._ledger.entries

    @property
    def asked(self) -> dict[str, datetime]:
        """The files that a person asks to read again."""
        return self._ledger.asked

    def refresh(self) -> None:
        """Read on in the ledger: what people ask for; raises KafkaUnavailable."""
        self._ledger.refresh()

    def begin(self) -> None:
        """Begin a transaction."""
        self._do(self._producer.begin_transaction)
        self._forget()
        self._began = time.monotonic()

    def send(self, path: str, sha256: str, number: int, record: bytes) -> None:
        """Send a record; all of a file go into one partition, so that they keep their order."""
        headers: list[tuple[str, str | bytes | None]] = [
            (SENT_AT, str(time.time_ns() // 1_000_000)),
            (FILE, path),
            (SHA256, sha256),
            (RECORD, str(number)),
        ]
        if self._epoch is not None:
            headers.append((EPOCH, str(self._epoch)))
        place = self._topic, self._partition(path)
        self._produce(place, None, record, partial(self._delivered, path), headers)
        self._records += 1
        self._bytes += len(record)

    def full(self) -> bool:
        """Tell whether the transaction is large or old enough to be committed."""
        old = time.monotonic() - self._began >= _OLDEST_S
        return self._records >= _MOST_RECORDS or self._bytes >= _MOST_BYTES or old

    def commit(self, entries: Sequence[FileEntry], served: Sequence[str]) -> None:
        """Commit what was sent with the states of its files and the requests that were served.

        Raises KafkaUnavailable, Fenced; StreamkeeperError when Kafka refuses a record. What became
        of the transaction tells the ledger, to whoever makes a log next.
        """
        # The offsets, which the ledger tells too, are known once the records have arrived.
        if self._serve(lambda: self._producer.flush(self._wait_s)):
            raise unavailable(self._where, self._wait_s, self._last_error or "no answer")
        self._raise_refusal()
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
        """Take back what was sent since `begin`; where Kafka is away its time does so."""
        try:
            self._serve(lambda: self._producer.abort_transaction(min(self._wait_s, 10.0)))
        except (KafkaException, StreamkeeperError) as error:
            # The next log, or Kafka itself after a minute, ends the transaction.
            self._last_error = str(error)

    def _forget(self) -> None:
        self._began = time.monotonic()
        self._records = self._bytes = 0
        self._spans: dict[str, tuple[int, int]] = {}
        self._refusal: KafkaError | None = None

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

    def _delivered(self, path: str, error: KafkaError | None, message: Delivered) -> None:
        if error is not None:
            self._refusal = self._refusal or error
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
        if self._refusal is not None:
            raise self._told(self._refusal)

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


def ask_again(settings: Settings, spec: Spec, path: str, wait_s: float) -> None:
    """Write the request to read a file again; whichever producer looks next serves it.

    Raises KafkaUnavailable; StreamkeeperError for a file that the ledger does not know.
    """
    ensure_topic(Admin(settings), ledger_source(spec), timeout_s=wait_s)
    ledger = Ledger(settings, spec, wait_s)
    ledger.refresh()
    if path not in ledger.entries:
        raise no_such_file(spec, path, list(ledger.entries))
    config = client_config(settings) | {"enable.idempotence": True}
    producer = Producer(config, logger=quiet_logger())
    answers: list[KafkaError | None] = []
    value = json.dumps({"at": datetime.now(UTC).isoformat(), "by": getpass.getuser()})
    producer.produce(
        ledger.topic,
        value,
        AGAIN + path,
        on_delivery=lambda error, message: answers.append(error),
    )
    producer.flush(wait_s)
    if answers != [None]:
        told = answers[0].str() if answers and answers[0] else "no answer"
        raise unavailable(str(config["bootstrap.servers"]), wait_s, told)


def no_such_file(spec: Spec, path: str, known: Sequence[str]) -> StreamkeeperError:
    """Return the error for a file that the ledger does not know."""
    text = f"the ledger of {spec.name} knows no file {path!r}; paths are told below the folder"
    nearest = difflib.get_close_matches(path, known, n=1)
    return StreamkeeperError(text + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
