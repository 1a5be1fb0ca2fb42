"""`check_100`: how long `streamkeeper check` takes for 100 declarations."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.rows import Row

GOAL_S = 2.0
_ROOT = Path(__file__).parents[1]
_SMALL = _ROOT / "include" / "streams" / "temperature.yaml"
_LARGE = _ROOT / "tests" / "streams" / "everything.yaml"
_BASELINE = """
import sys, yaml
from pathlib import Path
for path in Path(sys.argv[1]).glob("*.yaml"):
    yaml.safe_load(path.read_text(encoding="utf-8"))
"""


def measure(short: bool) -> list[Row]:
    """Check 100 declarations (10 when short) in fresh processes; the median of five.

    Nine in ten are like a usual one, one in ten has every key; no two have an expression in common.
    """
    count = 10 if short else 100
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder) / "streams"
        streams.mkdir()
        for i in range(count):
            source = _LARGE if i % 10 == 0 else _SMALL
            (streams / f"stream_{i:03d}.yaml").write_text(_unlike(source, i), encoding="utf-8")
        command = [sys.executable, "-m", "streamkeeper_apps.cli", "check"]
        bare = [sys.executable, "-c", _BASELINE, str(streams)]
        times = [(_run(command, streams), _run(bare, streams)) for _ in range(1 if short else 5)]
    value, baseline = (statistics.median(column) for column in zip(*times, strict=True))
    return [
        Row(
            f"check_{count}",
            value,
            "s",
            baseline=baseline,
            ratio=value / baseline,
            bound="at most",
            goal=GOAL_S,
            of="value",
            note="the command from its start to its end; baseline: yaml.safe_load of the files",
        )
    ]


def _unlike(source: Path, number: int) -> str:
    """Return a declaration with names of its own, so that nothing of another's serves it."""
    text = source.read_text(encoding="utf-8")
    text = re.sub(r"\btemperature\b", f"temperature_{number}", text)
    text = re.sub(r"(topic: |table: |path: /)([a-z_-]+)", rf"\g<1>s{number}_\2", text)
    return re.sub(r"\bhumidity\b", f"humidity_{number}", text)


def _run(command: list[str], streams: Path) -> float:
    began = time.perf_counter()
    env = os.environ | {"STREAMKEEPER_STREAMS": str(streams)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0 or (done.stdout and "; 0 mistakes" not in done.stdout):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return seconds
