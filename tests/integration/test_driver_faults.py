"""Crashes, freezes and servers that go away under a running driver."""

from __future__ import annotations

from drivers import Drivers, landed, send, wait_for
from faults import (
    all_sinks,
    assert_stores_equal_lake,
    drain_when_all_is_done,
    kill_at_random,
    load,
)
from freezes import Relay
from readings import reading, temperature

from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.settings import Settings
from streamkeeper_apps.local.stack import LocalStack


def test_killed_under_load_twice(drivers: Drivers, settings: Settings) -> None:
    """The short form of tests/chaos/test_random_kills.py."""
    spec = all_sinks(settings)
    with load(settings, spec):
        kill_at_random(drivers, settings, spec, kills=2, seed=3)
        last = drivers.start([spec])
        wait_for(lambda: last.progress("queries", f"{spec.name}/land").get("rows", 0) > 0, "rows")
    drain_when_all_is_done(last, drivers, settings, spec)
    assert_stores_equal_lake(drivers, settings, spec)


def test_frozen_drivers_change_nothing(drivers: Drivers, settings: Settings) -> None:
    """The short form of tests/chaos/test_freezes.py."""
    relay = Relay(drivers, settings)
    relay.go_through(["land.write:within", "sink.request:after:2+delta_sink.commit:before"])


def test_cassandra_away_and_back(drivers: Drivers, settings: Settings, stack: LocalStack) -> None:
    spec = temperature(settings)
    sink = f"{spec.name}/cassandra:{spec.sinks[0].keyspace}.{spec.sinks[0].table}"  # type: ignore[union-attr]
    driver = drivers.start([spec])
    send(settings, spec.source.kafka.topic, [reading(n) for n in range(100)])
    wait_for(lambda: driver.progress("sinks", sink).get("rows", 0) > 0, "rows in Cassandra")
    stack.kill("cassandra")
    try:
        send(settings, spec.source.kafka.topic, [reading(n) for n in range(200)])
        wait_for(lambda: driver.progress("sinks", sink)["state"] == "behind", "the sink behind")
        assert "Cassandra at" in driver.progress("sinks", sink)["error"]
        assert driver.progress("sinks", sink)["lag"] > 0
        send(settings, spec.source.kafka.topic, [reading(n) for n in range(300)])
        wait_for(lambda: landed(settings, spec) == 600, "landing to go on")
    finally:
        stack.start("cassandra")
    wait_for(
        lambda: (p := driver.progress("sinks", sink))["state"] == "ok" and p["lag"] == 0,
        "the sink to have caught up",
    )
    drivers.store.request_stop(driver.launch.epoch, "the test")
    assert driver.exit_code() == EXIT_DRAINED
    assert_stores_equal_lake(drivers, settings, spec)


def test_store_away_and_back(drivers: Drivers, settings: Settings, stack: LocalStack) -> None:
    spec = temperature(settings, windows=False)
    driver = drivers.start([spec])
    send(settings, spec.source.kafka.topic, [reading(n) for n in range(100)])
    wait_for(lambda: landed(settings, spec) == 100, "the first rows")
    stack.stop("postgres")
    try:
        wait_for(lambda: "the store is away" in driver.log, "the driver to notice")
        send(settings, spec.source.kafka.topic, [reading(n) for n in range(200)])
        wait_for(lambda: landed(settings, spec) == 300, "landing to go on")
    finally:
        stack.start("postgres")
    wait_for(
        lambda: driver.progress("queries", f"{spec.name}/land").get("rows") == 300, "the heartbeat"
    )
    drivers.store.request_stop(driver.launch.epoch, "the test")
    assert driver.exit_code() == EXIT_DRAINED
