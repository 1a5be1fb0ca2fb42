"""`send` and `look` on a real topic."""

from __future__ import annotations

import io
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from streamkeeper.settings import Settings
from streamkeeper_apps.cli import main
from streamkeeper_io import kafka

DECLARATION = {
    "description": "Messages by hand",
    "fields": {"id": {"type": "string"}, "at": {"type": "timestamp"}},
    "event_time": {"field": "at"},
    "lake": {"path": "/by_hand"},
}
GOOD = '{"id":"ü","at":"2026-01-01T00:00:00Z"}'


@pytest.fixture
def stream(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A declared stream of one partition; its topic has its name."""
    name = f"by_hand_{secrets.token_hex(4)}"
    source = {"kafka": {"topic": name, "partitions": 1}}
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(DECLARATION | {"source": source}))
    for key, value in settings.model_copy(update={"streams": tmp_path}).environment().items():
        monkeypatch.setenv(key, value)
    return name


class Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_messages_sent_by_hand_are_seen_and_nothing_is_committed(
    settings: Settings,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        told = capfd.readouterr()
        return told.out + told.err

    assert "has no topic" in said("look", stream, code=1)
    assert said("send", stream, GOOD, "--key", "k") == (
        f"{stream} partition 0 offset 0: {len(GOOD) + 1} bytes, acknowledged\n"
    )
    monkeypatch.setattr("sys.stdin", Stdin(b"\xff\x00{\n"))
    assert "offset 1: 3 bytes, acknowledged" in said("send", stream, "-")
    refused = said("send", stream, '{"id":7}', "--check", code=1)
    assert "type:id: 7 is not of the type string" in refused
    assert "required:at" in refused
    assert "not sent" in refused
    assert "offset 2" in said("send", stream, GOOD, "--check")
    assert "Kafka refuses the message" in said("send", stream, "x" * 2_000_000, code=1)
    _in_transactions(settings, stream)

    seen = said("look", stream)
    assert re.findall(r"^partition 0 offset (\d+)", seen, re.MULTILINE) == ["0", "1", "2", "3", "5"]
    first, second = seen.split("\npartition")[:2]
    assert re.match(
        r"partition 0 offset 0  20\S+Z \(broker\)  key k  headers sent_at=\d{13}", first
    )
    assert '\n  {\n    "id": "ü",\n    "at": "2026-01-01T00:00:00Z"\n  }' in first
    assert second.endswith("\n  b'\\xff\\x00{'")
    last = said("look", "--topic", stream, "--last", "1")
    assert last.startswith("partition 0 offset 5")
    assert last.count("partition") == 1
    one = said("look", stream, "--partition", "0", "--offset", "1", "--last", "1")
    assert one.startswith("partition 0 offset 1")
    assert one.count("partition") == 1
    wrong = said("look", stream, "--partition", "0", "--offset", "99", code=1)
    assert "partition 0 has no offset 99; its kept offsets: 0 to 6" in wrong
    assert "has no partition 5; there are 0" in said("look", stream, "--partition", "5", code=1)
    assert "name either a stream or a --topic" in said("look", code=1)
    groups = kafka.Admin(settings).list_consumer_groups().result(10).valid
    assert not [group.group_id for group in groups if group.group_id.startswith("look-")]


def _in_transactions(settings: Settings, topic: str) -> None:
    """Send two messages in transactions: behind each stands a marker that is no message."""
    config: dict[str, Any] = {"transactional.id": topic}
    producer = Producer(kafka.client_config(settings) | config)
    producer.init_transactions(30)
    for value in (b"{}", b'{"last":1.50}'):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.commit_transaction(30)
