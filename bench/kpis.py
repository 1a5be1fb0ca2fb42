"""`kpis_20m`: the KPIs of the logs stream over closed hours, beside bare Spark and DuckDB.

All read the same Parquet file on this machine's disk. Ours is a whole run of the periods' analysis:
footers compared before and after, files written aside and moved. Bare Spark has the same
aggregates and writes them; it looks at nothing else.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
from pyspark.sql import SparkSession

from bench.rows import Row
from bench.servers import ROOT, servers, spark_session
from streamkeeper.closing import CLOSE_COLUMN
from streamkeeper.hours import Revision
from streamkeeper.names import CLOSED_FILE, CURATED, closed_file, hour_of, period_file
from streamkeeper.periods import Period
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import REVISION_KEY
from streamkeeper_io.period_files import read_period_rows
from streamkeeper_io.store import Store
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.hours import curated_schema
from streamkeeper_spark.periods import PeriodAnalysis

GOAL = 3.0
ROUNDS = 3
_MADE = """
    timestamp_micros({start} + id * 3600000000 DIV {count}) AS ts,
    element_at(array('api', 'cdn', 'www', 'auth'), 1 + CAST(pmod(xxhash64(id, 1), 4) AS int))
        || '.myapp.com' AS host,
    if(pmod(xxhash64(id, 2), 7) = 0, 'POST', 'GET') AS method,
    '/item/' || CAST(pow(pmod(xxhash64(id, 3), 1000), 2) / 1000 AS int) AS path,
    element_at(array(200, 200, 200, 200, 200, 200, 304, 404, 301, 500),
        1 + CAST(pmod(xxhash64(id, 4), 10) AS int)) AS status,
    100 + pmod(xxhash64(id, 5), 90000) AS bytes,
    '198.18.' || pmod(xxhash64(id, 6), 250) || '.' || pmod(xxhash64(id, 7), 250) AS ip,
    'curl/8.8.0' AS ua,
    1 + pmod(xxhash64(id, 8), 900) AS rt_ms
"""
# The KPIs of logs.yaml once more, as anybody would write them in SQL; `p` is the percentile.
_TIMES = "avg(rt_ms), {p}(rt_ms, 0.5), {p}(rt_ms, 0.95), {p}(rt_ms, 0.99)"
_ERRORS = "count_if(status >= 400), count_if(status >= 500), count_if(status >= 400) / count(*)"
_TRAFFIC = f"sum(bytes), {_ERRORS}, count_if(rt_ms > 1000), {_TIMES}"
KPIS = {
    "kpi_by_host": f"SELECT host, count(*) AS n, {_TRAFFIC} FROM r GROUP BY host "
    "ORDER BY n DESC, host",
    "kpi_by_hour": f"SELECT event_day, event_hour, count(*), count(DISTINCT ip), {_TRAFFIC} "
    "FROM r GROUP BY event_day, event_hour ORDER BY event_day, event_hour",
    "by_status": "SELECT status, count(*) AS n FROM r GROUP BY status ORDER BY n DESC, status",
    "top_paths": "SELECT path, count(*) AS n, sum(bytes), count_if(status >= 400), "
    "{p}(rt_ms, 0.95) FROM r GROUP BY path ORDER BY n DESC, path LIMIT 20",
}


def _make_hour(
    spark: SparkSession, files: LakeFiles, spec: Spec, hour: datetime, count: int
) -> None:
    """Write an hour's curated file as a close leaves it, at revision 1."""
    start = int(hour.timestamp()) * 1_000_000
    made = _MADE.format(start=start, count=count)
    rows = spark.sql(f"SELECT id, {made} FROM range({count})")
    for name, derived in spec.derived_expressions().items():
        rows = rows.selectExpr("*", f"{derived.sql} AS `{name}`")
    own = {
        "_event_time": "ts", "_hour": "date_trunc('hour', ts)", "_topic_id": "'bench'",
        "_partition": "CAST(id % 3 AS int)", "_offset": "id DIV 3", "_timestamp": "ts",
        "_generation": "'bench'", "_batch": "0L", "_key": "CAST(NULL AS binary)",
    }  # fmt: skip
    given = [f"{own.get(f.name, f'`{f.name}`')} AS `{f.name}`" for f in curated_schema(spec)]
    written = rows.selectExpr(*given).to(curated_schema(spec))
    first, *others = written.columns
    marked = written[first].alias(first, metadata={REVISION_KEY: 1})
    target = closed_file(spec, CURATED, hour)
    aside = f"{target}-{CLOSE_COLUMN}"
    one = written.select(marked, *others).coalesce(1)
    one.write.option("maxRecordsPerFile", 0).parquet(files.url(aside))
    (name,) = [n for n in files.names(aside) if n.endswith(".parquet")]
    files.rename(f"{aside}/{name}", f"{target.rpartition('/')[0]}/{CLOSED_FILE}")
    files.delete(aside)


