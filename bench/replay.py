"""`replay`: messages a second of `produce replay`, beside a bare loop that sends the same bytes."""

from __future__ import annotations

import argparse
import io
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from confluent_kafka import KafkaError, Producer
from rich.console import Console

from bench.rows import Row
from bench.servers import CITIES, servers
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.messages import Message
from streamkeeper_apps.producer.replay import open_source, run_replay
from streamkeeper_apps.producer.sender import SENT_AT
from streamkeeper_apps.producer.session import Stop
from streamkeeper_io import kafka

GOAL = 0.5
ROUNDS = 3
_TIME = {"column": "timestamp", "format": "%Y-%m-%d %H:%M:%S", "zone": "UTC"}
_READING = {
    "sensor_id": ("string", "sensor_id"),
    "city": ("string", "city"),
    "temperature": ("double", "temperature"),
    "humidity": ("double", "humidity"),
    "timestamp": ("timestamp", _TIME),
}
_REQUEST = {
    "host": ("string", "host"),
    "timestamp": ("timestamp", "time"),
    "method": ("string", "method"),
    "path": ("string", "path"),
    "status": ("integer", "status"),
    "bytes": ("integer", "bytes"),
    "agent": ("string", "agent"),
}


def _csv(number: int, at: str, log_at: str) -> str:
    values = f"{15 + number % 3000 / 100},{20 + number % 7000 / 100}"
    return f"sensor_{number % 20:02d},{CITIES[number % 6]},{values},{at}"


def _json(number: int, at: str, log_at: str) -> str:
    cells = _csv(number, at, log_at).split(",")
    names = ("sensor_id", "city", "temperature", "humidity", "timestamp")
    values = [*cells[:2], *map(float, cells[2:4]), at.replace(" ", "T") + "Z"]
    return json.dumps(dict(zip(names, values, strict=True)))


def _log(number: int, at: str, log_at: str) -> str:
    return (
        f'10.0.{number % 250}.7 - - [{log_at} +0000] "GET /pages/{number % 997} HTTP/1.1" 200 '
        f'{number % 50_000} "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"'
    )


Line = Callable[[int, str, str], str]
FORMATS: dict[str, tuple[Line, dict[str, Any], str, str, bool]] = {
    "csv": (_csv, _READING, "sensor_id", "sensor_id,city,temperature,humidity,timestamp", True),
    "json_lines": (_json, _READING, "sensor_id", "", False),
    "apache_combined": (_log, _REQUEST, "host", "", True),
}


def _declared(form: str, topic: str) -> Spec:
    _, fields, key, _, mapped = FORMATS[form]
    columns = {name: column for name, (_, column) in fields.items()} if mapped else {}
    return Spec.model_validate(
        {
            "name": topic,
            "description": "replay",
            "app": topic,
            "source": {"kafka": {"topic": topic}},
            "fields": {name: {"type": kind} for name, (kind, _) in fields.items()},
            "event_time": {"field": "timestamp"},
            "lake": {"path": "/bench"},
            "producer": {"replay": {"format": form, "columns": columns, "key": key}},
        }
    )


def _write(form: str, path: Path, count: int) -> None:
    line, _, _, header, _ = FORMATS[form]
    began = 1_795_000_000
    with path.open("w", encoding="utf-8") as file:
        if header:
            file.write(header + "\n")
        for number in range(count):
            at = time.gmtime(began + number)
            times = time.strftime("%Y-%m-%d %H:%M:%S", at), time.strftime("%d/%b/%Y:%H:%M:%S", at)
            file.write(line(number, *times) + "\n")


def _ours(settings: Settings, spec: Spec, path: Path, count: int) -> float:
    (settings.streams / f"{spec.name}.yaml").write_text(
        json.dumps(spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"}))
    )
    options = argparse.Namespace(
        **{
            "stream": spec.name,
            "files": [path],
            "wait": 120,
            "pace": None,
            "limit": None,
            "skip": 0,
        }
    )
    out = io.StringIO()
    display = Display(Console(file=out))
    began = time.perf_counter()
    code = run_replay(settings, options, stop=Stop(), display=display)
    seconds = time.perf_counter() - began
    assert code == 0, out.getvalue()
    _all_there(settings, spec.source.kafka.topic, count)
    return seconds


def _bare(settings: Settings, topic: str, messages: list[Message]) -> float:
    config = kafka.client_config(settings) | {
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 50,
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 200_000,
    }
    failed = 0
    # The same bytes: each message of a replay tells when it was sent.
    headers: Any = [(SENT_AT, str(time.time_ns() // 1_000_000).encode())]

    def answer(error: KafkaError | None, message: Any) -> None:
        # Without it nobody learns of a message that did not arrive: flush counts those as done.
        nonlocal failed
        failed += error is not None

    began = time.perf_counter()
    producer = Producer(config)
    for count, (key, value) in enumerate(messages):
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=answer, headers=headers)
                break
            except BufferError:
                producer.poll(0.05)
        if count % 1000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    assert not failed
    seconds = time.perf_counter() - began
    _all_there(settings, topic, len(messages))
    return seconds


def _all_there(settings: Settings, topic: str, count: int) -> None:
    _, end = kafka.end_offsets(kafka.Admin(settings), topic)
    assert sum(end.values()) == count, (topic, end)


def _topic(settings: Settings, form: str) -> Spec:
    spec = _declared(form, f"{form}_{secrets.token_hex(4)}")
    kafka.ensure_topic(kafka.Admin(settings), spec.source.kafka)
    return spec


def _row(settings: Settings, form: str, folder: Path, count: int) -> Row:
    path = folder / f"{form}.txt"
    _write(form, path, count)
    source = open_source(path, _topic(settings, form))
    messages = [Message(record.key, record.value) for record in source.records()]
    assert len(messages) == count
    source.close()
    times = []
    for _ in range(ROUNDS):
        bare = _bare(settings, _topic(settings, form).source.kafka.topic, messages)
        times.append((bare, _ours(settings, _topic(settings, form), path, count)))
    bare, ours = (count / median(column) for column in zip(*times, strict=True))
    told = ", ".join(f"{count / b / 1000:.0f}:{count / o / 1000:.0f}" for b, o in times)
    size = sum(len(message.value) for message in messages) // count
    return Row(
        "replay" if form == "csv" else f"replay_{form}",
        value=ours,
        unit="messages/s",
        baseline=bare,
        ratio=ours / bare,
        # Reading a log is work that a bare loop does not have; its row is reported only.
        bound=None if form.startswith("apache") else "at least",
        goal=None if form.startswith("apache") else GOAL,
        of="ratio",
        note=f"{count:,} records of {form}, messages of {size} bytes from memory:ours from the "
        f"file in thousands by round: {told}",
    )


def measure(short: bool) -> list[Row]:
    """Replay 500,000 records (20,000 when short) of each format, the bare loop in turn with it."""
    count = 20_000 if short else 500_000
    with servers("kafka") as found, TemporaryDirectory() as folder:
        streams = Path(folder) / "streams"
        streams.mkdir()
        settings = found.model_copy(update={"streams": streams, "store": ""})
        _bare(settings, _topic(settings, "csv").source.kafka.topic, [Message(None, b"{}")] * 10_000)
        return [_row(settings, form, Path(folder), count) for form in FORMATS]
