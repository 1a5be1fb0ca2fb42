"""Analyses a stream's Cassandra table and holds it against the lake.

`spark-submit spark_apps/analyse_table.py --stream NAME --hours 2026-11-24T12,... --key sensor_id=3`

The stream's KPIs are computed from the table and compared with those of the closed hours; without
`--hours`, of the last one. Prints the result and keeps it as a file. Settings come from the
environment (STREAMKEEPER_...). The exit code: 0 equal, 78 different, 75 something outside is away,
1 anything else, such as an hour that is not closed.
"""

from __future__ import annotations

import argparse
import logging
from datetime import datetime
from pathlib import Path

from streamkeeper.analysis import Analysis, to_markdown
from streamkeeper.errors import StreamkeeperError
from streamkeeper.launches import EXIT_DISAGREEMENT, EXIT_DRAINED
from streamkeeper.names import analysis_file, parse_hour
from streamkeeper.redaction import redact_logs
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.store import Store
from streamkeeper_spark.analysis import (
    TableAnalysis,
    closed_revisions,
    read_key,
)
from streamkeeper_spark.entry import leave, report_failure, speak_utf8
from streamkeeper_spark.session import running_session

log = logging.getLogger("streamkeeper.analyse_table")


def _hours(text: str) -> list[datetime]:
    return [parse_hour(part.strip()) for part in text.split(",") if part.strip()]


def _sink(spec: Spec, table: str) -> CassandraSink:
    known = spec.raw_tables()
    if not known or (table and table not in known):
        raise StreamkeeperError(
            f"{spec.name} has no Cassandra table of landed rows{f' {table}' if table else ''}; "
            f"tables: {', '.join(known) or 'none; declare a sink with `of: raw`'}"
        )
    return known[table] if table else next(iter(known.values()))


def _last_closed(store: Store, stream: str) -> list[datetime]:
    closed = [revision.hour for revision in store.revisions(stream)]
    if not closed:
        raise StreamkeeperError(f"no hour of {stream} has been closed yet; run hours__{stream}")
    return closed[-1:]


def _analyse(options: argparse.Namespace) -> tuple[Analysis, Path]:
    settings = Settings.from_environment()
    redact_logs(settings.secrets())
    spec = load_spec(settings.streams / f"{options.stream}.yaml")
    sink = _sink(spec, options.table)
    key = read_key(spec, sink, [text for text in options.key if text])
    store = Store(settings.need("store"))
    hours = options.hours or _last_closed(store, spec.name)
    closed_revisions(store, spec, hours)  # before the session, which takes seconds to start
    with running_session(settings, f"streamkeeper analyse {spec.name}") as spark:
        found = TableAnalysis(spark, settings, spec, sink, store, key).run(hours)
    path = options.out or settings.state / analysis_file(spec, found.hours, found.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_markdown(found), encoding="utf-8")
    return found, path


def main() -> int:
    """Analyse; return the exit code."""
    parser = argparse.ArgumentParser(prog="analyse_table.py", description=__doc__)
    parser.add_argument("--stream", required=True, metavar="NAME")
    parser.add_argument("--hours", default=[], type=_hours, metavar="HOUR,...")
    parser.add_argument("--key", default=[], action="append", metavar="COLUMN=VALUE,...")
    parser.add_argument("--table", default="", metavar="KEYSPACE.TABLE")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    speak_utf8(logging.INFO)
    try:
        found, path = _analyse(options)
    except Exception as error:
        return report_failure(log, error)
    print(to_markdown(found), flush=True)
    log.info("%s; kept in %s", found.verdict, path)
    return EXIT_DISAGREEMENT if found.differences else EXIT_DRAINED


if __name__ == "__main__":
    leave(main())