def _seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _bare(spark: SparkSession, path: str, folder: Path) -> None:
    spark.read.parquet(path).createOrReplaceTempView("r")
    for name, sql in KPIS.items():
        found = spark.sql(sql.format(p="percentile"))
        found.coalesce(1).write.mode("overwrite").parquet(f"file://{folder / name}")


def _duckdb(path: str) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute(f"CREATE VIEW r AS SELECT * FROM read_parquet('{path}')")
        return {
            name: connection.execute(sql.format(p="quantile_cont")).fetchall()
            for name, sql in KPIS.items()
        }


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs))
    return bool(ours == theirs)


def _check(spec: Spec, expected: dict[str, list[tuple[Any, ...]]]) -> None:
    """Hold our figures against DuckDB's."""
    for name, rows in expected.items():
        found = read_period_rows("file:///", period_file(spec, name, Period()))
        assert found is not None, name
        own = [tuple(row.values()) for row in found[1].to_pylist()]
        assert len(own) == len(rows), (name, len(own), len(rows))
        for one, other in zip(own, rows, strict=True):
            assert all(map(_same, one, other)), (name, one, other)


def _stream(folder: Path) -> Spec:
    spec = load_spec(ROOT / "include" / "streams" / "logs.yaml").dump()
    name = f"bench_{secrets.token_hex(4)}"
    spec |= {"name": name, "app": name, "lake": {"path": str(folder / name)}}
    for kpi in spec["kpis"]:
        kpi |= {"periods": ["all"], "csv": False}
    return Spec.model_validate(spec)


def _revision(spec: Spec, hour: datetime, count: int) -> Revision:
    return Revision(
        stream=spec.name, hour=hour, revision=1, epoch=1, write_number=1, state="complete",
        merged={}, files={CURATED: [CLOSED_FILE]}, counts={"valid": count},
        stores_pending=False, committed_at=datetime.now(UTC),
    )  # fmt: skip


def _measure(
    settings: Settings, spark: SparkSession, folder: Path, count: int, rounds: int
) -> tuple[list[tuple[float, float]], float]:
    """Return the seconds of bare Spark and ours by round, and those of DuckDB."""
    files, store, spec = LakeFiles(spark, "file:///"), Store(settings.store), _stream(folder)
    store.migrate()
    hour = hour_of(datetime.now(UTC)) - timedelta(days=1)
    _make_hour(spark, files, spec, hour, count)
    store.commit_revision(_revision(spec, hour, count))
    path = closed_file(spec, CURATED, hour)
    analysis = PeriodAnalysis(spark, store, spec, files)

    def ours() -> None:
        analysis.run(Period())

    def bare() -> None:
        _bare(spark, files.url(path), folder / "bare")

    began = time.perf_counter()
    expected = _duckdb(path)
    duck = time.perf_counter() - began
    # Of so many rows the JVM needs no round of its own to compile what it will need.
    times = [(_seconds(bare), _seconds(ours)) for _ in range(rounds)]
    _check(spec, expected)
    store.close()
    return times, duck


def measure(short: bool) -> list[Row]:
    """Compute four KPIs over 20,000,000 requests (50,000 when short, once); the median of three."""
    count = 50_000 if short else 20_000_000
    folder = ROOT / ".local" / f"bench-kpis-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        with servers("postgres") as settings, spark_session(settings) as spark:
            times, duck = _measure(settings, spark, folder.resolve(), count, 1 if short else ROUNDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bare, ours = (median(column) for column in zip(*times, strict=True))
    told = ", ".join(f"{b:.1f}:{o:.1f}" for b, o in times)
    return [
        Row(
            "kpis_20m",
            value=ours,
            unit="s",
            baseline=bare,
            ratio=ours / bare,
            bound="at most",
            goal=GOAL,
            of="ratio",
            note=f"{count:,} requests, 4 KPIs with exact percentiles, bare:ours in seconds by "
            f"round: {told}; DuckDB with two threads {duck:.1f} s; the figures are equal",
        )
    ]
