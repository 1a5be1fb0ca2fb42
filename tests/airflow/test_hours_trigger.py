"""The trigger that waits for hours: what it asks for and when it is done. No servers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamkeeper.errors import LakeUnavailable
from streamkeeper.generations import Generation, Lost
from streamkeeper.hours import HOUR, Look
from streamkeeper.launches import Launch
from streamkeeper.manifest import Manifest
from streamkeeper.names import format_hour, hour_of
from streamkeeper.spec.loader import load_spec
from streamkeeper_airflow.hooks import kafka
from streamkeeper_airflow.triggers import hours
from streamkeeper_airflow.triggers.hours import HoursTrigger

SPEC = load_spec(Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml")
NOW = datetime.now(UTC)
LONG_AGO = hour_of(NOW) - 48 * HOUR
TOPIC_ID = "topic-id"


class MemoryStore:
    """The store's part that the trigger reads, in memory."""

    def __init__(self) -> None:
        self.looks: dict[datetime, Look] = {}
        self.landed_to = 0
        self.producer: Launch | None = None
        self.sync_error: Exception | None = None

    def look(self, stream: str, hour: datetime) -> Look | None:
        return self.looks.get(hour)

    def add_look(self, look: Look) -> Look:
        return self.looks.setdefault(look.hour, look)

    def holder(self, kind: str, name: str) -> Launch | None:
        return self.producer

    def generations(self, stream: str, query: str) -> list[Generation]:
        names = {"stream": stream, "query": query, "generation": "g", "topic": "t"}
        return [Generation(topic_id=TOPIC_ID, start={0: 0}, epoch=1, **names)]

    def manifests(self, stream: str, zone: str) -> list[Manifest]:
        return [_manifest(self.landed_to)] if self.landed_to else []

    def lost(self, stream: str) -> list[Lost]:
        return []


def _manifest(end: int) -> Manifest:
    return Manifest(
        stream="temperature",
        zone="raw",
        generation="g",
        batch=0,
        epoch=1,
        write_number=10**9,
        topic="t",
        topic_id=TOPIC_ID,
        span={0: (0, end)},
        read=end,
        valid=end,
        quarantined=0,
        quarantined_by_rule={},
        hours={},
        first_event=None,
        last_event=None,
        files=(),
        spec_sha256="",
        written_at=NOW,
    )


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A store, and a topic whose end is offset 10."""
    found = MemoryStore()

    def sync(self: HoursTrigger, store: MemoryStore) -> None:
        if store.sync_error:
            raise store.sync_error

    monkeypatch.setattr(hours, "store_from_connection", lambda: found)
    monkeypatch.setattr(HoursTrigger, "_sync", sync)
    ends = (TOPIC_ID, {0: 10})
    monkeypatch.setattr(kafka.TopicHook, "end_offsets", lambda self, topic: ends)
    return found


def trigger(*asked: datetime, **given: Any) -> HoursTrigger:
    texts = [format_hour(hour) for hour in asked]
    return HoursTrigger(spec=SPEC.dump(), hours=texts, poll_s=0.01, **given)


def polls(of: HoursTrigger, count: int) -> list[Any]:
    return [of._poll() for _ in range(count)]


def test_a_past_hour_is_looked_at_once_and_waited_for(store: MemoryStore) -> None:
    waiting = trigger(LONG_AGO)
    assert polls(waiting, 3) == [None, None, None]
    [look] = store.looks.values()
    assert (look.topic_id, look.end_offsets) == (TOPIC_ID, {0: 10})
    store.landed_to = 9
    assert waiting._poll() is None
    store.landed_to = 10
    assert waiting._poll() == {
        format_hour(LONG_AGO): {"state": "complete", "reason": "", "missing": {}}
    }


def test_the_event_tells_of_all_hours(store: MemoryStore) -> None:
    store.landed_to = 10

    async def first() -> dict[str, Any]:
        async for event in trigger(LONG_AGO, LONG_AGO + HOUR).run():
            return dict(event.payload)
        raise AssertionError("no event")

    event = asyncio.run(asyncio.wait_for(first(), timeout=10))
    assert event["hours"] == [format_hour(LONG_AGO), format_hour(LONG_AGO + HOUR)]
    assert {seen["state"] for seen in event["states"].values()} == {"complete"}


def test_past_the_limit_it_tells_what_is_missing(store: MemoryStore) -> None:
    store.landed_to = 4
    since = NOW - SPEC.hours.wait_limit - timedelta(seconds=1)
    waiting = trigger(LONG_AGO, since=since.isoformat())
    assert waiting._poll() is None  # the look
    states = waiting._poll()
    assert states is not None
    seen = states[format_hour(LONG_AGO)]
    assert (seen["state"], seen["missing"]) == ("partial", {"0": [[4, 10]]})


def test_an_hour_that_has_just_ended_is_too_early(store: MemoryStore) -> None:
    assert trigger(hour_of(datetime.now(UTC)))._poll() is None
    assert store.looks == {}


@pytest.mark.parametrize(
    ("event_time", "silent", "fills"),
    [
        (LONG_AGO + HOUR - timedelta(seconds=1), timedelta(0), True),
        (None, timedelta(0), True),
        (LONG_AGO + HOUR, timedelta(0), False),
        (LONG_AGO, timedelta(minutes=5), False),
    ],
)
def test_a_live_producer_that_fills_the_hour_is_waited_for(
    store: MemoryStore, event_time: datetime | None, silent: timedelta, fills: bool
) -> None:
    beat = datetime.now(UTC) - silent
    store.landed_to = 10
    store.producer = Launch(
        epoch=3,
        kind="producer",
        name="temperature",
        began_at=beat,
        heartbeat_at=beat,
        progress={"event_time": event_time.isoformat() if event_time else None},
    )
    states = polls(trigger(LONG_AGO), 2)[-1]
    assert (states is None) == fills
    assert (store.looks == {}) == fills


def test_a_lake_that_is_away_ends_nothing(store: MemoryStore) -> None:
    store.landed_to = 10
    waiting = trigger(LONG_AGO)
    store.sync_error = LakeUnavailable("the lake is away")
    assert polls(waiting, 3) == [None, None, None]
    store.sync_error = None
    assert polls(waiting, 2)[-1] is not None
