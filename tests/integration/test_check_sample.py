"""`streamkeeper check --sample` on a real topic: a verdict, and nothing else is changed."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer

from streamkeeper.settings import Settings
from streamkeeper.spec.models import KafkaSource
from streamkeeper_apps.cli import main
from streamkeeper_io import kafka

TIME = "2026-11-24T11:59:00Z"


def test_a_declaration_is_tried_on_live_messages(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = f"sampled-{secrets.token_hex(4)}"
    declaration = {
        "description": "Tried before it runs.",
        "source": {"kafka": {"topic": topic, "partitions": 2}},
        "fields": {
            "t": {"type": "double", "sent_unit": "°F", "unit": "°C", "range": [-60, 60]},
            "at": {"type": "timestamp", "required": True},
        },
        "derived": {"hot": "t > 30"},
        "checks": [{"name": "not_hot", "expect": "not hot", "on_fail": "warn"}],
        "event_time": {"field": "at"},
        "lake": {"path": f"/{topic}"},
    }
    path = tmp_path / "tried.yaml"
    path.write_text(yaml.safe_dump(declaration, allow_unicode=True, sort_keys=False))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--sample", "5", str(path)]) == 1
    assert f"has no topic {topic!r}" in capsys.readouterr().err
    admin = kafka.Admin(settings)
    kafka.ensure_topic(admin, KafkaSource(topic=topic, partitions=2))
    producer = Producer({"bootstrap.servers": settings.kafka})
    for n, value in enumerate([f'{{"t": 50, "at": "{TIME}"}}'] * 20 + ["junk"] * 3):
        producer.produce(topic, value.encode(), partition=n % 2)
    producer.produce(topic, f'{{"t": 104, "at": "{TIME}"}}'.encode(), partition=0)
    assert producer.flush(30) == 0
    groups = {g.group_id for g in admin.list_consumer_groups().result().valid}
    assert main(["check", "--sample", "10", str(path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert f"  the newest 10 messages of {topic} (partition 0: 8..12, partition 1: 6..10)" in out
    assert "  7 valid, 3 quarantined; nothing has landed" in out
    assert "  parse:json: 3" in out
    assert "    partition 0 offset 10: parse:json: not one JSON object" in out
    assert "  warning not_hot: 1" in out
    assert "  lands as: t=10.0, at=2026-11-24 11:59:00+00:00, hot=False" in out
    # No consumer group has come to be, and the lake has no folder of it.
    assert {g.group_id for g in admin.list_consumer_groups().result().valid} == groups
    assert main(["check", "--sample", "0", str(path)]) == 1
    assert "between 1 and 100,000 messages are tried" in capsys.readouterr().err
