"""Derived columns and declared checks: warn, quarantine, fail; the same in every query."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from landed import NOW, SCHEMA, land, make_spec, rules
from pyspark.sql import SparkSession

from random_declarations import declaration, reserved
from streamkeeper import names
from streamkeeper.errors import CheckFailed
from streamkeeper.manifest import Manifest
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_io.lake import published_batches, read_manifest
from streamkeeper_spark import accounts, fence
from streamkeeper_spark.checks import RecordChecks, valid_rows
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.kpis import zones_of
from streamkeeper_spark.landing import Publisher, WriteNumbers
from streamkeeper_spark.parse import Frame
from streamkeeper_spark.schema import landed_schema, spark_type
from streamkeeper_spark.windows import window_rows

LAKE = "file:///"
EVERYTHING = Path(__file__).parents[1] / "streams" / "everything.yaml"
TIME = "2026-11-24T11:59:00Z"


def declared(path: Path | str = "/tmp/readings", **more: Any) -> Spec:
    """Return a declaration with a derived column and a check of each kind."""
    fields: dict[str, Any] = {
        "t": {"type": "double", "unit": "°C", "sent_unit": "°F", "range": [-60, 60]},
        "level": {"type": "integer"},
        "timestamp": {"type": "timestamp"},
    }
    plain = make_spec(fields).dump()
    plain["lake"]["path"] = str(path)
    plain["derived"] = {"double_t": "t * 2", "hot": "double_t > 60"}
    plain["checks"] = [
        {"name": "low", "expect": "level < 10", "on_fail": "warn"},
        {"name": "even", "expect": "level % 2 = 0", "on_fail": "warn"},
        {"name": "cool", "expect": "not hot or level = 4", "on_fail": "quarantine"},
        {"name": "positive", "expect": "level >= 0", "on_fail": "fail"},
    ]
    plain["windows"] = [
        {
            **{"name": "w", "size": "1min", "watermark": "1min", "where": "level < 100"},
            "measures": {"n": "count(*)", "hot": "count_if(hot)"},
        }
    ]
    return Spec.model_validate(plain | more)


def message(**values: Any) -> bytes:
    return json.dumps({"timestamp": TIME} | values).encode()


MESSAGES = [
    message(t=32, level=2),
    message(t=212, level=2),
    message(t=122, level=2),
    message(t=122, level=4),
    message(t=32, level=13),
    message(t=32),
    message(t=122, level=3),
    message(t="x", level=13),
    message(level=2),
    message(t=32, level=9223372036854775807),
]
VERDICTS: list[tuple[list[str], list[str] | None]] = [
    ([], None),
    (["range:t", "check:cool"], None),
    (["check:cool"], None),
    ([], None),
    ([], ["low", "even"]),
    ([], None),  # a condition that is null counts as met
    (["check:cool"], None),  # a row set aside has no warnings
    (["type:t"], None),
    ([], None),
    ([], ["low", "even"]),
]


def test_verdicts_and_derived_columns(spark: SparkSession) -> None:
    found = land(spark, declared(), MESSAGES)
    assert [(rules(row), row["_warnings"]) for row in found] == VERDICTS
    assert [row["t"] for row in found[:4]] == [0.0, 100.0, 50.0, 50.0]
    assert [row["double_t"] for row in found[:4]] == [0.0, 200.0, 100.0, 100.0]
    assert (found[8]["t"], found[8]["double_t"], found[8]["hot"]) == (None, None, None)
    assert found[2]["_errors"] == ["check:cool: expected not hot or level = 4"]
    assert found[2]["_value"] == MESSAGES[2]
    assert list(found[0])[-1] == "_warnings"


def test_without_a_check_that_warns_there_is_no_column_for_it(spark: SparkSession) -> None:
    (row,) = land(spark, declared(checks=[]), [MESSAGES[2]])
    assert (rules(row), "_warnings" in row) == ([], False)


def test_windows_and_batches_come_to_the_same_verdict(spark: SparkSession) -> None:
    spec = declared()
    rows = [(None, value, 0, n, NOW) for n, value in enumerate(MESSAGES)]
    checked = RecordChecks(spec, Frame()).apply(spark.createDataFrame(rows, SCHEMA), "id")
    (window,) = window_rows(valid_rows(checked), spec.windows[0]).collect()
    # Valid: 0, 3, 4, 5, 8, 9; of 5 the condition is null, 9 does not meet it.
    assert (window["n"], window["hot"]) == (4, 1)


def test_every_key_lands(spark: SparkSession) -> None:
    spec = load_spec(EVERYTHING)
    placed = {"place": "Fès", "latitude": 34.03, "light": 12, "battery": 99.5}
    value = {
        **placed,
        **{"sensor": "a", "meta": {"order": "7", "le.vel": 1}},
        **{"values": {"t": 140, "e": 1800}, "units": {"e": "Wh"}},
        **{"pressure": 29.92, "price": "1.25", "ok": "true"},
        **{"at": "2026-11-24T12:30:00", "sent": 1_700_000_000_000_001},
    }
    good, text, upside_down = (
        json.dumps(value | change).encode()
        for change in ({}, {"sensor": 1}, {"meta": {"order": -1, "le.vel": 2}})
    )
    first, second, third = land(spark, spec, [good, text, upside_down])
    assert rules(first) == []
    assert {name: first[name] for name in spec.columns()} == {
        **placed,
        **{"sensor": "a", "order": 7, "level": 1, "temperature": 60.0, "ok": True},
        "pressure": pytest.approx(1013.2075, rel=1e-6),
        "price": Decimal("1.25"),
        "at": datetime(2026, 11, 24, 11, 30, tzinfo=UTC),
        "sent": datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC),
        **{"energy": 1.8, "energy_unit": "kWh"},
        **{"is_hot": True, "feels": pytest.approx(59.9), "class": "hot"},
        "day": datetime(2026, 11, 24, tzinfo=UTC),
    }
    assert first["_warnings"] is None
    assert first["_corrected"] == ["time:at", "unit:energy"]
    assert (rules(second), second["sensor"]) == ([], "1")
    assert rules(third) == ["check:not_upside_down"]


@pytest.mark.parametrize("seed", range(8))
def test_random_declarations_are_planned(spark: SparkSession, seed: int) -> None:
    spec = Spec.model_validate({"name": "made", "app": "made", **declaration(seed)})
    empty = spark.createDataFrame([], SCHEMA)
    rows = RecordChecks(spec, Frame()).apply(empty, "id")
    # Spark may know that a derived column is never null.
    assert [(f.name, f.dataType) for f in rows.schema.fields if f.name in spec.columns()] == [
        (f.name, f.dataType) for f in landed_schema(spec).fields if f.name in spec.columns()
    ]
    for window in spec.windows:
        found = {f.name: f.dataType for f in window_rows(valid_rows(rows), window).schema}
        assert all(found[n] == spark_type(m.type) for n, m in window.measures.items())
    closed = valid_rows(rows).selectExpr("*", "'2026-11-24T11' AS _close")
    for kpi, made in zip(spec.kpis, zones_of(spec).values(), strict=True):
        found = {f.name: f.dataType for f in made(closed).schema}
        assert all(found[n] == spark_type(m.type) for n, m in kpi.measures.items())


def test_reserved_words_are_names_in_spark_too(spark: SparkSession) -> None:
    plain = {"name": "table", "app": "table", **reserved()}
    spec = Spec.model_validate(plain)
    values = dict.fromkeys(spec.fields, 2) | {"at": TIME}
    rows = [(None, json.dumps(values).encode(), 0, 1, NOW)]
    checked = RecordChecks(spec, Frame()).apply(spark.createDataFrame(rows, SCHEMA), "id")
    valid = valid_rows(checked).selectExpr("*", "'2026-11-24T11' AS _close")
    (window,) = window_rows(valid, spec.windows[0]).collect()
    assert list(window.asDict()) == [
        *("select", "window", "window_start", "window_end", "end", "distinct")
    ]
    assert [window[n] for n in ("select", "window", "end", "distinct")] == [2.0] * 4
    view, broken = (made(valid).collect()[0].asDict() for made in zones_of(spec).values())
    assert view == {"_close": "2026-11-24T11", "window": 2.0, "asc": 3.0, "limit": 1}
    assert (broken["all"], broken["union"], broken["_count"]) == (3.0, True, 1)


@pytest.fixture
def publisher(spark: SparkSession, tmp_path: Path) -> Publisher:
    spec, files = declared(tmp_path), LakeFiles(spark, LAKE)
    generation = fence.begin_generation(
        files, spec, names.LAND, epoch=1, topic_id="id-1", start={0: 100}
    )
    made = Publisher(
        spec=spec,
        zone="raw",
        folder=names.raw_path(spec),
        generation=generation,
        checkpoint=fence.take_over(files, spec, generation, 1),
        epoch=1,
        files=files,
        numbers=WriteNumbers(1),
        draining=threading.Event(),
        columns=accounts.raw_columns(spec),
        account=accounts.account_of_raw,
        published=lambda _: None,
    )
    made.prepare()
    return made


def publish(spark: SparkSession, publisher: Publisher, batch: int, values: list[bytes]) -> None:
    entry = json.dumps({"readings": {"0": 100 + len(values)}})
    log = f'v1\n{{"batchWatermarkMs":0}}\n{entry}'
    if not publisher.files.exists(f"{publisher.checkpoint}/offsets/{batch}"):
        publisher.files.write(f"{publisher.checkpoint}/offsets/{batch}", log)
    rows = [(None, value, 0, 100 + n, NOW) for n, value in enumerate(values)]
    checks = RecordChecks(publisher.spec, Frame())
    publisher.publish(checks.apply(spark.createDataFrame(rows, SCHEMA), "id-1"), batch)


def manifests(spec: Spec) -> list[Manifest]:
    folder = names.raw_path(spec)
    return [read_manifest(LAKE, folder, name) for name in published_batches(LAKE, folder)]


def test_the_manifest_counts_warnings(spark: SparkSession, publisher: Publisher) -> None:
    publish(spark, publisher, 0, MESSAGES)
    (manifest,) = manifests(publisher.spec)
    assert manifest.warned_by_rule == {"even": 2, "low": 2}
    assert manifest.quarantined_by_rule == {"check:cool": 3, "range:t": 1, "type:t": 1}
    assert (manifest.valid, manifest.quarantined) == (6, 4)


def test_a_check_that_fails_ends_the_stream_and_publishes_nothing(
    spark: SparkSession, publisher: Publisher
) -> None:
    bad = [message(t=32, level=-2), message(t=32, level=-1, note="é" * 600)]
    with pytest.raises(CheckFailed) as caught:
        publish(spark, publisher, 0, [*MESSAGES, *bad])
    assert str(caught.value) == (
        "readings: 2 records broke the check positive (expected level >= 0), which ends the "
        f"stream; the first is partition 0 offset 110 of readings: {bad[0].decode()}\n"
        "Batch 0 is not published. Correct the sender or the check (on_fail), then start the "
        "stream again: it reads the batch anew"
    )
    assert manifests(publisher.spec) == []
    assert publisher.files.names(f"{publisher.folder}/_tmp") == []
    # With the check corrected the same batch is published.
    plain = publisher.spec.dump()
    plain["checks"][3]["on_fail"] = "quarantine"
    publisher.spec = Spec.model_validate(plain)
    publish(spark, publisher, 0, [*MESSAGES, *bad])
    assert manifests(publisher.spec)[0].quarantined_by_rule["check:positive"] == 2
