"""`make demo` until its first report mail, and the memory that all of it takes."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path

from bench.rows import Row

ROOT = Path(__file__).parents[1]
_MAIL_S = 240.0
_MEMORY_GIB = 8.0


def measure(short: bool) -> list[Row]:
    """Run the demo on an empty folder; without `short` also in a fresh clone with nothing there."""
    folder = ROOT / ".local" / "bench" / secrets.token_hex(4)
    try:
        told = _demo(folder)
        cold = "" if short else f"; {_cold(folder / 'clone'):.0f} s with nothing present"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    note = f"servers up after {told['servers_up_s']:.0f} s{cold}"
    return [
        Row(
            name="first_report_mail",
            value=told["first_report_mail_s"],
            unit="s",
            bound="at most",
            goal=_MAIL_S,
            note=note,
        ),
        Row(
            name="demo_memory",
            value=told["memory_gib"],
            unit="GiB",
            bound="at most",
            goal=_MEMORY_GIB,
            note="the most PSS of all processes, seen every 10 s",
        ),
    ]


def _demo(folder: Path) -> dict[str, float]:
    """Run the demo as `make demo` does, on an empty root; return its timings."""
    command = [str(ROOT / ".venv" / "bin" / "streamkeeper"), "local", "demo", "--once"]
    options = ["--root", str(folder / "demo"), "--jars", str(ROOT / ".local" / "jars")]
    subprocess.run([*command, *options], cwd=ROOT, check=True)
    return json.loads((folder / "demo" / "demo.json").read_text())


def _cold(clone: Path) -> float:
    """Return the seconds from `make demo` in a fresh clone to the first mail."""
    clone.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    began = time.time()
    subprocess.run(["make", "demo", "ARGS=--once"], cwd=clone, check=True)
    told = json.loads((clone / ".local" / "demo.json").read_text())
    return datetime.fromisoformat(told["began"]).timestamp() - began + told["first_report_mail_s"]
