"""All of the real weather through every part, by the test that replays twelve days of it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from bench.rows import Row

ROOT = Path(__file__).parents[1]
TEST = "tests/integration/test_replay_weather.py"


def measure(short: bool) -> list[Row]:
    """Replay, land and close the files; raise CalledProcessError unless every figure is equal."""
    folder = ROOT / ".local" / "tests" / f"weather-{secrets.token_hex(4)}"
    report = folder / "report.xml"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pytest", "-q", TEST, f"--junitxml={report}"]
    whole = {} if short else {"STREAMKEEPER_TEST_WHOLE": "1"}
    began = time.monotonic()
    try:
        subprocess.run(
            [*command, f"--basetemp={folder / 'tmp'}"],
            cwd=ROOT,
            env=os.environ | whole,
            check=True,
        )
        suite = ElementTree.parse(report).find("testsuite")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert suite is not None
    told = {p.attrib["name"]: int(p.attrib["value"]) for p in suite.iter("property")}
    return [
        Row(
            name="weather_whole",
            value=told["hours"],
            unit="hours",
            note=f"{told['rows']:,} rows of three files landed and closed, every hour equal to "
            f"DuckDB's account of it, in {time.monotonic() - began:,.0f} s",
        )
    ]
