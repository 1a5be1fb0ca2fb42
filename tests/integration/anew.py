"""What tests of rewinds and of topics that change ask of a stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from closes import Reading, Stream
from confluent_kafka import Consumer, Producer, TopicPartition
from drivers import manifests
from topics import read_topic

from streamkeeper.generations import Counted
from streamkeeper.launches import EXIT_DISAGREEMENT
from streamkeeper.names import CURATED, LAND, closed_file
from streamkeeper.spans import union
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_io.closed import read_closed


def counted(stream: Stream) -> Counted:
    """What counts, as the store knows it now."""
    found = manifests(stream.settings, stream.spec)
    return Counted(stream.store.generations(stream.spec.name, LAND), found)


def rows(stream: Stream, *hours: datetime) -> list[dict[str, Any]]:
    """Return the visible curated rows of hours."""
    found = []
    for hour in hours:
        read = read_closed(stream.settings.lake, closed_file(stream.spec, CURATED, hour))
        found += read[1].to_pylist() if read else []
    return found


def sent(stream: Stream) -> dict[tuple[int, int], tuple[str, float]]:
    """Return what the topic holds, by coordinates, independently of Spark."""
    found = {}
    for message in read_topic(stream.settings, stream.spec.source.kafka.topic):
        value = json.loads(message.value)
        found[message.partition, message.offset] = (value["sensor_id"], value["temperature"])
    return found


@contextmanager
def load(stream: Stream, readings: list[Reading]) -> Iterator[threading.Event]:
    """Send readings meanwhile, forty at a time; gives the event that all are sent."""
    done = threading.Event()

    def produce() -> None:
        for first in range(0, len(readings), 40):
            stream.send(readings[first : first + 40])
            threading.Event().wait(0.1)
        done.set()

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield done
    finally:
        thread.join()


def topic_id(stream: Stream) -> str:
    """The id of the stream's topic."""
    return kafka.topic_id(kafka.Admin(stream.settings), stream.spec.source.kafka.topic)


def has_landed_all(stream: Stream) -> bool:
    """Tell whether every query has published all that the topic holds."""
    _, end = kafka.end_offsets(kafka.Admin(stream.settings), stream.spec.source.kafka.topic)
    newest = {}
    for window in ("", *(w.name for w in stream.spec.windows)):
        found = manifests(stream.settings, stream.spec, window)
        last = max(found, key=lambda m: (m.epoch, m.batch)).generation
        mine = union(m.span for m in found if m.generation == last)
        newest[window] = {p: pieces[-1][1] for p, pieces in mine.items()}
    return all(found.get(p, 0) >= n for found in newest.values() for p, n in end.items() if n)


def left_in(stream: Stream, topic: str) -> int:
    """Return how many of a partition's messages are left."""
    consumer = Consumer({"bootstrap.servers": stream.settings.kafka, "group.id": "tests"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found, position = 0, 0
    try:
        while position < 40:
            message = consumer.poll(10)
            assert message is not None
            found, position = found + 1, (message.offset() or 0) + 1
    finally:
        consumer.close()
    return found


def of_kind(stream: Stream, kind: str, topic: str | None = None) -> Stream:
    """Return the stream with its topic, or another one, declared to be of a kind."""
    values = stream.spec.dump()
    values["source"]["kafka"]["kind"] = kind
    values["source"]["kafka"]["topic"] = topic or stream.spec.source.kafka.topic
    return Stream(
        stream.spark, stream.settings, stream.store, Spec.model_validate(values), stream.folder
    )


def transaction(
    producer: Producer, topic: str, readings: list[Reading], *, commit: bool = True
) -> None:
    """Send readings in one transaction."""
    producer.begin_transaction()
    for number, reading in enumerate(readings):
        producer.produce(topic, value=reading.message(), partition=number % 3)
    producer.flush(15)
    producer.commit_transaction(15) if commit else producer.abort_transaction(15)


def refused(stream: Stream) -> str:
    """Launch a driver that a person must look after; return what it says."""
    outcome = stream.launch(trigger="availableNow")
    assert outcome.code == EXIT_DISAGREEMENT, outcome
    return outcome.reason


def made_again(admin: kafka.Admin, spec: Spec, old: str) -> bool:
    """Make a stream's topic again; tell whether it is there under another id than `old`."""
    try:
        return kafka.ensure_topic(admin, spec.source.kafka) != old
    except Exception:
        return False
