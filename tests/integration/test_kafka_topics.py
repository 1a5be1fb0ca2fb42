"""Topics on a real broker."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from topics import read_topic

from streamkeeper.errors import KafkaUnavailable, TopicDiffers, TopicMissing
from streamkeeper.settings import Settings
from streamkeeper.spec.models import KafkaSource
from streamkeeper_io import kafka


@pytest.fixture
def admin(settings: Settings) -> kafka.Admin:
    return kafka.Admin(settings)


@pytest.fixture
def topic() -> str:
    return f"topic-{secrets.token_hex(4)}"


def test_a_topic_is_made_once(admin: kafka.Admin, topic: str) -> None:
    source = KafkaSource(topic=topic, partitions=4)
    made = kafka.ensure_topic(admin, source)
    assert kafka.ensure_topic(admin, source) == made == kafka.topic_id(admin, topic)
    nothing = (made, {0: 0, 1: 0, 2: 0, 3: 0})
    assert kafka.end_offsets(admin, topic) == kafka.begin_offsets(admin, topic) == nothing
    assert kafka.end_offsets_of(admin, [topic, f"{topic}-away"]) == {topic: nothing}


def test_a_topic_made_again_has_another_id(admin: kafka.Admin, topic: str) -> None:
    first = kafka.ensure_topic(admin, KafkaSource(topic=topic))
    admin.delete_topics([topic])[topic].result(10)
    assert kafka.ensure_topic(admin, KafkaSource(topic=topic)) != first


def test_the_first_offset_of_an_instant(admin: kafka.Admin, topic: str, settings: Settings) -> None:
    made = kafka.ensure_topic(admin, KafkaSource(topic=topic, partitions=2))
    producer = Producer({"bootstrap.servers": settings.kafka})
    times: list[int] = []
    while len(set(times)) < 3:
        producer.produce(topic, value=b"x", partition=1)
        assert producer.flush(15) == 0
        times = [message.time[1] for message in read_topic(settings, topic)]
    for time in times:
        instant = datetime.fromtimestamp(time / 1000, UTC)
        assert kafka.offsets_at(admin, topic, instant) == (made, {1: times.index(time)})
    later = datetime.fromtimestamp(times[-1] / 1000 + 3600, UTC)
    assert kafka.offsets_at(admin, topic, later) == (made, {})


def test_another_number_of_partitions_is_told(
    admin: kafka.Admin, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.ensure_topic(admin, KafkaSource(topic=topic, partitions=1))
    with caplog.at_level(logging.WARNING, "streamkeeper_io.kafka"):
        kafka.ensure_topic(admin, KafkaSource(topic=topic, partitions=3))
    assert f"the topic {topic} has partitions 1, declared is 3; it is used as it is" in caplog.text


def test_a_topic_that_would_break_the_ledger_is_refused(admin: kafka.Admin, topic: str) -> None:
    config = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
    new = NewTopic(topic, num_partitions=1, replication_factor=1, config=config)
    admin.create_topics([new])[topic].result(10)
    with pytest.raises(TopicDiffers) as caught:
        kafka.ensure_topic(admin, KafkaSource(topic=topic, partitions=1))
    assert "message.timestamp.type is CreateTime, needed is LogAppendTime" in str(caught.value)
    assert "cleanup.policy is compact, needed is delete" in str(caught.value)
    assert "source.kafka.kind: compacted" in str(caught.value)
    assert "kafka-configs --alter" in str(caught.value)


def test_a_compacted_topic_is_used_when_it_is_declared(
    admin: kafka.Admin, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    compacted = KafkaSource(topic=topic, partitions=1, kind="compacted")
    made = kafka.ensure_topic(admin, compacted)
    with pytest.raises(TopicDiffers, match=r"cleanup\.policy is compact, needed is delete"):
        kafka.ensure_topic(admin, KafkaSource(topic=topic, partitions=1))
    assert kafka.ensure_topic(admin, compacted) == made
    with caplog.at_level(logging.WARNING, "streamkeeper_io.kafka"):
        plain = KafkaSource(topic=f"{topic}-plain", partitions=1)
        kafka.ensure_topic(admin, plain)
        kafka.ensure_topic(admin, plain.model_copy(update={"kind": "compacted"}))
    assert f"the topic {topic}-plain is declared compacted, but keeps all" in caplog.text


def test_a_missing_topic_and_missing_brokers_are_told_apart(
    admin: kafka.Admin, topic: str, unused_address: str
) -> None:
    with pytest.raises(TopicMissing, match=f"has no topic '{topic}'"):
        kafka.end_offsets(admin, topic)
    with pytest.raises(KafkaUnavailable, match=f"Kafka at {unused_address} does not answer"):
        kafka.end_offsets(kafka.Admin(unused_address), topic, timeout_s=2)
