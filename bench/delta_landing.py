"""`delta_landing`: from a topic into a Delta table, beside Spark's own bare Delta sink.

Ours lands as the driver does, checks and all, and its sink follows the published batches into the
table. Bare Spark parses and writes into a Delta table at once; it checks nothing and keeps no
coordinates. Both read the same topic in the same session, in turn.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from bench.land_query import Contest
from bench.rows import Row
from bench.servers import ROOT, fill, readings_stream, servers, spark_session
from streamkeeper.generations import Generation
from streamkeeper.manifest import Manifest
from streamkeeper.names import raw_path
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_apps.local.jars import ensure_jars
from streamkeeper_io.delta import live_files, open_delta
from streamkeeper_io.spark_conf import spark_conf
from streamkeeper_io.store import Store
from streamkeeper_spark.sinks.delta import DeltaRaw
from streamkeeper_spark.sinks.follower import Follower

TOPIC, ROUNDS = "bench-delta", 3
PARTED = ("building", "type")
_JARS = ROOT / ".local" / "jars-delta"


def sensor(number: int, seconds: float) -> bytes:
    """Return one reading of a building's sensor, made at `seconds` since 1970."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    kind = ("temperature", "humidity", "energy", "CO2")[number % 4]
    return json.dumps(
        {
            "timestamp": f"{at}.{int(seconds % 1 * 1000):03d}Z",
            "device_id": f"device_{number % 240:03d}",
            "building": "ABC"[number // 4 % 3],
            "floor": number // 12 % 5,
            "type": kind,
            "value": round(random.uniform(10, 80), 2),
            "unit": {"temperature": "°C", "humidity": "%", "energy": "kWh"}.get(kind, "ppm"),
        },
        ensure_ascii=False,
    ).encode()


def _followed(
    contest: Contest, store: Store, path: str, followers: list[Follower]
) -> Callable[[Spec, Generation], Callable[[Manifest], None]]:
    """Return what starts the sink's follower, as the driver does."""

    def follow(spec: Spec, generation: Generation) -> Callable[[Manifest], None]:
        sink = DeltaSink(kind="delta", path=path, partition_by=PARTED)
        follower = Follower(
            DeltaRaw(spec, sink, contest.settings, contest.settings.lake),
            stream=spec.name,
            lake=contest.settings.lake,
            zone_folder=raw_path(spec),
            generations=[generation.generation],
            store=store,
        )
        followers.append(follower)
        follower.start()
        return follower.notify

    return follow


def _rows(contest: Contest, path: str) -> int:
    table = open_delta(contest.settings.lake, path)
    assert table is not None
    return sum(live_files(table)["num_records"].to_pylist())


def _ours(contest: Contest, store: Store, count: int) -> float:
    began, path = time.perf_counter(), f"/bench-ours/{secrets.token_hex(4)}"
    followers: list[Follower] = []
    _, query = contest.ours(_followed(contest, store, path, followers))
    assert query.running is not None
    query.running.awaitTermination()
    (follower,) = followers
    assert follower.finish(300), follower.error
    seconds = time.perf_counter() - began
    assert _rows(contest, path) == count
    return seconds


def _bare(contest: Contest, count: int) -> float:
    began = time.perf_counter()
    path = f"/bench-bare/{secrets.token_hex(4)}"
    rows = contest.parsed()
    writer = rows.writeStream.format("delta").partitionBy(*PARTED)
    writer = writer.option("checkpointLocation", contest.files.url(f"{path}-checkpoint"))
    writer.option("path", contest.files.url(path)).trigger(
        availableNow=True
    ).start().awaitTermination()
    seconds = time.perf_counter() - began
    assert _rows(contest, path) == count
    return seconds


def _delta_properties(settings: Settings) -> dict[str, str]:
    """Return Spark's properties for its own Delta sink, with jars that only this row needs."""
    ensure_jars(Path(__file__).with_name("delta_jars.lock"), _JARS)
    jars = sorted(str(path) for path in (_JARS / "spark").glob("*.jar"))
    return {
        "spark.jars": ",".join([*spark_conf(settings)["spark.jars"].split(","), *jars]),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }


def measure(short: bool) -> list[Row]:
    """Bring 1,000,000 readings into tables both ways in turn (50,000 when short).

    In a process of its own: a JVM takes further jars only when it starts.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(_measured, short).result()
        except BaseException:
            # A measurement that is ended ends its servers too.
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _measured(short: bool) -> list[Row]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    count = 50_000 if short else 1_000_000
    with servers("kafka", "namenode", "datanode", "postgres") as settings:
        further = _delta_properties(settings)
        with spark_session(settings, further) as spark:
            source = {"kafka": {"topic": TOPIC, "partitions": 3}}
            readings_stream(settings, TOPIC, "buildings", source=source)
            fill(settings, TOPIC, count, sensor)
            options = {"trigger": "availableNow"}
            contest = Contest(spark, settings, TOPIC, options, stream="buildings", source=source)
            store = Store(settings.store)
            store.migrate()
            # The JVM compiles what it will need.
            _bare(contest, count), _ours(contest, store, count)
            times = [(_bare(contest, count), _ours(contest, store, count)) for _ in range(ROUNDS)]
            store.close()
    bare, ours = (count / median(column) for column in zip(*times, strict=True))
    told = ", ".join(f"{count / b / 1000:.0f}:{count / o / 1000:.0f}" for b, o in times)
    return [
        Row(
            "delta_landing",
            value=ours,
            unit="rows/s",
            baseline=bare,
            ratio=ours / bare,
            bound="at least",
            goal=0.7,
            of="ratio",
            note=f"{count:,} readings into 12 partitions, bare:ours in thousands by round: {told}",
        )
    ]
