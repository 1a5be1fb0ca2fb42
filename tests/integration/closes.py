"""Landing and closing in the process of the tests, with the driver's and the close's own code."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml
from drivers import QUICK_JAVA, send, wait_for
from pyspark.sql import SparkSession
from readings import CITIES, temperature

from streamkeeper.hours import HOUR, Look, Revision
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.names import format_hour, hour_of
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io import cassandra, kafka
from streamkeeper_io.spark_conf import spark_conf
from streamkeeper_io.store import Store
from streamkeeper_spark.close import Close
from streamkeeper_spark.driver import Driver, Snapshot
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.outcome import Outcome
from streamkeeper_spark.session import start_session

FIRST = hour_of(datetime.now(UTC)) - 5 * HOUR
SECOND = FIRST + HOUR


@dataclass(frozen=True)
class Reading:
    """A message that was sent."""

    sensor_id: str
    city: str
    temperature: float
    humidity: float
    timestamp: datetime

    def message(self) -> bytes:
        """The message as JSON."""
        at = self.timestamp.isoformat().replace("+00:00", "Z")
        return (
            f'{{"sensor_id": "{self.sensor_id}", "city": "{self.city}", "temperature": '
            f'{self.temperature}, "humidity": {self.humidity}, "timestamp": "{at}"}}'
        ).encode()


def make_readings(
    count: int, seed: int, begin: datetime = FIRST, over: timedelta = 2 * HOUR
) -> list[Reading]:
    """Return readings spread evenly over a time, in a random order."""
    draw = random.Random(seed)
    made = [
        Reading(
            sensor_id=f"sensor_{n % 20:02d}",
            city=CITIES[n % 6],
            temperature=round(draw.uniform(15, 45), 2),
            humidity=round(draw.uniform(20, 90), 2),
            timestamp=begin + n * over / count,
        )
        for n in range(count)
    ]
    draw.shuffle(made)
    return made


@dataclass
class Stream:
    """A stream of one test: sends, lands and closes."""

    spark: SparkSession
    settings: Settings
    store: Store
    spec: Spec
    folder: Path

    def send(self, readings: Iterable[Reading], *others: bytes) -> None:
        """Send readings and other messages."""
        topic = self.spec.source.kafka.topic
        send(self.settings, topic, [*(r.message() for r in readings), *others])

    def land(self) -> None:
        """Land all that is in the topic, as a launch of the driver that ends there."""
        outcome = self.launch(trigger="availableNow")
        assert outcome.code == EXIT_DRAINED, outcome.reason

    def land_until(self, enough: Callable[[], Any], **options: Any) -> Outcome:
        """Run a launch of the driver and let it drain once there is enough.

        Parameters: options of the launch; with `every` None its queries have their declared times.
        """

        def drain_later() -> None:
            try:
                wait_for(lambda: enough() or ended.is_set(), "enough to have landed", 90)
            finally:
                holder = self.store.holder("driver", self.spec.app)
                assert holder is not None
                self.store.request_stop(holder.epoch, "the test")

        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            draining = pool.submit(drain_later)
            try:
                outcome = self.launch(**{"every": "500 milliseconds", **options})
            finally:
                ended.set()
            draining.result()
        return outcome

    def launch(self, **options: Any) -> Outcome:
        """Run a launch of the driver to its end."""
        holder = self.store.holder("driver", self.spec.app)
        launch = self.store.begin_launch(
            "driver", self.spec.app, expected=holder.epoch if holder else None
        )
        folder = self.folder / str(launch.epoch)
        folder.mkdir(parents=True)
        snapshot = Snapshot(launch, (self.spec,), options, folder)
        with _signals_kept():
            return Driver(self.spark, self.settings, snapshot).run()

    def look(self, *hours: datetime) -> None:
        """Take the looks of hours: the topic's end now."""
        topic = self.spec.source.kafka.topic
        topic_id, end = kafka.end_offsets(kafka.Admin(self.settings), topic)
        for hour in hours:
            look = Look(
                stream=self.spec.name,
                hour=hour,
                topic_id=topic_id,
                taken_at=datetime.now(UTC),
                end_offsets=end,
            )
            self.store.add_look(look)

    @property
    def closer(self) -> Close:
        """A close of its own, as a process of its own would have."""
        files = LakeFiles(self.spark, self.settings.lake)
        return Close(self.spark, self.settings, self.spec, Store(self.settings.store), files)

    def close(self, *hours: datetime) -> list[Revision]:
        """Close hours."""
        return self.closer.run(hours)

    def closed_by_process(self, script: str, hour: datetime) -> int:
        """Close an hour by a script of this folder, as a process; return its exit code."""
        streams = self.folder / "streams"
        streams.mkdir()
        declaration = self.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        (streams / f"{self.spec.name}.yaml").write_text(yaml.safe_dump(declaration))
        local = self.settings.model_copy(update={"streams": streams, "spark_master": "local[2]"})
        path = Path(__file__).parent / script
        arguments = ["--stream", self.spec.name, "--hours", format_hour(hour)]
        with (self.folder / "close.log").open("wb") as log:
            return subprocess.run(
                [sys.executable, str(path), *arguments],
                env=dict(os.environ) | local.environment() | {"JAVA_TOOL_OPTIONS": QUICK_JAVA},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=300,
                check=False,
            ).returncode

    def revision(self, hour: datetime) -> Revision:
        """Return an hour's last revision."""
        found = self.store.revision(self.spec.name, hour)
        assert found is not None
        return found

    def windows(self, of: str = "city_30s") -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Return the rows of a window's Cassandra table: (city, start) -> measures."""
        measures = ", ".join(self.spec.window(of).measures)
        return {(city, start): tuple(rest) for city, start, *rest in self._rows(of, measures)}

    def write_times(self, of: str) -> dict[tuple[Any, ...], int]:
        """Return the write timestamp of each row: (city, start) -> timestamp."""
        rows = self._rows(of, "writetime(num_readings)")
        return {(city, start): timestamp for city, start, timestamp in rows}

    def _rows(self, of: str, columns: str) -> Iterator[list[Any]]:
        (sink,) = [s for s in self.spec.sinks if isinstance(s, CassandraSink) and s.of == of]
        table = f"{sink.keyspace}.{sink.table}"
        with cassandra.session(self.settings.cassandra) as session:
            for city, start, *rest in session.execute(
                f"select city, window_start, {columns} from {table}"
            ):
                yield [city, start.replace(tzinfo=UTC), *rest]


