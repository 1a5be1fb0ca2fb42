"""The driver: runs all queries of one launch, follows the lake for its sinks, and drains."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from streamkeeper import names
from streamkeeper.errors import OffsetsLost, StoreUnavailable, StreamkeeperError, Unavailable
from streamkeeper.launches import EXIT_ERROR, EXIT_FENCED, Launch
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import (
    CassandraSink,
    ConsoleSink,
    DeltaSink,
    MetricsSink,
    PostgresSink,
)
from streamkeeper.statsd import StatsdTarget
from streamkeeper_io import kafka
from streamkeeper_io.statsd import StatsdSender
from streamkeeper_io.store import Store
from streamkeeper_spark import fence, queries
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.garbage import sweeping
from streamkeeper_spark.heartbeat import Heartbeat
from streamkeeper_spark.landing import WriteNumbers
from streamkeeper_spark.outcome import Outcome, data_are_lost, outcome_of, worst
from streamkeeper_spark.owning import Owned, Owning
from streamkeeper_spark.queries import Launchpad, Query
from streamkeeper_spark.sinks.cassandra import cassandra_sink
from streamkeeper_spark.sinks.console import console_sink
from streamkeeper_spark.sinks.delta import DeltaRaw
from streamkeeper_spark.sinks.follower import Follower, Sink
from streamkeeper_spark.sinks.metrics import BatchMetrics
from streamkeeper_spark.sinks.postgres import postgres_sink

log = logging.getLogger(__name__)
T = TypeVar("T")
_START_WAIT_S = 60.0
_DRAIN_S = 90.0
_SINKS_S = 30.0


@dataclass(frozen=True)
class Snapshot:
    """What a launch was started with: `launch.json`."""

    launch: Launch
    specs: tuple[Spec, ...]
    options: dict[str, Any]
    folder: Path

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Read a snapshot; its folder is the launch's."""
        found = json.loads(path.read_text())
        return cls(
            Launch.model_validate(found["launch"]),
            tuple(Spec.model_validate(spec) for spec in found["specs"]),
            found.get("options", {}),
            path.parent,
        )


