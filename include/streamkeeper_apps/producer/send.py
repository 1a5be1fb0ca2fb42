"""Sends one message by hand."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from streamkeeper.errors import StreamkeeperError
from streamkeeper.settings import Settings
from streamkeeper_apps.producer.judge import findings
from streamkeeper_apps.producer.sender import SENT_AT
from streamkeeper_apps.streams import declared
from streamkeeper_io.kafka import (
    Admin,
    client_config,
    ensure_topic,
    is_away,
    quiet_logger,
    unavailable,
)

_LARGEST = 100 * 1024 * 1024


def run_send(settings: Settings, options: argparse.Namespace) -> int:
    """Send a message, tell where it stands; return the exit code, 1 when `--check` refuses it.

    Raises KafkaUnavailable; StreamkeeperError when Kafka refuses the message.
    """
    spec = declared(settings, options.stream)
    value = _value(options.value)
    if options.check:
        wrong = findings(spec, value, datetime.now(UTC))
        for finding in wrong:
            print(finding)
        if wrong:
            print("not sent: the stream would quarantine it; without --check it is sent")
            return 1
    ensure_topic(Admin(settings), spec.source.kafka, timeout_s=options.wait)
    key = None if options.key is None else options.key.encode("utf-8", "surrogateescape")
    sent = _deliver(client_config(settings), spec.source.kafka.topic, key, value, options.wait)
    print(
        f"{spec.source.kafka.topic} partition {sent.partition()} offset {sent.offset()}: "
        f"{len(value):,} bytes, acknowledged"
    )
    return 0


def _value(given: str) -> bytes:
    if given != "-":
        return given.encode("utf-8", "surrogateescape")
    value = sys.stdin.buffer.read(_LARGEST)
    # The end of the line belongs to the shell, not to the message.
    return value.removesuffix(b"\n")


def _deliver(
    config: dict[str, Any], topic: str, key: bytes | None, value: bytes, seconds: float
) -> Delivered:
    answers: list[tuple[KafkaError | None, Delivered]] = []
    own = {
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "delivery.timeout.ms": int(seconds * 1000),
    }
    producer = Producer(own | config, logger=quiet_logger())
    stamp = str(time.time_ns() // 1_000_000).encode()
    try:
        producer.produce(
            topic,
            value,
            key,
            headers=[(SENT_AT, stamp)],
            on_delivery=lambda error, message: answers.append((error, message)),
        )
    except (KafkaException, BufferError) as error:
        raise StreamkeeperError(f"Kafka refuses the message: {error}") from None
    producer.flush(seconds + 1)
    where = str(config["bootstrap.servers"])
    if not answers:
        raise unavailable(where, seconds, "no answer")
    failure, message = answers[0]
    if failure is not None and is_away(failure):
        raise unavailable(where, seconds, failure.str())
    if failure is not None:
        raise StreamkeeperError(f"Kafka at {where} refuses the message: {failure.str()}")
    return message