def make_stream(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    folder: Path,
    *,
    windows: bool = False,
    sizes: Sequence[str] = (),
) -> Stream:
    """Return a stream of its own; `sizes` adds windows of these sizes with tables of their own.

    A size is one such as 45min, or with a slide 10min/5min.
    """
    spec = temperature(settings, windows=windows).dump()
    # A console of raw rows would only print.
    spec["sinks"] = [sink for sink in spec["sinks"] if sink["kind"] == "cassandra"]
    for place, given in enumerate(sizes):
        name = f"wide_{place}"
        size, _, slide = given.partition("/")
        spec["windows"].append(
            {
                "name": name,
                **{"size": size, "slide": slide or size},
                "watermark": "1min",
                "by": ["city"],
                "measures": {"num_readings": "count(*)"},
            }
        )
        table = f"{name}_{spec['name']}"
        spec["sinks"].append({"kind": "cassandra", "of": name, "keyspace": "iot", "table": table})
    return Stream(spark, settings, store, Spec.model_validate(spec), folder)


@contextmanager
def close_session(settings: Settings) -> Iterator[SparkSession]:
    """Give a session for closes and landings, as a close has it."""
    local = settings.model_copy(update={"spark_master": "local[2]"})
    java = spark_conf(local)["spark.driver.extraJavaOptions"] + f" {QUICK_JAVA}"
    extra = {
        "spark.ui.enabled": "false",
        "spark.sql.maxConcurrentOutputFileWriters": "0",
        "spark.driver.extraJavaOptions": java,
    }
    session = start_session(local, "hours", extra)
    try:
        yield session
    finally:
        session.stop()


def computed(readings: Iterable[Reading], sql: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB makes of readings, as the table `readings`."""
    table = pa.Table.from_pylist([vars(reading) for reading in readings])
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("readings", table)
        return connection.execute(sql).fetchall()


@contextmanager
def _signals_kept() -> Iterator[None]:
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)
