"""Twenty kills of the driver at random moments, under load, with all sinks on."""

from __future__ import annotations

import os
import time

import pytest
from drivers import Drivers, landed, manifests, wait_for
from faults import (
    WINDOW,
    all_sinks,
    assert_stores_equal_lake,
    drain_when_all_is_done,
    kill_at_random,
    load,
)

from streamkeeper.settings import Settings

KILLS = int(os.environ.get("STREAMKEEPER_CHAOS_KILLS", "20"))
SEED = int(os.environ.get("STREAMKEEPER_CHAOS_SEED", "4"))


@pytest.mark.timeout(1800)
def test_twenty_random_kills(drivers: Drivers, settings: Settings) -> None:
    spec = all_sinks(settings)
    began = time.monotonic()
    with load(settings, spec) as sent:
        kills = kill_at_random(drivers, settings, spec, KILLS, SEED)
        last = drivers.start([spec])
        wait_for(lambda: last.progress("queries", f"{spec.name}/land").get("rows", 0) > 0, "rows")
    drain_when_all_is_done(last, drivers, settings, spec)
    assert_stores_equal_lake(drivers, settings, spec)
    raw, windows = manifests(settings, spec), manifests(settings, spec, WINDOW)
    for kill in kills:
        print(f"launch {kill.epoch}: killed after {kill.seconds} s, {kill.batches} batches")
    print(
        f"seed {SEED}: {len(kills)} kills in {time.monotonic() - began:.0f} s; sent {sent[0]:,}, "
        f"landed {landed(settings, spec):,} in {len(raw)} batches of "
        f"{len({m.epoch for m in raw})} launches, {len(windows)} window batches"
    )