class Driver:
    """Runs the queries of one launch until they end or a stop is asked for.

    Parameters: spark; settings; snapshot. Options of the launch: `start_wait_s`, how long to wait
    at the start for what is away; and those of `Launchpad`.
    """

    def __init__(self, spark: SparkSession, settings: Settings, snapshot: Snapshot) -> None:
        self.spark, self.settings, self.snapshot = spark, settings, snapshot
        self.epoch = snapshot.launch.epoch
        self.store = Store(settings.need("store"))
        self.stop_asked, self.draining = threading.Event(), threading.Event()
        self.queries: list[Query] = []
        self.followers: list[Follower] = []
        self._owned: dict[str, Owned] = {}
        self.state = "starting"
        self._told: set[str] = set()
        self.heartbeat = Heartbeat(self.store, self.epoch, self.progress, self.stop_asked)

    # Running
    def run(self) -> Outcome:
        """Run the launch; return its exit code and reason."""
        self._hear_signals()
        self.heartbeat.start()
        try:
            self._start()
            outcome = self._watch()
        except StreamkeeperError as error:
            outcome = outcome_of(error, "", fenced=False)
            self._stop_all()
        except Exception as error:
            log.exception("the driver failed")
            outcome = Outcome(EXIT_ERROR, f"{type(error).__name__}: {error}")
            self._stop_all()
        self._end(outcome)
        return outcome

    def _hear_signals(self) -> None:
        """Drain on SIGTERM; the JVM, which gets it too, must live until that is done."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop_asked.set())
        jvm: Any = self.spark._jvm
        term = jvm.sun.misc.Signal("TERM")
        jvm.sun.misc.Signal.handle(term, jvm.sun.misc.SignalHandler.SIG_IGN)

    def _start(self) -> None:
        files = self._patiently(lambda: LakeFiles(self.spark, self.settings.need("lake")))
        pad = Launchpad(
            spark=self.spark,
            settings=self.settings,
            files=files,
            epoch=self.epoch,
            folder=self.snapshot.folder,
            options=self.snapshot.options,
            numbers=WriteNumbers(self.epoch),
            draining=self.draining,
        )
        self._files = files
        for spec in self.snapshot.specs:
            for query in self._start_stream(pad, spec):
                self.queries.append(query)
                log.warning("%s runs, generation %s", query.full_name, query.generation or "none")
        if pages := self.spark.sparkContext.uiWebUrl:
            log.warning("Spark's pages, with the times of each query's batches: %s", pages)
        self.state = "running"

    def _start_stream(self, pad: Launchpad, spec: Spec) -> Iterator[Query]:
        land = self._own(pad, spec, names.LAND)
        with self._following(spec, "raw", land) as listeners:
            mine = land.generation, land.checkpoint
            yield queries.start_land(pad, spec, mine, listeners)
        for window in spec.windows:
            owned = self._own(pad, spec, names.window_query(window.name))
            with self._following(spec, window.name, owned) as listeners:
                mine = owned.generation, owned.checkpoint
                yield queries.start_window(pad, spec, window, mine, listeners)
        for sink in spec.sinks:
            if isinstance(sink, ConsoleSink) and sink.has_query:
                yield queries.start_console(pad, spec, sink)

    def _own(self, pad: Launchpad, spec: Spec, query: str) -> Owned:
        """Return the generation that a query goes on with and its checkpoint, now this launch's."""
        owning = Owning(pad.files, self.settings, self.store, self.epoch)
        owned = self._patiently(lambda: owning.take(spec, query))
        self._owned[f"{spec.name}/{query}"] = owned
        return owned

    @contextmanager
    def _following(
        self, spec: Spec, of: str, owned: Owned
    ) -> Iterator[list[Callable[[Manifest], None]]]:
        """Give what tells the sinks of published rows; start these once the query runs.

        Parameters: of, `raw` or a window's name.
        """
        followers = list(self._sinks(spec, of, owned))
        self.followers += followers
        yield [follower.notify for follower in followers]
        for follower in followers:
            follower.start()

    def _sinks(self, spec: Spec, of: str, owned: Owned) -> Iterator[Follower]:
        lake = self.settings.lake
        for declared in spec.sinks:
            of_hours = isinstance(declared, DeltaSink) and declared.of_hours
            if declared.of != of or of_hours:
                continue  # a KPI may have a window's name
            sink: Sink
            if isinstance(declared, CassandraSink):
                sink = cassandra_sink(spec, declared, self.settings, lake)
            elif isinstance(declared, PostgresSink):
                sink = postgres_sink(spec, declared, self.settings, lake)
            elif isinstance(declared, DeltaSink):
                sink = DeltaRaw(spec, declared, self.settings, lake)
            elif isinstance(declared, MetricsSink):
                sender = StatsdSender(StatsdTarget.read(self.settings.statsd))
                sink = BatchMetrics(spec, declared, self._files, self.epoch, sender)
            elif not declared.has_query:
                sink = console_sink(spec, declared, lake)
            else:
                continue  # a query of its own prints landed rows
            yield Follower(
                sink,
                stream=spec.name,
                lake=lake,
                zone_folder=names.raw_path(spec) if of == "raw" else names.window_path(spec, of),
                generations=owned.order,
                store=None if isinstance(declared, ConsoleSink) else self.store,
            )

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call again while something outside is away; raise Unavailable when it stays away."""
        wait_s = float(self.snapshot.options.get("start_wait_s", _START_WAIT_S))
        deadline, pause = time.monotonic() + wait_s, 1.0
        while True:
            try:
                return call()
            except Unavailable as error:
                if self.stop_asked.is_set() or time.monotonic() + pause > deadline:
                    raise
                log.warning("%s; the next try is in %g s", error, pause)
                self.stop_asked.wait(pause)
                pause = min(15.0, pause * 2)

    # Watching
    def _watch(self) -> Outcome:
        """Wait for the end of a query or a request to stop; return what it means."""
        with sweeping() as sweep:
            while not self.stop_asked.wait(0.2):
                sweep()
                ended = [q for q in self.queries if not q.is_active()]
                if len(ended) == len(self.queries):
                    break
                if any(self._outcome(q).code for q in ended):
                    break
        return self._drain()

    def _drain(self) -> Outcome:
        """Let every query commit the batch in hand, then end it."""
        self.state = "draining"
        self.draining.set()
        deadline = time.monotonic() + float(self.snapshot.options.get("drain_s", _DRAIN_S))
        left = [q for q in self.queries if q.is_active()]
        while left and time.monotonic() < deadline:
            for query in left:
                # Between two triggers nothing is in hand. A batch that begins meanwhile is
                # refused by its publisher, which ends the query too.
                if query.running is not None and not query.running.status["isTriggerActive"]:
                    query.stop()
            time.sleep(0.1)
            left = [q for q in left if q.is_active()]
        for query in self.queries:
            query.refresh()
        self._stop_all()
        return worst([self._outcome(q) for q in self.queries])

    def _stop_all(self) -> None:
        self.draining.set()
        for query in self.queries:
            query.stop()

    def _outcome(self, query: Query) -> Outcome:
        fenced = False
        raised = query.running.exception() if query.running is not None else None
        if (query.error is not None or raised is not None) and query.generation:
            fenced = self._is_fenced(query)
        told = _told(raised)
        outcome = outcome_of(self._lost(query, told) or query.error, told, fenced=fenced)
        if outcome.code == EXIT_ERROR and query.full_name not in self._told:
            self._told.add(query.full_name)
            log.error("%s ended: %s", query.full_name, told)
        return outcome._replace(reason=f"{query.full_name}: {outcome.reason}")

    def _lost(self, query: Query, told: str) -> Exception | None:
        """Return what messages a query has lost, when Spark says that it has."""
        owned = self._owned.get(query.full_name)
        if owned is None or not data_are_lost(told):
            return None
        try:
            _, begin = kafka.begin_offsets(kafka.Admin(self.settings), owned.generation.topic)
            fence.refuse_lost(self._files, owned.generation, owned.checkpoint, begin)
        except (StreamkeeperError, OSError) as error:
            return error if isinstance(error, OffsetsLost) else None
        return None

    def _is_fenced(self, query: Query) -> bool:
        try:
            return fence.is_fenced(self._files, query.checkpoint.removeprefix(self._files.lake))
        except (StreamkeeperError, OSError):
            return False

    # Ending
    def _end(self, outcome: Outcome) -> None:
        self.state = "ended"
        outcome = outcome._replace(reason=self.settings.redact(outcome.reason))
        seconds = _SINKS_S if outcome.code != EXIT_FENCED else 0.0
        deadline = time.monotonic() + seconds
        for follower in self.followers:
            if not follower.finish(max(0.0, deadline - time.monotonic())):
                log.warning("%s stays behind: %s", follower.name, follower.error)
        self.heartbeat.end()
        self.heartbeat.beat()
        level = logging.WARNING if outcome.code == 0 else logging.ERROR
        log.log(level, "launch %d ends with code %d: %s", self.epoch, *outcome)
        try:
            self.store.end_launch(self.epoch, outcome.code, outcome.reason)
        except StoreUnavailable as error:
            log.warning("the end is not recorded in the store: %s", error)

    def progress(self) -> dict[str, Any]:
        """Return the launch's account of itself for the heartbeat."""
        if self.state == "running":
            for query in list(self.queries):
                query.refresh()
        return {
            "state": self.state,
            "at": datetime.now(UTC).isoformat(),
            "pid": os.getpid(),
            "ui": self.spark.sparkContext.uiWebUrl,
            "queries": {q.full_name: q.progress() for q in list(self.queries)},
            "sinks": {f"{f.stream}/{f.sink.name}": self._sink(f) for f in list(self.followers)},
        }

    def _sink(self, follower: Follower) -> dict[str, Any]:
        told = follower.progress()
        return told | {"error": self.settings.redact(told["error"])}


def _told(raised: StreamingQueryException | None) -> str:
    return "" if raised is None else str(raised)
