"""The streaming queries of a stream: land, its windows, its console."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import DataStreamWriter, StreamingQuery

from streamkeeper import names
from streamkeeper.generations import Generation
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec, Window
from streamkeeper.spec.pieces import text_literal
from streamkeeper.spec.sinks import ConsoleSink
from streamkeeper_spark import accounts
from streamkeeper_spark.checks import RecordChecks, valid_rows
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.landing import Draining, Publisher, WriteNumbers
from streamkeeper_spark.parse import Frame
from streamkeeper_spark.sinks.console import print_raw
from streamkeeper_spark.source import read_topic
from streamkeeper_spark.windows import interval, window_rows

log = logging.getLogger(__name__)
BatchFunction = Callable[[DataFrame, int], None]


@dataclass
class Query:
    """A running query and what is known of it.

    error: what ended it, if the driver's own code raised it.
    """

    stream: str
    name: str
    generation: str
    checkpoint: str
    offsets: dict[int, int]
    running: StreamingQuery | None = None
    batch: int = -1
    read: int = 0
    valid: int = 0
    quarantined: int = 0
    corrected: Counter[str] = field(default_factory=Counter)
    published_at: datetime | None = None
    error: Exception | None = None
    listeners: list[Callable[[Manifest], None]] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        """Stream and query."""
        return f"{self.stream}/{self.name}"

    def note(self, manifest: Manifest) -> None:
        """Count a published batch and tell the sinks of it."""
        self.read += manifest.read
        self.valid += manifest.valid
        self.quarantined += manifest.quarantined
        self.corrected.update(manifest.corrected_by_kind)
        self.published_at = manifest.written_at
        for listener in self.listeners:
            listener(manifest)

    def guarded(self, function: BatchFunction) -> BatchFunction:
        """Return the function that keeps the error which ends the query."""

        def call(rows: DataFrame, batch: int) -> None:
            try:
                function(rows, batch)
            except Exception as error:
                self.error = error
                if not isinstance(error, Draining):
                    log.error("%s: batch %d failed: %s", self.full_name, batch, error)
                raise

        return call

    def stop(self) -> None:
        """End the query; what it has in hand is not committed."""
        if self.running is not None:
            try:
                self.running.stop()
            except Py4JError as error:
                log.warning("%s did not stop: %s", self.full_name, error)

    def is_active(self) -> bool:
        """Tell whether the query runs."""
        return self.running is not None and self.running.isActive

    def refresh(self) -> None:
        """Read what Spark last committed."""
        last = self.running.lastProgress if self.running is not None else None
        if last is None or not last["sources"]:
            return
        end = last["sources"][0]["endOffset"]
        by_topic = json.loads(end) if isinstance(end, str) else end
        if by_topic:
            (offsets,) = by_topic.values()
            self.offsets = {int(p): int(offset) for p, offset in offsets.items()}
            self.batch = last["batchId"]

    def progress(self) -> dict[str, Any]:
        """Return the query's account of itself for the heartbeat."""
        return {
            "generation": self.generation,
            "batch": self.batch,
            "offsets": {str(p): offset for p, offset in self.offsets.items()},
            "rows": self.read,
            "valid": self.valid,
            "quarantined": self.quarantined,
            "corrected": dict(self.corrected),
            "published_at": self.published_at.isoformat() if self.published_at else None,
            "state": "running" if self.is_active() else "ended",
            "error": "" if self.error is None else str(self.error),
        }


