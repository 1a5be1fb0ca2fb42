"""Computes KPIs of days and of everything from the closed hours of a stream.

`spark-submit spark_apps/analyse_periods.py --stream NAME [--period day --day 2026-11-24]`

Without a period, all that are due. Settings come from the environment (STREAMKEEPER_...). The exit
code: 0 done, 75 something outside is away, 77 a newer run took over, 78 two records of one fact
differ, 1 anything else, such as a period without closed hours.
"""

from __future__ import annotations

import argparse
import logging

from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.periods import Period, read_period
from streamkeeper.redaction import redact_logs
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_io.store import Store
from streamkeeper_spark.entry import leave, report_failure, speak_utf8
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.periods import PeriodAnalysis
from streamkeeper_spark.session import running_session

log = logging.getLogger("streamkeeper.analyse_periods")


def _analyse(stream: str, period: Period | None) -> None:
    settings = Settings.from_environment()
    redact_logs(settings.secrets())
    spec = load_spec(settings.streams / f"{stream}.yaml")
    store = Store(settings.need("store"))
    with running_session(settings, f"streamkeeper periods {stream}") as spark:
        files = LakeFiles(spark, settings.need("lake"))
        for covered in PeriodAnalysis(spark, store, spec, files).run(period):
            log.info("%s covers %d closed hours", covered.period, len(covered.hours()))


def main() -> int:
    """Analyse; return the exit code."""
    parser = argparse.ArgumentParser(prog="analyse_periods.py", description=__doc__)
    parser.add_argument("--stream", required=True, metavar="NAME")
    parser.add_argument("--period", default="", choices=["", "day", "all"])
    parser.add_argument("--day", default="", metavar="DAY")
    options = parser.parse_args()
    speak_utf8(logging.INFO)
    try:
        asked = options.period or options.day
        period = read_period(options.period or "day", options.day) if asked else None
        _analyse(options.stream, period)
    except Exception as error:
        return report_failure(log, error)
    return EXIT_DRAINED


if __name__ == "__main__":
    leave(main())
