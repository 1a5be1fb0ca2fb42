"""`landing`: rows a second of the `land` query, beside bare Spark.

Both read the same topic in the same session, in turn. Bare Spark parses and writes; it checks
nothing, keeps no coordinates and counts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.land_query import Contest
from bench.rows import Row
from bench.servers import fill, reading, readings_stream, servers, spark_session
from streamkeeper.names import raw_path
from streamkeeper_io.lake import published_batches, read_manifest

ROUNDS = 3


def _ours(contest: Contest, count: int, bad: int) -> float:
    began = time.perf_counter()
    spec, query = contest.ours()
    assert query.running is not None
    query.running.awaitTermination()
    seconds = time.perf_counter() - began
    folder = raw_path(spec)
    lake = contest.settings.lake
    found = [read_manifest(lake, folder, b) for b in published_batches(lake, folder)]
    assert sum(m.valid for m in found) == count - bad, found
    assert sum(m.quarantined for m in found) == bad, found
    return seconds


def _bare(contest: Contest, count: int) -> float:
    began = time.perf_counter()
    folder, query = contest.bare()
    query.awaitTermination()
    seconds = time.perf_counter() - began
    assert contest.spark.read.parquet(contest.files.url(folder)).count() == count
    return seconds


def compare(
    name: str,
    goal: float,
    short: bool,
    make: Callable[[int, float], bytes] = reading,
    bad_every: int = 0,
    **further: Any,
) -> list[Row]:
    """Land 1,000,000 readings both ways in turn; the row has the medians of three rounds.

    Parameters: short, 20,000 readings, once; make, makes them; bad_every, one in so many of them is
    quarantined; further, more keys of the declaration.
    """
    count = 20_000 if short else 1_000_000
    bad = count // bad_every if bad_every else 0
    topic = f"bench-{name}"
    with servers("kafka", "namenode", "datanode") as settings, spark_session(settings) as spark:
        readings_stream(settings, topic)
        fill(settings, topic, count, make)
        contest = Contest(spark, settings, topic, {"trigger": "availableNow"}, **further)
        # In the first round the JVM compiles what it will need.
        rounds = 1 if short else 1 + ROUNDS
        times = [(_bare(contest, count), _ours(contest, count, bad)) for _ in range(rounds)]
    times = times[-ROUNDS:]
    bare, ours = (count / median(column) for column in zip(*times, strict=True))
    told = ", ".join(f"{count / b / 1000:.0f}:{count / o / 1000:.0f}" for b, o in times)
    of_these = f"{count:,} readings" + (f", {bad:,} of them bad" if bad else "")
    return [
        Row(
            name,
            value=ours,
            unit="rows/s",
            baseline=bare,
            ratio=ours / bare,
            bound="at least",
            goal=goal,
            of="ratio",
            note=f"{of_these}, bare:ours in thousands by round: {told}",
        )
    ]


def measure(short: bool) -> list[Row]:
    """Land 1,000,000 readings (20,000 when short)."""
    return compare("landing", 0.75, short)
