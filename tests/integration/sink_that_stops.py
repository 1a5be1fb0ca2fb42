"""Applies one batch and stops between writing and committing, for a test that kills it there.

`python sink_that_stops.py SPEC MANIFEST WHERE TOLD`: files of the declaration and the manifest, the
address of the database or lake, or contact points, and the file that is made when the rows are
written.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from sink_batches import LAKE
from sinks import folder_of

from streamkeeper.manifest import Manifest
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink, DeltaSink, PostgresSink
from streamkeeper_io.cassandra import GroupedWriter
from streamkeeper_io.delta import DeltaWriter
from streamkeeper_io.postgres_tables import PostgresTable
from streamkeeper_spark.sinks.cassandra import cassandra_sink
from streamkeeper_spark.sinks.delta import DeltaRaw
from streamkeeper_spark.sinks.follower import Sink
from streamkeeper_spark.sinks.postgres import postgres_sink


def main() -> None:
    """Apply the batch as far as it is let."""
    spec = Spec.model_validate(json.loads(Path(sys.argv[1]).read_text()))
    manifest = Manifest.model_validate_json(Path(sys.argv[2]).read_text())
    where, told = sys.argv[3], Path(sys.argv[4])

    def stop() -> None:
        told.touch()
        signal.pause()

    (declared,) = spec.sinks
    write = GroupedWriter.write

    def written(*arguments: Any, **more: Any) -> int:
        write(*arguments, **more)
        stop()
        return 0

    def move_mark(_: PostgresTable) -> str:
        stop()
        return ""

    def commit(*_: Any) -> None:
        stop()

    DeltaWriter._commit = commit  # type: ignore[method-assign]
    GroupedWriter.write = written  # type: ignore[method-assign]
    PostgresTable.move_mark = move_mark  # type: ignore[method-assign]
    sink: Sink
    if isinstance(declared, CassandraSink):
        sink = cassandra_sink(spec, declared, where, LAKE)
    elif isinstance(declared, DeltaSink):
        sink = DeltaRaw(spec, declared, where, LAKE)
    else:
        assert isinstance(declared, PostgresSink)
        sink = postgres_sink(spec, declared, where, LAKE)
    sink.apply(manifest, folder_of(spec, manifest))


if __name__ == "__main__":
    main()