@dataclass(frozen=True)
class Launchpad:
    """What all queries of one launch share.

    options: of the launch: `trigger` (`availableNow`: end when all is read), `every` (overrides
    the declared intervals), and those of `read_topic`.
    """

    spark: SparkSession
    settings: Settings
    files: LakeFiles
    epoch: int
    folder: Path
    options: Mapping[str, Any]
    numbers: WriteNumbers
    draining: threading.Event
    frame: Frame = field(default_factory=Frame)
    checks: dict[str, RecordChecks] = field(default_factory=dict)

    def checks_of(self, spec: Spec) -> RecordChecks:
        """Return what reads and judges a stream's messages, the same for all its queries."""
        if spec.name not in self.checks:
            self.checks[spec.name] = RecordChecks(spec, self.frame)
        return self.checks[spec.name]

    def messages(self, spec: Spec, start: Mapping[int, int] | str) -> DataFrame:
        """Return a stream's messages."""
        topic = spec.source.kafka.topic
        committed = spec.source.kafka.kind == "transactional"
        return read_topic(
            self.spark, self.settings, topic, start, self.options, committed=committed
        )

    def rows(self, spec: Spec, topic_id: str, start: Mapping[int, int] | str) -> DataFrame:
        """Return a stream's parsed and checked rows."""
        return self.checks_of(spec).apply(self.messages(spec, start), topic_id)

    def trigger(self, writer: DataStreamWriter, every: timedelta) -> DataStreamWriter:
        """Set when batches begin."""
        if self.options.get("trigger") == "availableNow":
            return writer.trigger(availableNow=True)
        return writer.trigger(processingTime=self.options.get("every") or interval(every))

    def start(self, query: Query, rows: DataFrame, every: timedelta, each: BatchFunction) -> Query:
        """Start a query that gives every batch to a function."""
        # Pools share the cores, so that one query's backlog does not hold up the others.
        self.spark.sparkContext.setLocalProperty("spark.scheduler.pool", query.full_name)
        writer = rows.writeStream.queryName(query.full_name).outputMode("update")
        writer = writer.option("checkpointLocation", query.checkpoint)
        writer = writer.foreachBatch(query.guarded(each))
        query.running = self.trigger(writer, every).start()
        return query


def start_land(
    pad: Launchpad,
    spec: Spec,
    owned: tuple[Generation, str],
    listeners: Sequence[Callable[[Manifest], None]] = (),
) -> Query:
    """Start the query that lands all records.

    Parameters: owned, the query's generation and this launch's checkpoint of it; listeners, are
    told of every published batch.
    """
    generation, checkpoint = owned
    checks = pad.checks_of(spec)
    topic = {names.TOPIC_ID: text_literal(generation.topic_id)}
    query = _query(pad, spec, generation, checkpoint)
    query.listeners += listeners
    publisher = Publisher(
        zone="raw",
        folder=names.raw_path(spec),
        # Judged in the batch itself, whose constants then need no further copy of every row.
        complete=lambda rows, constants: checks.judge(rows, {**topic, **constants}),
        columns=accounts.raw_columns(spec),
        account=accounts.account_of_raw,
        **_shared(pad, spec, generation, checkpoint, query),
    )
    publisher.prepare()
    rows = checks.read(pad.messages(spec, generation.start))
    return pad.start(query, rows, spec.lake.every, publisher.publish)


def start_window(
    pad: Launchpad,
    spec: Spec,
    window: Window,
    owned: tuple[Generation, str],
    listeners: Sequence[Callable[[Manifest], None]],
) -> Query:
    """Start the query that computes a window; its rows are published like landed ones.

    Parameters: owned, the query's generation and this launch's checkpoint of it; listeners, are
    told of every published batch.
    """
    generation, checkpoint = owned
    valid = valid_rows(pad.rows(spec, generation.topic_id, generation.start))
    query = _query(pad, spec, generation, checkpoint)
    query.listeners += listeners
    publisher = Publisher(
        zone=f"windows/{window.name}",
        folder=names.window_path(spec, window.name),
        columns=accounts.WINDOW_COLUMNS,
        account=accounts.account_of_windows,
        stateful=True,
        **_shared(pad, spec, generation, checkpoint, query),
    )
    publisher.prepare()
    return pad.start(query, window_rows(valid, window), window.every, publisher.publish)


def start_console(pad: Launchpad, spec: Spec, sink: ConsoleSink) -> Query:
    """Start the query that prints new rows.

    It keeps nothing, so it begins at the topic's end, and its checkpoint is the launch's own.
    """
    name = names.console_query(sink.of)
    checkpoint = (pad.folder.resolve() / f"{spec.name}-{name}").as_uri()
    query = Query(spec.name, name, "", checkpoint, {})
    fields = [f"`{name}`" for name in spec.columns()]
    rows = valid_rows(pad.rows(spec, "", "latest")).select(*fields)
    return pad.start(query, rows, sink.every, print_raw(spec, sink.rows))


def _query(pad: Launchpad, spec: Spec, generation: Generation, checkpoint: str) -> Query:
    name, start = generation.query, dict(generation.start)
    return Query(spec.name, name, generation.generation, pad.files.url(checkpoint), start)


def _shared(
    pad: Launchpad, spec: Spec, generation: Generation, checkpoint: str, query: Query
) -> dict[str, Any]:
    return {
        "spec": spec,
        "generation": generation,
        "checkpoint": checkpoint,
        "epoch": pad.epoch,
        "files": pad.files,
        "numbers": pad.numbers,
        "draining": pad.draining,
        "published": query.note,
    }
