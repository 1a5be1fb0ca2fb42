"""System 4 whole: simulator and a real access log, topic, driver, lake, closed hours and KPIs.

Every figure is computed anew by DuckDB over the very messages or lines that were sent.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from closes import Stream
from declared import declared_stream, own_names
from drivers import manifests
from figures import same_rows
from pyspark.sql import SparkSession
from topics import read_topic, run_producer

from access_log import real_lines
from statsd_server import Counters
from streamkeeper import names
from streamkeeper.errors import Fenced, StreamkeeperError
from streamkeeper.hours import HOUR
from streamkeeper.names import (
    CURATED,
    closed_file,
    hour_of,
    kpi_zone,
    period_csv,
    period_file,
)
from streamkeeper.periods import Covered, Period
from streamkeeper.settings import Settings
from streamkeeper_io.closed import read_closed
from streamkeeper_io.lake import arrow_filesystem, read_rows, read_text
from streamkeeper_io.period_files import read_period_rows
from streamkeeper_io.reports import build_report
from streamkeeper_io.store import Store
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.periods import PeriodAnalysis

LOGS = Path(__file__).parents[2] / "include" / "streams" / "logs.yaml"
PER_HOUR = 150 * 3600 // 12  # 150 requests each 12 s
FAULTS = {"malformed": 0.01, "out_of_range": 0.01, "duplicate": 0.01}
FAULTS_TIMED = {"late": {"share": 0.01, "by": "20min"}}

# What the KPIs must be, of the table `requests`. They are written here once more, by hand.
MEASURES = """
    sum(bytes), count(*) filter (status >= 400), count(*) filter (status >= 500),
    count(*) filter (status >= 400) / count(*), count(*) filter (rt_ms > 1000), avg(rt_ms),
    quantile_cont(rt_ms, 0.5), quantile_cont(rt_ms, 0.95), quantile_cont(rt_ms, 0.99)
"""
KPIS = {
    "kpi_by_host": f"""
        select host, count(*) as n, {MEASURES} from requests group by host
        order by n desc, host""",
    "kpi_by_hour": f"""
        select strftime(ts, '%Y-%m-%d'), hour(ts), count(*), count(distinct ip), {MEASURES}
        from requests group by all order by 1, 2""",
    "by_status": """
        select status, count(*) as n from requests group by status order by n desc, status""",
    "top_paths": """
        select path, count(*) as n, sum(bytes), count(*) filter (status >= 400),
            quantile_cont(rt_ms, 0.95)
        from requests group by path order by n desc, path limit 20""",
}
SCHEMA = pa.schema(
    [("ts", pa.timestamp("us")), *((n, pa.string()) for n in ("host", "path", "ip"))]
    + [(n, pa.int64()) for n in ("status", "bytes", "rt_ms")]
)


@pytest.fixture
def counters() -> Iterator[Counters]:
    """A StatsD server that adds up counters."""
    with Counters() as found:
        yield found


@pytest.fixture
def stream(
    spark: SparkSession, settings: Settings, store: Store, tmp_path: Path, counters: Counters
) -> Stream:
    """The declared stream under names of its own, a twelfth of its rate."""
    given = own_names(LOGS)
    simulator = given["producer"]["simulator"]
    simulator |= {"every": "12s", "hours_back": 2, "faults": FAULTS | FAULTS_TIMED}
    here = settings.model_copy(update={"statsd": counters.target})
    return declared_stream(given, spark, here, store, tmp_path)


def produce(stream: Stream, *arguments: Any) -> str:
    """Run a producer to its end; return what it said."""
    kind, *others = arguments
    return run_producer(stream.settings, kind, stream.spec.name, *others)


def request_of(message: bytes) -> dict[str, Any] | None:
    """Return a message as a request, None for what must be quarantined; without Spark."""
    try:
        found = json.loads(message)
        at = datetime.fromisoformat(found["ts"])
    except (ValueError, TypeError, KeyError):
        return None
    number = [found["status"], found["bytes"] or 0, found["rt_ms"] or 0]
    if not 100 <= number[0] <= 599 or min(number) < 0:
        return None
    return found | {"ts": at.astimezone(UTC).replace(tzinfo=None)}


def computed(requests: Sequence[dict[str, Any]], hour: datetime, sql: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB makes of an hour's requests."""
    start = hour.replace(tzinfo=None)
    return computed_of([r for r in requests if start <= r["ts"] < start + HOUR], sql)


