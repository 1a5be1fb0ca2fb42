"""All streams at their own rates, at most two drivers; `make soak` runs it for 15 minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from drivers import Drivers
from rich.console import Console
from soaking import Soak, grown, soaked_streams, tables

MINUTES = float(os.environ.get("STREAMKEEPER_SOAK_MINUTES", "0.5"))
# Before that classes are loaded and code is compiled.
FLAT_FROM_MINUTES = 5
FLAT = 1.1
STUCK_S = 90


@pytest.mark.timeout(600 + 120 * MINUTES)
def test_all_streams_run_beside_each_other(drivers: Drivers, tmp_path: Path) -> None:
    """Nothing is stuck, nothing is lost, and memory stays flat."""
    settings = drivers.settings
    soak = Soak(drivers, settings, tmp_path, soaked_streams(settings))
    try:
        soak.start()
        soak.watch(60 * MINUTES)
        soak.finish()
    finally:
        soak.end()
    console = Console(width=160)
    for table in tables(soak):
        console.print(table)
    assert len(soak.running) <= 2
    for one in soak.watched:
        assert one.sent == one.landed > 0, one
        assert one.longest_s < STUCK_S, one
    if MINUTES >= FLAT_FROM_MINUTES:
        for (app, kind), looks in soak.memory.items():
            assert len(looks) >= 3, (app, kind)
            before, after = grown(looks)
            assert after <= FLAT * before, f"{app}, {kind}: {before:.0f} MiB, later {after:.0f} MiB"
