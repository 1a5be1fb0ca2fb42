"""`freshness_p99`: from a message's time in Kafka to its file in the lake, at a steady load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql.streaming import StreamingQuery

from bench.land_query import Contest
from bench.rows import Row
from bench.servers import readings_stream, servers, spark_session, steady_load
from streamkeeper.manifest import Manifest
from streamkeeper.names import TIMESTAMP, raw_path
from streamkeeper_io.lake import folder_names, read_rows

PER_SECOND = 1000
GOAL_S = 2.5


def _ages(table: pa.Table, published: float) -> np.ndarray:
    """Return each row's seconds from its time in Kafka to its publication."""
    micros = table[TIMESTAMP].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return published - micros / 1e6


@contextmanager
def _ended(query: StreamingQuery | None) -> Iterator[None]:
    assert query is not None
    try:
        yield
        assert query.isActive, query.exception()
    finally:
        query.stop()


class Times(NamedTuple):
    """Seconds that do not count, in which code is compiled, and those that do."""

    warm: float
    counted: float


def _ours(contest: Contest, times: Times) -> np.ndarray:
    published: list[tuple[Manifest, float]] = []
    lock = threading.Lock()

    def note(manifest: Manifest) -> None:
        with lock:
            published.append((manifest, time.time()))

    spec, query = contest.ours()
    query.listeners.append(note)
    warm_until = time.time() + times.warm
    with _ended(query.running), _load(contest, times):
        pass
    ages = []
    for manifest, at in published:
        folder = f"{raw_path(spec)}/batch={manifest.generation}-{manifest.batch}"
        paths = [f"{folder}/{name}" for name in manifest.files]
        for table in read_rows(contest.settings.lake, paths, [TIMESTAMP]):
            ages.append(_ages(table, at))
    return _after(warm_until, ages, [at for _, at in published])


def _load(contest: Contest, times: Times) -> AbstractContextManager[None]:
    return steady_load(contest.settings, contest.topic, PER_SECOND, sum(times))


def _bare(contest: Contest, times: Times) -> np.ndarray:
    """Bare Spark's files count from the moment that its own log of the batch names them."""
    folder, query = contest.bare()
    warm_until = time.time() + times.warm
    with _ended(query), _load(contest, times):
        pass
    lake, log = contest.settings.lake, f"{folder}/_spark_metadata"
    ages, published = [], []
    for name in folder_names(lake, log):
        if not name.isdigit():
            continue
        written = _written_at(contest, f"{log}/{name}")
        # Spark's own reader hides what lies in such a folder.
        entries = contest.files.read(f"{log}/{name}").splitlines()
        paths = [_path(entry) for entry in entries if entry.startswith("{")]
        for table in read_rows(lake, paths, [TIMESTAMP]):
            ages.append(_ages(table, written))
            published.append(written)
    return _after(warm_until, ages, published)


def _written_at(contest: Contest, path: str) -> float:
    """Return when HDFS closed a file, in seconds since 1970."""
    jvm: Any = contest.spark._jvm
    file = jvm.org.apache.hadoop.fs.Path(contest.files.url(path))
    system = file.getFileSystem(contest.spark._jsc.hadoopConfiguration())
    return system.getFileStatus(file).getModificationTime() / 1000


def _path(entry: str) -> str:
    import json
    from urllib.parse import urlsplit

    return urlsplit(json.loads(entry)["path"]).path


def _after(moment: float, ages: list[np.ndarray], times: list[float]) -> np.ndarray:
    """Return the ages of the rows that were published after a moment."""
    return np.concatenate([a for a, t in zip(ages, times, strict=True) if t > moment])


def measure(short: bool) -> list[Row]:
    """Send 1,000 readings a second for a minute (5 s when short), once for each way."""
    times = Times(5.0, 5.0) if short else Times(15.0, 60.0)
    with servers("kafka", "namenode", "datanode") as settings, spark_session(settings) as spark:
        found = {}
        for name, way in (("bare", _bare), ("ours", _ours)):
            topic = f"bench-freshness-{name}"
            readings_stream(settings, topic)
            contest = Contest(spark, settings, topic, {"every": "1 second"})
            found[name] = way(contest, times)
    p50, p99 = np.percentile(found["ours"], [50, 99])
    bare_p50, bare_p99 = np.percentile(found["bare"], [50, 99])
    return [
        Row(
            "freshness_p99",
            value=float(p99),
            unit="s",
            baseline=float(bare_p99),
            ratio=float(p99 / bare_p99),
            bound="at most",
            goal=GOAL_S,
            note=f"{PER_SECOND} events/s, 1 s triggers; median {p50:.2f} s, bare {bare_p50:.2f} s",
        )
    ]
