"""Delta sinks on a lake of local files: each batch once, rewinds, other writers, other tables."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType
from hypothesis import given, settings
from hypothesis import strategies as st

from delta_stream import (
    FIELDS,
    HOUR,
    LAKE,
    NEW,
    NOON,
    OLD,
    TIME,
    Reading,
    apply,
    declaration,
    publish,
    sink_of,
    stream,
)
from streamkeeper.errors import DeclarationError, LakeUnavailable, TableDiffers
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_apps.check import shared_places
from streamkeeper_io.delta import (
    DeltaMark,
    DeltaShape,
    DeltaWriter,
    HourChange,
    Plan,
    live_files,
    may_hold,
    open_delta,
    replace_hours,
)


def table_of(spec: Spec) -> DeltaTable:
    (declared,) = spec.sinks
    assert isinstance(declared, DeltaSink)
    found = open_delta(LAKE, declared.path)
    assert found is not None
    return found


def rows_of(spec: Spec) -> list[Reading]:
    """Return the rows of the table, by coordinates."""
    rows = pa.table(table_of(spec).to_pyarrow_table()).to_pylist()
    return sorted(rows, key=lambda row: (row["_topic_id"], row["_partition"], row["_offset"]))


def values(spec: Spec) -> dict[int, float | None]:
    rows = rows_of(spec)
    found = {row["_offset"]: row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_batch_is_written_once_and_its_mark_lies_in_the_log(tmp_path: Path) -> None:
    spec = stream(tmp_path)
    sink = sink_of(spec)
    assert sink.mark() == {}
    sent = [{"place": "A", "value": 1.5}, {"place": "Fès/é 1%", "floor": 3}, {"bad": True}, {}]
    first = publish(spec, sent, 0)
    assert apply(sink, spec, first, first) == [3, 3]
    found = rows_of(spec)
    assert [(r["place"], r["floor"], r["value"], r["_offset"]) for r in found] == [
        ("A", None, 1.5, 0),
        ("Fès/é 1%", 3, None, 1),
        (None, None, None, 3),
    ]
    assert {r["_write_number"] for r in found} == {first.write_number}
    assert sink.mark() == {OLD: 0}
    version = table_of(spec).version()
    assert apply(sink_of(spec), spec, first) == [3]
    assert table_of(spec).version() == version
    # A batch without valid rows moves the mark; an empty one writes nothing.
    none_valid = publish(spec, [{"bad": True}], 1)
    assert apply(sink, spec, none_valid) == [0]
    assert sink.mark() == {OLD: 1}
    assert apply(sink, spec, none_valid.model_copy(update={"read": 0, "batch": 2})) == [0]


def test_an_empty_text_as_partition_is_null_as_deltas_protocol_has_it(tmp_path: Path) -> None:
    spec = stream(tmp_path)
    apply(sink_of(spec), spec, publish(spec, [{"place": ""}, {"place": "x" * 300}], 0))
    assert [row["place"] for row in rows_of(spec)] == [None, "x" * 300]


def test_what_is_read_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    spec = stream(tmp_path)
    sink = sink_of(spec)
    old = [
        publish(spec, [{"place": p, "value": n} for p in "AB"], n, first=2 * n) for n in range(4)
    ]
    apply(sink, spec, *old)
    before = values(spec)
    assert before == {n: n // 2 for n in range(8)}
    # The rewind reads from offset 3 on, and one of its messages is bad now.
    again = publish(
        spec,
        [{"place": "A", "value": 10}, {"place": "B", "bad": True}, {"place": "C", "value": 12}],
        0,
        generation=NEW,
        epoch=2,
        first=3,
    )
    apply(sink, spec, again, again)
    expected = before | {3: 10, 5: 12}
    del expected[4]
    assert values(spec) == expected
    # Another topic's messages at the same offsets are others.
    other = publish(
        spec, [{"value": 99}] * 8, 1, generation=NEW, epoch=2, first=0, topic_id="topic-2"
    )
    apply(sink, spec, other)
    assert len(rows_of(spec)) == len(expected) + 8
    assert sink.mark() == {OLD: 3, NEW: 1}


def test_a_late_batch_of_an_older_generation_changes_nothing_newer(tmp_path: Path) -> None:
    spec = stream(tmp_path)
    sink = sink_of(spec)
    late = publish(spec, [{"value": 1}, {"value": 1}], 1, first=2)
    apply(sink, spec, publish(spec, [{"value": 0}, {"value": 0}], 0, first=0))
    apply(sink, spec, publish(spec, [{"value": 5}], 0, generation=NEW, epoch=2, first=2))
    apply(sink, spec, late)
    assert values(spec) == {0: 0, 1: 0, 2: 5, 3: 1}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 12), st.integers(1, 5), st.booleans()),
        min_size=1,
        max_size=7,
    )
)
def test_the_table_is_what_the_newest_write_of_each_message_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int, bool]]
) -> None:
    """Against a dictionary: generations in their order, each begins somewhere and goes on."""
    folder = tmp_path_factory.mktemp("delta")
    spec = stream(folder, partition_by=[])
    sink = sink_of(spec)
    expected: dict[int, float] = {}
    generation, batch, offset = 0, 0, 0
    for step, (anew, start, count, repeat) in enumerate(steps):
        if anew:
            generation, batch, offset = generation + 1, 0, min(start, offset)
        rows = [{"value": step, "bad": (offset + i) % 5 == step % 5} for i in range(count)]
        made = publish(
            spec,
            rows,
            batch,
            generation=f"00000000-0000-0000-0000-{generation:012d}",
            epoch=generation + 1,
            first=offset,
        )
        apply(sink, spec, *[made] * (1 + repeat))
        for i, row in enumerate(rows):
            expected.pop(offset + i, None)
            if not row["bad"]:
                expected[offset + i] = step
        offset, batch = offset + count, batch + 1
    assert values(spec) == expected


def test_of_two_writers_in_hand_of_one_batch_one_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = stream(tmp_path)
    older, newer = sink_of(spec), sink_of(spec)
    first = publish(spec, [{"value": 0}], 0)
    batch = publish(spec, [{"value": 1}, {"value": 2}], 1)
    apply(older, spec, first)
    commit = DeltaWriter._commit

    def frozen(self: DeltaWriter, *arguments: Any) -> None:
        """What was read of the table is old by the time of the commit."""
        monkeypatch.setattr(DeltaWriter, "_commit", commit)
        assert apply(newer, spec, batch) == [2]
        commit(self, *arguments)

    monkeypatch.setattr(DeltaWriter, "_commit", frozen)
    assert apply(older, spec, batch) == [2]
    assert values(spec) == {0: 0, 100: 1, 101: 2}
    assert table_of(spec).version() == 2


def test_another_programs_commit_in_between_costs_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = stream(tmp_path)
    sink = sink_of(spec)
    apply(sink, spec, publish(spec, [{"value": 0, "place": "A"}], 0))
    apply(sink, spec, publish(spec, [{"value": 1, "place": "A"}], 1))
    commit = DeltaWriter._commit

    def compacted(self: DeltaWriter, *arguments: Any) -> None:
        monkeypatch.setattr(DeltaWriter, "_commit", commit)
        table_of(spec).optimize.compact()
        commit(self, *arguments)

    monkeypatch.setattr(DeltaWriter, "_commit", compacted)
    apply(sink, spec, publish(spec, [{"value": 7}], 0, generation=NEW, epoch=2, first=100))
    assert values(spec) == {0: 0, 100: 7}

    def always(self: DeltaWriter, *arguments: Any) -> None:
        table_of(spec).alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
        commit(self, *arguments)

    monkeypatch.setattr(DeltaWriter, "_commit", always)
    with pytest.raises(LakeUnavailable, match="10 times in a row"):
        apply(sink, spec, publish(spec, [{"value": 8}], 1, generation=NEW, epoch=2, first=101))


def test_the_mark_is_kept_by_checkpoints_of_the_log(tmp_path: Path) -> None:
    spec = stream(tmp_path, partition_by=[])
    sink = sink_of(spec)
    apply(sink, spec, publish(spec, [{"value": 0}], 0))
    writer = sink._writer
    for n in range(1, 103):
        writer.write(DeltaMark(sink._app_id(NEW), n), lambda _: Plan(()))
    log = tmp_path / "table" / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    for old in log.glob("*.json"):
        if int(old.stem) < 100:
            old.unlink()
    publish(spec, [{}], 102, generation=NEW)
    assert sink.mark() == {OLD: 0, NEW: 102}
    assert values(spec) == {0: 0}


# Declarations
@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ({"partition_by": ["plce"]}, "partition_by[0]: 'plce' no such field is declared"),
        ({"partition_by": ["value"]}, "texts, whole numbers or booleans, not by double"),
        ({"partition_by": ["place", "place"]}, "partition_by[1]: 'place' stands twice"),
        ({"columns": ["at"]}, "parted by 'place', which must be one of the columns"),
        ({"of": "w"}, "of: 'w' no such rows to write; valid: raw"),
        ({"path": "table"}, "delta.path: 'table' is wrong"),
    ],
)
def test_mistakes_of_a_sink_are_told(tmp_path: Path, sink: dict[str, Any], told: str) -> None:
    assert told in mistakes(tmp_path, declaration(tmp_path, **sink))


def test_a_table_has_a_folder_of_its_own(tmp_path: Path) -> None:
    inside = declaration(tmp_path, path=str(tmp_path / "lake" / "table"))
    assert "lies in one another with lake.path" in mistakes(tmp_path, inside)
    twice = declaration(tmp_path)
    twice["sinks"] += copy.deepcopy(twice["sinks"])
    assert "two sinks write this table" in mistakes(tmp_path, twice)
    one = stream(tmp_path)
    lake = one.lake.model_copy(update={"path": "/elsewhere"})
    same = one.model_copy(update={"name": "other", "lake": lake})
    (told,) = shared_places({"one": one, "other": same})
    assert "both write the Delta table" in told
    within = same.model_copy(
        update={"lake": lake.model_copy(update={"path": f"{tmp_path}/table/lake"}), "sinks": ()}
    )
    (told,) = shared_places({"one": one, "within": within})
    assert "the Delta table" in told
    assert "lie in one another" in told


def mistakes(folder: Path, data: dict[str, Any]) -> str:
    path = folder / "readings.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    with pytest.raises(DeclarationError) as raised:
        load_spec(path)
    return str(raised.value)


# Tables that differ
def test_columns_declared_since_are_added_and_those_removed_stay(tmp_path: Path) -> None:
    spec = stream(tmp_path, {n: FIELDS[n] for n in ("place", "at")})
    apply(sink_of(spec), spec, publish(spec, [{"place": "A"}], 0))
    more = stream(tmp_path, {n: FIELDS[n] for n in ("place", "value", "at")})
    apply(sink_of(more), more, publish(more, [{"place": "A", "value": 2}], 1))
    fewer = stream(tmp_path, {n: FIELDS[n] for n in ("place", "at")})
    apply(sink_of(fewer), fewer, publish(fewer, [{"place": "A", "value": 3}], 2))
    assert values(fewer) == {0: None, 100: 2, 200: None}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"value": {"type": "string"}}, "the column value is double, declared is string"),
        ({"floor": {"type": "integer"}}, "the column floor is integer, declared is long"),
    ],
)
def test_a_retyped_column_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    spec = stream(tmp_path)
    first = publish(spec, [{"place": "A", "value": 1}], 0)
    apply(sink_of(spec), spec, first)
    retyped = stream(tmp_path, FIELDS | changed)
    with pytest.raises(TableDiffers, match=told) as raised:
        apply(sink_of(retyped), retyped, publish(retyped, [{"place": "A"}], 1))
    assert "give the sink another `path`" in str(raised.value)
    assert values(spec) == {0: 1}


def test_a_table_parted_otherwise_or_made_by_others_is_left_as_it_is(tmp_path: Path) -> None:
    spec = stream(tmp_path)
    apply(sink_of(spec), spec, publish(spec, [{"place": "A"}], 0))
    other = stream(tmp_path, partition_by=["place", "floor"])
    with pytest.raises(TableDiffers, match="partitioned by place, declared is place, floor"):
        sink_of(other).mark()
    theirs = stream(tmp_path, path=str(tmp_path / "theirs"), partition_by=[])
    fields = [Field("place", PrimitiveType("string")), Field("x", PrimitiveType("long"), False)]
    DeltaTable.create(f"file://{tmp_path}/theirs", schema=Schema(fields))
    with pytest.raises(TableDiffers) as raised:
        sink_of(theirs).mark()
    assert "it lacks _topic_id, _partition, _offset, _write_number" in str(raised.value)
    assert "the column x may not be null and is not declared" in str(raised.value)
    assert table_of(theirs).version() == 0


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ({"minReaderVersion": 1, "minWriterVersion": 99}, "protocol is reader 1, writer 99"),
        ({"minReaderVersion": 99, "minWriterVersion": 99}, "newer than what delta-rs reads"),
        ({"minReaderVersion": 2, "minWriterVersion": 5}, "protocol is reader 2, writer 5"),
        (
            {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]},
            "table features rowTracking",
        ),
        (
            {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
             "writerFeatures": ["deletionVectors"]},
            "table features deletionVectors",
        ),
        (
            {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["unheardOf"],
             "writerFeatures": ["unheardOf"]},
            "newer than what delta-rs reads",
        ),
    ],
)  # fmt: skip
def test_a_newer_protocol_is_told_and_nothing_is_written(
    tmp_path: Path, protocol: dict[str, Any], told: str
) -> None:
    spec = stream(tmp_path)
    apply(sink_of(spec), spec, publish(spec, [{"place": "A"}], 0))
    log = tmp_path / "table" / "_delta_log"
    first = log / f"{0:020d}.json"
    actions = [json.loads(line) for line in first.read_text().splitlines()]
    changed = [{"protocol": protocol} if "protocol" in a else a for a in actions]
    first.write_text("\n".join(map(json.dumps, changed)))
    before = sorted(p.name for p in (tmp_path / "table").rglob("*"))
    with pytest.raises(TableDiffers, match=told):
        apply(sink_of(spec), spec, publish(spec, [{"place": "A"}], 1))
    assert sorted(p.name for p in (tmp_path / "table").rglob("*")) == before


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.sampled_from(["0-1", "2-3", "x", "yy", "é", ""]),
                  st.none() | st.integers(-1, 2)),
        min_size=1,
    )
)  # fmt: skip
def test_each_row_lies_in_the_file_of_its_partition(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str | None, int | None]]
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    columns = pa.schema([("a", pa.string()), ("b", pa.int32()), ("n", pa.int64())])
    writer = DeltaWriter(LAKE, str(folder), DeltaShape(columns, ("a", "b")))
    made = [{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(keys)]
    rows = pa.Table.from_pylist(made, columns)
    assert writer.write(DeltaMark("t", 1), lambda _: Plan([rows]))
    found = pa.table(DeltaTable(str(folder)).to_pyarrow_table()).sort_by("n").to_pylist()
    # In Delta's log an empty text is null.
    assert found == [row | {"a": row["a"] or None} for row in made]


# One hour in one commit
SHAPE = DeltaShape(
    pa.schema([("hour", TIME), ("room", pa.string()), ("mean", pa.float64())]), ("room",)
)


def means(*given: tuple[datetime, str, float]) -> pa.Table:
    rows = [{"hour": hour, "room": room, "mean": mean} for hour, room, mean in given]
    return pa.Table.from_pylist(rows, SHAPE.columns)


def content(path: Path) -> list[tuple[Any, ...]]:
    found = open_delta(LAKE, str(path))
    assert found is not None
    rows: Iterable[Reading] = pa.table(found.to_pyarrow_table()).to_pylist()
    return sorted((row["hour"], row["room"], row["mean"]) for row in rows)


def replace_hour(
    writer: DeltaWriter, mark: DeltaMark, column: str, hour: datetime, rows: pa.Table
) -> bool:
    return bool(replace_hours(writer, column, [HourChange(mark, hour, rows)]))


def test_an_hour_is_replaced_by_a_later_revision_only(tmp_path: Path) -> None:
    writer = DeltaWriter(LAKE, str(tmp_path / "gold"), SHAPE)
    one, two = NOON, NOON + HOUR
    first = means((one, "a", 1), (one, "b", 2))
    assert replace_hour(writer, DeltaMark("kpi/12", 1), "hour", one, first)
    assert replace_hour(writer, DeltaMark("kpi/13", 1), "hour", two, means((two, "a", 3)))
    assert not replace_hour(writer, DeltaMark("kpi/12", 1), "hour", one, means((one, "a", 9)))
    # Whatever files a compaction has put together.
    found = open_delta(LAKE, str(tmp_path / "gold"))
    assert found is not None
    found.optimize.compact()
    assert replace_hour(writer, DeltaMark("kpi/12", 3), "hour", one, means((one, "c", 4)))
    assert not replace_hour(writer, DeltaMark("kpi/12", 2), "hour", one, means((one, "a", 9)))
    assert content(tmp_path / "gold") == [(one, "c", 4), (two, "a", 3)]
    assert replace_hour(writer, DeltaMark("kpi/13", 2), "hour", two, means())
    assert content(tmp_path / "gold") == [(one, "c", 4)]


def test_files_are_skipped_by_their_bounds_only_where_that_is_sure(tmp_path: Path) -> None:
    writer = DeltaWriter(LAKE, str(tmp_path / "t"), SHAPE)
    at = NOON + timedelta(microseconds=1_500_001)
    replace_hour(writer, DeltaMark("a", 1), "hour", NOON, means((at, "a", 1)))
    ancient = datetime(1, 1, 1, tzinfo=UTC)
    last = datetime.max.replace(tzinfo=UTC)
    replace_hour(writer, DeltaMark("b", 1), "hour", ancient, means((last, "a", 1)))
    found = open_delta(LAKE, str(tmp_path / "t"))
    assert found is not None
    files = live_files(found)
    order = files["min.hour"].to_pylist().index(None)
    hits = may_hold(files, "hour", at, at + timedelta(microseconds=1)).to_pylist()
    assert hits == [True, True]
    hits = may_hold(files, "hour", at + HOUR, at + 2 * HOUR).to_pylist()
    assert hits[order] is True
    assert hits[1 - order] is False
    assert may_hold(files, "mean", 0.0, 1.0).to_pylist() == [True, True]
