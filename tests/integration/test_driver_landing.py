"""The driver from Kafka to the lake and to Cassandra, with real servers."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import Any

from drivers import Drivers, end_offsets, landed, manifests, send, wait_for
from readings import assert_nothing_lost_or_doubled, reading, temperature
from sinks import check_sink

from streamkeeper import names
from streamkeeper.launches import EXIT_CHECK, EXIT_DISAGREEMENT, EXIT_DRAINED, EXIT_UNAVAILABLE
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io import cassandra, processes
from streamkeeper_io.lake import folder_names, hdfs_client, read_rows, read_text
from streamkeeper_spark.sinks.cassandra import CassandraWindows

BAD = [b"no JSON", None, reading(1).replace(b"Rabat", b"Atlantis"), b'{"sensor_id": 5}']


def lake_rows(settings: Settings, spec: Spec) -> list[dict[str, Any]]:
    """Return all published raw rows."""
    found = []
    for m in manifests(settings, spec):
        folder = f"{names.raw_path(spec)}/batch={m.generation}-{m.batch}"
        for table in read_rows(settings.lake, [f"{folder}/{n}" for n in m.files]):
            found += table.to_pylist()
    return found


def table_rows(settings: Settings, spec: Spec) -> dict[tuple[str, datetime], Any]:
    """Return the rows of the stream's Cassandra table."""
    (sink,) = [s for s in spec.sinks if isinstance(s, CassandraSink)]
    with cassandra.session(settings.cassandra) as session:
        found = session.execute(f"select * from {sink.keyspace}.{sink.table}")
        return {(r.city, r.window_start.replace(tzinfo=UTC)): r for r in found}


def times(settings: Settings, spec: Spec) -> set[tuple[Any, ...]]:
    """Return the write timestamps of the stream's Cassandra table."""
    (sink,) = [s for s in spec.sinks if isinstance(s, CassandraSink)]
    with cassandra.session(settings.cassandra) as session:
        columns = "city, window_start, writetime(avg_temp), writetime(num_readings)"
        found = session.execute(f"select {columns} from {sink.keyspace}.{sink.table}")
        return {tuple(row) for row in found}


def test_temperature_from_topic_to_table(drivers: Drivers, settings: Settings) -> None:
    spec = temperature(settings)
    topic = spec.source.kafka.topic
    send(settings, topic, [reading(n) for n in range(2000)] + BAD)
    driver = drivers.start([spec])
    wait_for(lambda: landed(settings, spec) == 2004, "2,004 landed rows")
    send(settings, topic, [reading(n) for n in range(1000)])
    wait_for(lambda: landed(settings, spec) == 3004, "3,004 landed rows")
    sink = f"{spec.name}/cassandra:{spec.sinks[0].keyspace}.{spec.sinks[0].table}"  # type: ignore[union-attr]

    def settled() -> bool:
        window = driver.progress("queries", f"{spec.name}/window_city_30s")
        offsets = {int(p): n for p, n in window.get("offsets", {}).items()}
        return offsets == end_offsets(settings, spec) and driver.progress("sinks", sink)["lag"] == 0

    wait_for(settled, "the windows of all readings in Cassandra")
    assert driver.progress("sinks", sink)["state"] == "ok"
    assert driver.row().progress["ui"].startswith("http://")
    driver.signal(signal.SIGTERM)
    assert driver.exit_code() == EXIT_DRAINED
    assert driver.row().exit_code == EXIT_DRAINED

    # What landed is what was sent.
    assert_nothing_lost_or_doubled(settings, spec)
    rows = lake_rows(settings, spec)
    found = manifests(settings, spec)
    quarantined = [r for r in rows if r["_errors"]]
    assert sorted(r["_value"] or b"" for r in quarantined) == sorted(v or b"" for v in BAD)
    assert sum(m.quarantined for m in found) == 4
    assert sum(sum(m.hours.values()) for m in found) == 3000 == sum(m.valid for m in found)
    assert {r for m in found for r in m.quarantined_by_rule} >= {"parse:json", "parse:empty"}
    assert min(m.first_event for m in found if m.first_event) == min(
        r["_event_time"] for r in rows if not r["_errors"]
    )
    for m in found:
        assert m.write_number // 10**9 == m.epoch == driver.launch.epoch
    # The console printed rows of both kinds.
    assert "raw, console batch" in driver.log
    assert "city_30s, batch" in driver.log

    (declared,) = [s for s in spec.sinks if isinstance(s, CassandraSink)]
    windows = CassandraWindows(spec, declared, settings, settings.lake)
    batches = manifests(settings, spec, "city_30s")
    check_sink(windows, spec, batches, lambda: (table_rows(settings, spec), times(settings, spec)))
    check_repeated_batch(drivers, settings, spec)
    check_disagreement(drivers, settings, spec)


