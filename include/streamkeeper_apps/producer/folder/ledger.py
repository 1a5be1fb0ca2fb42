"""The ledger of a watched folder's files: a compacted topic beside the stream's."""

from __future__ import annotations

import difflib
import getpass
import json
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, Producer

from streamkeeper import names
from streamkeeper.errors import StreamkeeperError
from streamkeeper.files import AGAIN, FileEntry
from streamkeeper.settings import Settings
from streamkeeper.spec.models import KafkaSource, Spec
from streamkeeper_apps.look import Reading
from streamkeeper_io.kafka import (
    Admin,
    begin_offsets,
    client_config,
    end_offsets,
    ensure_topic,
    quiet_logger,
    unavailable,
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
