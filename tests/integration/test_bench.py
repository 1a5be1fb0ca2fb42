"""The measurements run, in their short form and on the run's servers; no figure is asserted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from bench.__main__ import MEASUREMENTS
from bench.servers import RUNNING_VARIABLE
from drivers import CHECKOUT

from streamkeeper.settings import Settings

# The demo and the whole weather have no short form that is short; other tests run their parts.
# Spark's own Delta sink needs jars that nothing else does.
LONG = ("first_report_mail", "weather_whole", "delta_landing")


@pytest.mark.timeout(900)
def test_every_measurement_runs(settings: Settings) -> None:
    wanted = [name for name in MEASUREMENTS if name not in LONG]
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--short", *wanted],
        cwd=CHECKOUT,
        env=os.environ | settings.environment() | {RUNNING_VARIABLE: "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    for name in wanted:
        assert f"measuring {name}" in run.stdout
