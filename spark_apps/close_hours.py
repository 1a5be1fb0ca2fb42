"""Closes hours: `spark-submit spark_apps/close_hours.py --stream NAME --hours 2026-11-24T12,...`.

All hours are closed in one session; what was closed before and has new rows gets a new revision.
Settings come from the environment (STREAMKEEPER_...). The exit code: 0 closed, 75 something
outside is away, 78 two records of one fact differ, 1 anything else, such as another close that
was faster.
"""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime

from streamkeeper.hours import HOUR
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import format_hour, parse_hour
from streamkeeper.redaction import redact_logs
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_io.store import Store
from streamkeeper_spark.close import Close
from streamkeeper_spark.entry import leave, report_failure, speak_utf8
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.session import running_session

log = logging.getLogger("streamkeeper.close_hours")


def _hours(text: str) -> list[datetime]:
    """Read `2026-11-24T12,2026-11-24T13`; an hour that has not ended is refused."""
    hours = [parse_hour(part.strip()) for part in text.split(",")]
    for hour in hours:
        if hour + HOUR > datetime.now(UTC):
            raise argparse.ArgumentTypeError(f"the hour {format_hour(hour)} has not ended yet")
    return hours


def _close(stream: str, hours: list[datetime]) -> None:
    settings = Settings.from_environment()
    redact_logs(settings.secrets())
    spec = load_spec(settings.streams / f"{stream}.yaml")
    store = Store(settings.need("store"))
    # Hours are written one after the other, each sorted, so each file is open alone.
    alone = {"spark.sql.maxConcurrentOutputFileWriters": "0"}
    with running_session(settings, f"streamkeeper close {stream}", alone) as spark:
        Close(spark, settings, spec, store, LakeFiles(spark, settings.need("lake"))).run(hours)


def main() -> int:
    """Close the hours; return the exit code."""
    parser = argparse.ArgumentParser(prog="close_hours.py", description=__doc__)
    parser.add_argument("--stream", required=True, metavar="NAME")
    parser.add_argument("--hours", required=True, type=_hours, metavar="HOUR,...")
    options = parser.parse_args()
    speak_utf8(logging.INFO)
    try:
        _close(options.stream, options.hours)
    except Exception as error:
        return report_failure(log, error)
    return EXIT_DRAINED


if __name__ == "__main__":
    leave(main())
