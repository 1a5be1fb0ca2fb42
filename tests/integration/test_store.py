"""The store on a real PostgreSQL: locks, revisions and marks under contention."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streamkeeper.errors import (
    LaunchConflict,
    RequestConflict,
    RevisionConflict,
    StoreUnavailable,
)
from streamkeeper.generations import Generation, Lost, Request
from streamkeeper.hours import Look, Revision
from streamkeeper.launches import ProducedHour
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName
from streamkeeper_io.store import Store
from streamkeeper_io.store.tables import SCHEMA, metadata

HOUR = datetime(2026, 11, 24, 14, tzinfo=UTC)


def revision(stream: str, number: int, epoch: int = 1) -> Revision:
    return Revision(
        stream=stream,
        hour=HOUR,
        revision=number,
        epoch=epoch,
        write_number=epoch * 10**9,
        state="complete",
        merged={"g": number},
        files={"curated": ["part-0.parquet"]},
        missing={0: [(1, 2)]},
        committed_at=HOUR,
    )


def manifest(stream: str, batch: int, generation: str, epoch: int = 1) -> Manifest:
    return Manifest(
        stream=stream,
        zone="raw",
        generation=generation,
        batch=batch,
        epoch=epoch,
        write_number=batch,
        topic="t",
        topic_id="id",
        span={0: (batch, batch + 1)},
        read=1,
        valid=1,
        quarantined=0,
        quarantined_by_rule={},
        hours={HOUR + timedelta(hours=batch): 1},
        first_event=HOUR,
        last_event=HOUR,
        files=(),
        spec_sha256="",
        written_at=HOUR,
    )


@pytest.fixture
def stream() -> str:
    return f"s{uuid4().hex[:8]}"


def test_the_migrations_make_what_the_tables_say(store: Store) -> None:
    store.migrate()
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "version_table_schema": SCHEMA,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_one_launch_holds_a_name(store: Store, stream: str) -> None:
    assert store.holder("driver", stream) is None
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(store.begin_launch, "driver", stream, expected=None) for _ in range(8)]
    errors = [t.exception() for t in tries]
    assert sum(e is None for e in errors) == 1
    assert all(isinstance(e, LaunchConflict) for e in errors if e)
    first = store.holder("driver", stream)
    assert first is not None
    second = store.begin_launch("driver", stream, expected=first.epoch)
    assert second.epoch > first.epoch
    with pytest.raises(LaunchConflict, match=f"held by launch {second.epoch}, not by launch"):
        store.begin_launch("driver", stream, expected=first.epoch)


def test_a_launch_from_its_begin_to_its_end(store: Store, stream: str) -> None:
    launch = store.begin_launch("producer", stream, owner="a", expected=None)
    store.adopt(launch.epoch, "b")
    assert store.heartbeat(launch.epoch, {"sent": 3}).stop_requested_at is None
    store.request_stop(launch.epoch, "a person")
    store.request_stop(launch.epoch, "another")
    seen = store.heartbeat(launch.epoch, {"sent": 4})
    assert (seen.owner, seen.progress, seen.stop_requested_by) == ("b", {"sent": 4}, "a person")
    store.end_launch(launch.epoch, 0, "drained")
    store.end_launch(launch.epoch, 1, "again")
    ended = store.launch(launch.epoch)
    assert (ended.exit_code, ended.reason) == (0, "drained")
    with pytest.raises(KeyError, match="no launch has the epoch 0"):
        store.launch(0)


def test_a_stream_is_wanted_until_somebody_stops_it(store: Store, stream: str) -> None:
    assert store.desired(stream) == "running"
    store.set_desired(stream, "stopped", "a person")
    assert store.desired(stream) == "stopped"
    store.set_desired(stream, "running", "a person")
    assert store.desired(stream) == "running"


def test_revisions_go_up_by_one(store: Store, stream: str) -> None:
    with pytest.raises(RevisionConflict):
        store.commit_revision(revision(stream, 2))
    store.commit_revision(revision(stream, 1))
    with pytest.raises(RevisionConflict, match=f"{stream} 2026-11-24T14: revision 1 was committed"):
        store.commit_revision(revision(stream, 1, epoch=2))
    store.commit_revision(revision(stream, 2))
    assert store.revision(stream, HOUR) == revision(stream, 2)
    assert store.revisions(stream) == [revision(stream, 2)]
    store.stores_done(stream, HOUR, 2)
    assert store.revisions(stream)[0].stores_pending is False


def test_of_many_closes_at_once_one_commits(store: Store, stream: str) -> None:
    closes = [revision(stream, 1, epoch=n) for n in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        committed = list(pool.map(lambda r: store.commit_revisions([r]), closes))
    winners = [r for taken in committed for r in taken]
    assert len(winners) == 1
    assert store.revision(stream, HOUR) == winners[0]


def test_the_first_look_of_an_hour_stays(store: Store, stream: str) -> None:
    first = Look(stream=stream, hour=HOUR, topic_id="a", taken_at=HOUR, end_offsets={0: 5})
    later = first.model_copy(update={"end_offsets": {0: 9}})
    assert store.look(stream, HOUR) is None
    assert store.add_look(first) == first
    assert store.add_look(later) == first


def test_the_index_gives_back_manifests_in_order(store: Store, stream: str) -> None:
    old, new = "0" * 36, "f" * 36
    indexed = [manifest(stream, 0, new, 7), *(manifest(stream, n, old) for n in (10, 2, 1))]
    store.index_batches(indexed)
    store.index_batches(indexed)
    found = store.manifests(stream, "raw")
    assert [(m.generation, m.batch) for m in found] == [(old, 1), (old, 2), (old, 10), (new, 0)]
    assert store.indexed_batches(stream, "raw") == {BatchName(m.generation, m.batch) for m in found}
    assert store.manifests(stream, "raw", HOUR + timedelta(hours=2)) == [manifest(stream, 2, old)]
    assert store.landed_hours(stream) == dict.fromkeys(sorted(h for i in found for h in i.hours), 1)


def generation(stream: str, name: str, number: int) -> Generation:
    return Generation(
        stream=stream, query="land", generation=f"{stream}-{name}", topic="t", topic_id="id",
        start={0: number}, target={0: 9, 12: 4}, request=number, epoch=7,
    )  # fmt: skip


def test_generations_come_in_the_order_of_their_requests(store: Store, stream: str) -> None:
    first, second = generation(stream, "b", 0), generation(stream, "a", 2)
    for one in (second, first, first.model_copy(update={"epoch": 99})):
        store.add_generation(one)
    assert store.generations(stream, "land") == [first, second]
    assert store.generations(stream, "window_w") == []
    assert store.last_number(stream) == 2


def test_the_last_request_counts_and_takes_what_it_accepts_with_it(
    store: Store, stream: str
) -> None:
    values = {"stream": stream, "topic_id": "id", "by": "me"}
    lost = Lost(span={0: (3, 9)}, reason="gone", accepted_at=HOUR, **values)
    first = Request(number=1, kind="accept-lost", asked_at=HOUR, **values)
    later = Request(number=2, kind="rewind", start={12: 5}, asked_at=HOUR, **values)
    assert (store.last_request(stream), store.last_number(stream)) == (None, 0)
    store.add_request(first, [lost])
    store.add_request(later, [])
    assert store.last_request(stream) == later
    assert store.lost(stream) == [lost]
    with pytest.raises(RequestConflict, match="request 2 was made by someone else"):
        store.add_request(later.model_copy(update={"kind": "reset"}), [lost])
    assert store.last_request(stream) == later
    assert store.lost(stream) == [lost]
    assert store.last_number(stream) == 2


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_a_mark_never_moves_back(store: Store, batches: list[int]) -> None:
    stream = f"s{uuid4().hex}"
    for batch in batches:
        store.set_mark(stream, "sink", "g", batch)
    assert store.mark(stream, "sink") == {"g": max(batches)}


def test_an_hour_is_mailed_until_its_latest_revision_was(store: Store, stream: str) -> None:
    store.commit_revision(revision(stream, 1))
    assert [r.revision for r in store.unmailed(stream)] == [1]
    store.record_mail(stream, HOUR, 1, "<a@b>")
    assert store.unmailed(stream) == []
    store.commit_revision(revision(stream, 2))
    assert [r.revision for r in store.unmailed(stream)] == [2]


def test_what_a_producer_sent_is_told_again_without_a_change(store: Store, stream: str) -> None:
    epochs = [store.begin_by_hand(stream, "me@here").epoch for _ in range(3)]
    assert store.holder("producer", stream) is None, "by hand nobody holds a lock"

    def told(epoch: int, hour: datetime | None, sent: int) -> ProducedHour:
        counts = {"sent": sent, "acked": sent - 1, "failed": 1, "faults": {"late": sent}}
        return ProducedHour.model_validate(
            {"epoch": epoch, "stream": stream, "hour": hour} | counts
        )

    first, last = told(epochs[0], HOUR, 5), told(epochs[2], HOUR, 9)
    store.record_produced([first, told(epochs[0], None, 2), told(epochs[2], HOUR, 8)])
    store.record_produced([last, told(epochs[0], None, 3)])
    store.record_produced([last])
    store.record_produced([])
    assert store.produced(stream) == [first, told(epochs[0], None, 3), last]
    assert store.produced(stream, 1) == [last]


def test_a_store_that_is_away_is_named_without_its_password() -> None:
    away = Store("postgresql+psycopg://keeper:secret@127.0.0.1:1/streamkeeper")
    with pytest.raises(StoreUnavailable, match=r"127.0.0.1:1/streamkeeper does not answer") as told:
        away.desired("temperature")
    assert "secret" not in str(told.value)
