"""Spans, completeness of hours and what a close merges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.generations import Counted, Generation
from streamkeeper.hours import (
    Completeness,
    Look,
    Revision,
    completeness,
    look_due,
    still_filling,
)
from streamkeeper.manifest import Manifest
from streamkeeper.spans import holes, size, span_between

HOUR = datetime(2026, 11, 24, 14, tzinfo=UTC)
GENERATION = "0d8e1a52-7f0b-4a6f-9a51-0f2f5b6d7c11"


def manifest(batch: int = 0, span: dict | None = None, **changes: object) -> Manifest:
    values = {
        "stream": "temperature",
        "zone": "raw",
        "generation": GENERATION,
        "batch": batch,
        "epoch": 7,
        "write_number": 7_000_000_000 + batch,
        "topic": "iot-temperature",
        "topic_id": "topic-1",
        "span": span or {0: (0, 10)},
        "read": 10,
        "valid": 9,
        "quarantined": 1,
        "quarantined_by_rule": {"parse:json": 1},
        "hours": {HOUR: 9},
        "first_event": HOUR,
        "last_event": HOUR + timedelta(minutes=59),
        "files": ("part-0.parquet",),
        "spec_sha256": "ab" * 32,
        "written_at": HOUR,
    }
    return Manifest.model_validate(values | changes)


def generation(**changes: object) -> Generation:
    values = {
        "stream": "temperature",
        "query": "land",
        "generation": GENERATION,
        "topic": "iot-temperature",
        "topic_id": "topic-1",
        "start": {0: 0},
        "epoch": 7,
    }
    return Generation.model_validate(values | changes)


def look(**ends: int) -> Look:
    offsets = {int(k[1:]): v for k, v in ends.items()}
    return Look(
        stream="temperature", hour=HOUR, topic_id="topic-1", taken_at=HOUR, end_offsets=offsets
    )


def complete(made: Generation | None, batches: list[Manifest], seen: Look | None) -> Completeness:
    return completeness(Counted([made] if made else [], batches), seen)


def test_a_manifest_survives_json() -> None:
    first = manifest(span={0: (0, 10), 12: (5, 6)})
    assert Manifest.model_validate_json(first.model_dump_json()) == first
    assert '"2026-11-24T14":9' in first.model_dump_json()


def test_a_revision_survives_json() -> None:
    first = Revision(
        stream="t",
        hour=HOUR,
        revision=2,
        epoch=9,
        write_number=9 * 10**9,
        state="partial",
        merged={GENERATION: 4},
        files={"curated": ["part-0.parquet"]},
        missing={0: [(3, 5)]},
        committed_at=HOUR,
    )
    assert Revision.model_validate_json(first.model_dump_json()) == first


def test_span_between() -> None:
    assert span_between({0: 5}, {0: 9, 1: 2, 2: 0}) == {0: (5, 9), 1: (0, 2)}
    assert size({0: (5, 9), 1: (0, 2)}) == 6
    with pytest.raises(ValueError, match="partition 0: end offset 3 lies before 5"):
        span_between({0: 5}, {0: 3})


offsets = st.integers(0, 30)
pieces = st.lists(st.tuples(st.integers(0, 2), offsets, offsets), max_size=12)


@given(start=st.dictionaries(st.integers(0, 2), offsets), pieces=pieces, target=offsets)
def test_holes_are_the_offsets_that_no_span_covers(start: dict, pieces: list, target: int) -> None:
    spans = [{p: (min(a, b), max(a, b))} for p, a, b in pieces]
    found = holes(start, dict.fromkeys(range(3), target), spans)
    for partition in range(3):
        covered = {o for s in spans for o in range(*s.get(partition, (0, 0)))}
        expected = set(range(start.get(partition, 0), target)) - covered
        assert {o for first, end in found.get(partition, []) for o in range(first, end)} == expected


def test_an_hour_is_complete_when_its_look_is_covered_without_a_hole() -> None:
    batches = [manifest(0, {0: (0, 10)}), manifest(1, {0: (10, 25)})]
    assert complete(generation(), batches, look(p0=25)).complete
    short = complete(generation(), batches[:1], look(p0=25))
    assert (short.complete, short.missing) == (False, {0: [(10, 25)]})
    assert not complete(generation(), batches[1:], look(p0=25)).complete
    assert complete(generation(start={0: 10}), batches[1:], look(p0=25)).complete


def test_what_keeps_an_hour_from_being_complete_is_said() -> None:
    assert "no look" in complete(generation(), [], None).reason
    assert "never been launched" in complete(None, [], look(p0=3)).reason
    assert complete(None, [], look(p0=0)).complete
    other = complete(generation(topic_id="topic-0"), [], look(p0=3))
    assert "the topic was replaced" in other.reason


def test_batches_of_another_topic_of_that_name_do_not_count() -> None:
    batches = [manifest(0, {0: (0, 25)}, topic_id="topic-0")]
    assert not complete(generation(), batches, look(p0=25)).complete


def test_a_close_merges_only_what_no_close_has_merged() -> None:
    other = HOUR + timedelta(hours=1)
    batches = [manifest(0), manifest(1), manifest(2, hours={other: 9})]
    counted = Counted([generation()], batches)
    assert [m.batch for m in counted.change(HOUR, {GENERATION: 0}).manifests] == [1]
    assert [m.batch for m in counted.change(other, None).manifests] == [2]
    assert not counted.change(HOUR, {GENERATION: 1})
    assert counted.merged == {GENERATION: 2}
    assert counted.hours == [HOUR, other]


def test_looks_and_live_producers() -> None:
    assert look_due(HOUR, timedelta(minutes=5)) == HOUR + timedelta(minutes=65)
    end = HOUR + timedelta(hours=1)
    assert still_filling(HOUR, [end - timedelta(seconds=1)])
    assert still_filling(HOUR, [None])
    assert not still_filling(HOUR, [end])
    assert not still_filling(HOUR, [])