def checkpoint_of(settings: Settings, spec: Spec, query: str) -> str:
    """Return the newest checkpoint's path."""
    root = names.checkpoint_path(spec, query)
    (generation,) = [n for n in folder_names(settings.lake, root) if n[0] != "_"]
    epochs = [n for n in folder_names(settings.lake, f"{root}/{generation}") if n[0] == "e"]
    return f"{root}/{generation}/{max(epochs, key=lambda e: int(e[1:]))}"


def forget_last_commit(settings: Settings, spec: Spec, query: str) -> int:
    """Delete the last entry of a query's commit log, as if it had died before writing it."""
    folder = f"{checkpoint_of(settings, spec, query)}/commits"
    last = max(int(n) for n in folder_names(settings.lake, folder) if n.isdigit())
    hdfs_client(settings.lake).delete(f"{folder}/{last}", False)
    return last


def check_repeated_batch(drivers: Drivers, settings: Settings, spec: Spec) -> None:
    """A batch that was published and not committed is done again, and changes nothing."""
    before = manifests(settings, spec), manifests(settings, spec, "city_30s")
    table = table_rows(settings, spec)
    last = forget_last_commit(settings, spec, "land")
    last_window = forget_last_commit(settings, spec, "window_city_30s")
    driver = drivers.start([spec])
    for query, batch in (("land", last), ("window_city_30s", last_window)):
        folder = lambda q=query: f"{checkpoint_of(settings, spec, q)}/commits"  # noqa: E731
        wait_for(
            lambda f=folder, b=batch: str(b) in folder_names(settings.lake, f()),
            f"batch {batch} of {query} to be committed again",
        )
    drivers.store.request_stop(driver.launch.epoch, "the test")
    assert driver.exit_code() == EXIT_DRAINED
    assert (manifests(settings, spec), manifests(settings, spec, "city_30s")) == before
    assert table_rows(settings, spec) == table


def check_disagreement(drivers: Drivers, settings: Settings, spec: Spec) -> None:
    """A checkpoint that tells another span than the published batch stops the stream."""
    last = forget_last_commit(settings, spec, "land")
    path = f"{checkpoint_of(settings, spec, 'land')}/offsets/{last}"
    version, metadata, _ = read_text(settings.lake, path).splitlines()
    end = end_offsets(settings, spec)
    newest = max(manifests(settings, spec), key=lambda m: m.batch)
    # One offset less, of a partition that the batch read from: never before the batch's start.
    partition, (_, stop) = next(iter(newest.span.items()))
    end[partition] = stop - 1
    other = json.dumps({spec.source.kafka.topic: end})
    client = hdfs_client(settings.lake)
    client.delete(path, False)
    with client.create(path) as file:
        file.write(f"{version}\n{metadata}\n{other}".encode())
    before = manifests(settings, spec)
    driver = drivers.start([spec])
    assert driver.exit_code() == EXIT_DISAGREEMENT
    reason = driver.row().reason
    assert "but the checkpoint" in reason
    assert "nothing was changed" in reason
    assert manifests(settings, spec) == before


def test_a_check_that_ends_the_stream_ends_the_driver(drivers: Drivers, settings: Settings) -> None:
    data = temperature(settings, windows=False).dump()
    data["checks"] = [{"name": "dry", "expect": "humidity < 90", "on_fail": "fail"}]
    spec = Spec.model_validate(data)
    send(settings, spec.source.kafka.topic, [reading(n) for n in range(95)])
    driver = drivers.start([spec])
    assert driver.exit_code() == EXIT_CHECK
    told = driver.row().reason
    assert "5 records broke the check dry (expected humidity < 90)" in told
    assert "Correct the sender or the check (on_fail)" in told
    assert landed(settings, spec) == 0
    data["checks"][0]["on_fail"] = "quarantine"
    corrected = drivers.start([Spec.model_validate(data)], trigger="availableNow")
    assert corrected.exit_code() == EXIT_DRAINED
    assert [m.quarantined_by_rule for m in manifests(settings, spec)] == [{"check:dry": 5}]
    assert_nothing_lost_or_doubled(settings, spec)


def test_servers_away_at_the_start(
    drivers: Drivers, settings: Settings, unused_address: str
) -> None:
    """Each is told with its address and the next step, and the exit code says: try again."""
    away = {
        "lake": (f"hdfs://{unused_address}", "the lake at {} does not answer"),
        "kafka": (unused_address, "Kafka at {} does not answer"),
    }
    started = {}
    for name, (address, _) in away.items():
        drivers.settings = settings.model_copy(update={name: address})
        spec = temperature(settings, windows=False)
        started[name] = drivers.start([spec], start_wait_s=20)
    for name, (address, message) in away.items():
        driver = started[name]
        assert driver.exit_code() == EXIT_UNAVAILABLE
        reason = driver.row().reason
        assert message.format(address) in reason
        assert "`make up`" in reason
        assert "the next try is in" in driver.log
        assert not processes.launch_processes(driver.process, driver.folder)
