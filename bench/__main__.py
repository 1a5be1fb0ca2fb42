"""Runs the measurements and keeps their results.

`python -m bench` runs all rows; `python -m bench landing dagbag_100` runs some. Rows that were not
run keep their last result in bench/results.json, each with the date of its run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.rows import Row

RESULTS = Path(__file__).with_name("results.json")
# Row -> module; each module has `measure(short: bool) -> list[Row]`.
MEASUREMENTS = {
    "check_100": "bench.check",
    "dagbag_100": "bench.dagbag",
    "cassandra_writes": "bench.cassandra_writes",
    "cassandra_read": "bench.cassandra_read",
    "postgres_writes": "bench.postgres_writes",
    "landing": "bench.landing",
    "landing_checks": "bench.landing_checks",
    "landing_logs": "bench.landing_logs",
    "delta_landing": "bench.delta_landing",
    "kpis_20m": "bench.kpis",
    "replay": "bench.replay",
    "show": "bench.show",
    "dashboard_paint": "bench.dashboard_paint",
    "freshness_p99": "bench.freshness",
    "first_report_mail": "bench.demo",
    "weather_whole": "bench.whole_weather",
}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table for the terminal."""
    drawn = Table("name", "value", "unit", "baseline", "ratio", "goal", "met", "note")
    for row in rows:
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        figures = [
            "" if row[k] is None else f"{row[k]:,.3g}" if abs(row[k]) < 1000 else f"{row[k]:,.0f}"
            for k in ("value", "baseline", "ratio")
        ]
        drawn.add_row(
            row["name"], figures[0], row["unit"], *figures[1:], row["goal"] or "", met, row["note"]
        )
    return drawn


def save(rows: list[Row]) -> list[dict[str, Any]]:
    """Merge the rows into bench/results.json and return all of them."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    kept = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    by_name = {row["name"]: row for row in kept}
    by_name |= {row.name: row.dump() | {"date": date} for row in rows}
    merged = list(by_name.values())
    results = {"rows": merged, "date": date, "machine": machine()}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return merged


def main() -> int:
    """Measure what is asked for; return 0 when every measured goal was met, else 1.

    Small sizes tell nothing of a goal; with `--short` only a measurement that fails counts.
    """
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], metavar="NAME")
    parser.add_argument(
        "--short",
        action="store_true",
        help="small sizes, to see that all of it runs; nothing is saved",
    )
    arguments = parser.parse_args()
    # So that a measurement that is ended ends its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console()
    rows: list[Row] = []
    for name in arguments.names or MEASUREMENTS:
        console.print(f"measuring {name} ...")
        found = importlib.import_module(MEASUREMENTS[name]).measure(arguments.short)
        rows += found
        console.print(table([row.dump() for row in found]))
        if not arguments.short:
            save(found)
    return 0 if arguments.short or all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