def computed_of(own: Sequence[dict[str, Any]], sql: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB makes of requests."""
    with duckdb.connect() as connection:
        connection.register("requests", pa.Table.from_pylist(own, SCHEMA))
        return connection.execute(sql).fetchall()


def visible(stream: Stream, zone: str, hour: datetime) -> list[dict[str, Any]]:
    """Return the rows of a closed hour's file."""
    found = read_closed(stream.settings.lake, closed_file(stream.spec, zone, hour))
    assert found is not None, (zone, hour)
    return found[1].to_pylist()


def check_kpis(stream: Stream, requests: Sequence[dict[str, Any]], hour: datetime) -> None:
    """Every row and figure of every KPI, in the declared order."""
    for kpi, sql in KPIS.items():
        same_rows(visible(stream, kpi_zone(kpi), hour), computed(requests, hour, sql))


def check_csv(stream: Stream, requests: Sequence[dict[str, Any]], hour: datetime) -> None:
    """The top paths as CSV, read by Python's own reader."""
    folder = f"{stream.spec.lake.path}/analytics/top_paths_csv/{names.hour_folder(hour)}"
    same_csv(stream, f"{folder}/part-0.csv", computed(requests, hour, KPIS["top_paths"]))


def same_csv(stream: Stream, path: str, expected: Sequence[tuple[Any, ...]]) -> None:
    """Hold a CSV of top paths against the rows that DuckDB computed."""
    text = read_text(stream.settings.lake, path)
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["path", "requests", "bytes", "errors", "rt_ms_p95"]
    assert [[row[0], *(float(v) if v else None for v in row[1:])] for row in rows] == [
        [row[0], *(v and pytest.approx(v, rel=1e-12) for v in row[1:])] for row in expected
    ]


def check_periods(
    stream: Stream,
    requests: Sequence[dict[str, Any]],
    hours: Sequence[datetime],
    began: datetime,
) -> None:
    """The KPIs of every day that had ended and of everything, of the requests of these hours.

    Parameters: began, when the analysis did; a day may have ended since.
    """
    periods = [Period(), *map(Period, sorted({hour.date() for hour in hours}))]
    for period in periods:
        own = [r for r in requests if period.holds(r["ts"].replace(tzinfo=UTC))]
        revisions = [stream.revision(hour) for hour in hours]
        for kpi, sql in KPIS.items():
            path = period_file(stream.spec, kpi, period)
            found = read_period_rows(stream.settings.lake, path)
            if not period.ended(began):
                assert found is None or period.ended(datetime.now(UTC))
                continue
            assert found is not None, path
            assert found[0] == Covered.of(period, revisions)
            same_rows(found[1].to_pylist(), computed_of(own, sql))
            if kpi == "top_paths":
                same_csv(stream, period_csv(stream.spec, kpi, period), computed_of(own, sql))


def analysis(stream: Stream) -> PeriodAnalysis:
    """An analysis of its own, as a process of its own would have."""
    files = LakeFiles(stream.spark, stream.settings.lake)
    return PeriodAnalysis(stream.spark, Store(stream.settings.store), stream.spec, files)


def counts(stream: Stream) -> tuple[int, int]:
    """Return how many records have landed as valid and how many are quarantined."""
    found = manifests(stream.settings, stream.spec)
    return sum(m.valid for m in found), sum(m.quarantined for m in found)


def counted(said: str, stream: Stream) -> Counter[int]:
    """Return how many requests of each status the driver told of, batch by batch."""
    found: Counter[int] = Counter()
    for line in said.splitlines():
        if line.startswith(f"{stream.spec.name} batch "):
            for told in line.partition("; status ")[2].split(", "):
                status, count = told.split(": ")
                found[int(status)] += int(count.replace(",", ""))
    return found


def check_metrics(stream: Stream, requests: Sequence[dict[str, Any]], counters: Counters) -> None:
    """A file for each batch, and StatsD's counters, of the requests by status."""
    expected = Counter(r["status"] for r in requests)
    found: Counter[int] = Counter()
    landed = [m for m in manifests(stream.settings, stream.spec) if m.read]
    for manifest in landed:
        path = names.metrics_file(stream.spec, manifest.generation, manifest.batch)
        told = json.loads(read_text(stream.settings.lake, path))
        assert (told["valid"], told["quarantined"]) == (manifest.valid, manifest.quarantined)
        assert told["others"] == {"status": 0}
        found.update(dict(told["counts"]["status"]))
    assert found == expected
    base = f"test.streamkeeper.{stream.spec.name}"
    of_status = {f"{base}.status.{status}": n for status, n in expected.items()}
    sums = {f"{base}.batches": len(landed), f"{base}.valid": len(requests)}
    sums[f"{base}.quarantined"] = sum(m.quarantined for m in landed)
    counters.wait_for(of_status | sums)


def test_system_logs(
    stream: Stream, counters: Counters, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, settings = stream.spec, stream.settings
    said = produce(stream, "simulate", "--limit", PER_HOUR * 3 // 2)
    topic = [m.value for m in read_topic(settings, spec.source.kafka.topic)]
    requests = [r for r in map(request_of, topic) if r is not None]
    broken = len(topic) - len(requests)
    assert len(topic) > PER_HOUR * 3 // 2, "some were sent twice"
    assert 0 < broken < len(topic) // 30
    assert f"sent {len(topic):,}, acknowledged {len(topic):,}" in said
    capsys.readouterr()
    stream.land()
    assert counts(stream) == (len(requests), broken)
    assert counted(capsys.readouterr().out, stream) == Counter(r["status"] for r in requests)
    check_metrics(stream, requests, counters)
    # The two hours that were made, and the one into which late requests fall back.
    hours = sorted({hour_of(r["ts"].replace(tzinfo=UTC)) for r in requests})
    assert len(hours) == 3
    stream.look(*hours)
    assert [r.state for r in stream.close(*hours)] == ["complete"] * 3
    for hour in hours:
        check_kpis(stream, requests, hour)
        check_csv(stream, requests, hour)
    check_enriched(stream, requests, hours[1])
    check_layout(stream, hours[1])
    check_repeated_analysis(stream, requests, hours)
    report = build_report(settings, stream.store, spec, stream.revision(hours[1])).markdown
    assert f"{len(visible(stream, CURATED, hours[1])):,} readings" in report
    for heading in ("Kpi by host", "Kpi by hour", "By status", "Top paths"):
        assert f"## {heading}" in report


def check_repeated_analysis(
    stream: Stream, requests: Sequence[dict[str, Any]], hours: Sequence[datetime]
) -> None:
    """Only what is due is computed; the same hours give the same bytes; an older run is fenced."""
    began = datetime.now(UTC)
    first = analysis(stream).run()
    assert [c.period for c in first][-1] == "all"
    assert set(first[-1].hours()) == set(hours)
    check_periods(stream, requests, hours, began)
    again = {covered.period for covered in analysis(stream).run()}
    ended = {Period(began.date())} if datetime.now(UTC).date() > began.date() else set()
    assert again <= ended, "only a day that has ended meanwhile is due again"
    paths = [period_file(stream.spec, kpi, Period()) for kpi in KPIS]
    lake = arrow_filesystem(stream.settings.lake)
    before = [lake.open_input_file(path).readall() for path in paths]
    older = analysis(stream)
    moved = older._move

    def taken_over(*arguments: Any) -> None:
        assert analysis(stream).run(Period()) == [first[-1]]
        # As a run does that froze after its last look at the lock.
        older._refuse_overtaken = lambda epoch: None  # type: ignore[method-assign]
        moved(*arguments)

    older._move = taken_over  # type: ignore[method-assign]
    with pytest.raises(Fenced, match="a newer run"):
        older.run(Period())
    assert [lake.open_input_file(path).readall() for path in paths] == before
    with pytest.raises(StreamkeeperError, match="no hour of the period 2020-01-01 has been closed"):
        analysis(stream).run(Period(date(2020, 1, 1)))
    assert (
        LakeFiles(stream.spark, stream.settings.lake).names(
            f"{stream.spec.lake.path}/analytics/_tmp"
        )
        == []
    )


def check_enriched(stream: Stream, requests: Sequence[dict[str, Any]], hour: datetime) -> None:
    """The derived columns of every row, and the rows themselves."""
    rows = visible(stream, CURATED, hour)
    fields = list(stream.spec.fields)
    start = hour.replace(tzinfo=None)
    own = [r for r in requests if start <= r["ts"] < start + HOUR]

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row["ts"].replace(tzinfo=UTC) if n == "ts" else row[n] for n in fields)

    assert Counter(map(key, rows)) == Counter(map(key, own))
    for row in rows:
        assert row["event_day"] == f"{hour:%Y-%m-%d}"
        assert row["event_hour"] == hour.hour
        assert row["status_class"] == f"{row['status'] // 100}xx"
        assert row["is_error"] == (row["status"] >= 400)
        assert row["is_slow"] == (row["rt_ms"] > 1000)


def check_layout(stream: Stream, hour: datetime) -> None:
    """Users find the files where system 4 had them."""
    path, lake = stream.spec.lake.path, stream.settings.lake
    place = f"dt={hour:%Y-%m-%d}/hour={hour:%H}"
    assert closed_file(stream.spec, CURATED, hour).startswith(f"{path}/curated/{place}/")
    for kpi in ("kpi_by_host", "kpi_by_hour", "top_paths"):
        folder = f"{path}/analytics/{kpi}"
        table = ds.dataset(folder, filesystem=arrow_filesystem(lake), partitioning="hive")
        assert table.count_rows(filter=ds.field("hour") == hour.hour) > 0
    assert names.checkpoint_path(stream.spec, names.LAND).startswith(f"{path}/_chk/")


def request_of_line(line: bytes) -> dict[str, Any] | None:
    """Read a line of the log by its brackets and quotation marks; None if it is cut off."""
    text = line.decode()
    if not text.endswith('"'):
        return None
    client, _, rest = text.partition(" ")
    stamp, _, rest = rest.partition("[")[2].partition("] ")
    _, asked, rest = rest.split('"', 2)
    status, size = rest.split('"')[0].split()
    at = datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC).replace(tzinfo=None)
    return {
        **{"ts": at, "host": None, "path": asked.split()[1], "ip": client, "rt_ms": None},
        **{"status": int(status), "bytes": None if size == "-" else int(size)},
    }


# 84 hours are closed at once.
@pytest.mark.timeout(900)
def test_a_real_access_log(stream: Stream) -> None:
    lines = real_lines()
    file = stream.folder / "access.log"
    file.write_bytes(b"\n".join(lines) + b"\n")
    said = produce(stream, "replay", file)
    assert "records read 10,000 (1 malformed" in said
    requests = [r for r in map(request_of_line, lines) if r is not None]
    assert len(requests) == 9_999
    stream.land()
    assert counts(stream) == (9_999, 1)
    check_quarantine(stream, lines[8898])
    per_hour = Counter(hour_of(r["ts"].replace(tzinfo=UTC)) for r in requests)
    hours = sorted(per_hour)
    assert hours[-1] - hours[0] > timedelta(days=3)
    assert [r["ts"] for r in requests] != sorted(r["ts"] for r in requests), "out of order"
    stream.look(*hours)
    revisions = stream.close(*hours)
    assert {r.state for r in revisions} == {"complete"}
    assert {r.hour: r.counts["valid"] for r in revisions} == per_hour
    for hour in hours:
        check_kpis(stream, requests, hour)
        check_csv(stream, requests, hour)
    began = datetime.now(UTC)
    analysis(stream).run()
    check_periods(stream, requests, hours, began)
    # Nulls are told as such.
    told = build_report(stream.settings, stream.store, stream.spec, stream.revision(hours[0]))
    assert "| – |" in told.markdown
    # Whoever reads all of a KPI's folder has every request.
    folder = f"{stream.spec.lake.path}/analytics/kpi_by_hour"
    everything = ds.dataset(
        folder, filesystem=arrow_filesystem(stream.settings.lake), partitioning="hive"
    )
    table = everything.to_table(["requests", "bytes"])
    assert sum(table["requests"].to_pylist()) == 9_999
    assert sum(table["bytes"].to_pylist()) == sum(r["bytes"] or 0 for r in requests) > 10**6


def check_quarantine(stream: Stream, line: bytes) -> None:
    """The line that is cut off is kept with its bytes."""
    folder = names.raw_path(stream.spec)
    found = manifests(stream.settings, stream.spec)
    paths = [f"{folder}/batch={m.generation}-{m.batch}/{name}" for m in found for name in m.files]
    rows = [row for t in read_rows(stream.settings.lake, paths) for row in t.to_pylist()]
    (bad,) = [row for row in rows if row["_errors"]]
    assert bad["_value"] == line
    assert [text.partition(": ")[0] for text in bad["_errors"]] == ["parse:json"]
