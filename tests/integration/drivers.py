"""Launching drivers as the keeper does: spark-submit, a snapshot, the settings as environment."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyspark
from confluent_kafka import Producer

from streamkeeper import names
from streamkeeper.launches import Launch, Process
from streamkeeper.manifest import Manifest
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka, processes
from streamkeeper_io.lake import published_batches, read_manifest
from streamkeeper_io.spark_conf import spark_conf
from streamkeeper_io.store import Store

CHECKOUT = Path(__file__).parents[2]
STREAM = CHECKOUT / "spark_apps" / "stream.py"
SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
# Small jobs end before the second compiler has paid off.
QUICK_JAVA = "-XX:TieredStopAtLevel=1"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 240.0) -> Any:
    """Return the condition's first true value; fail after `seconds`, saying what did not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


@dataclass
class RunningDriver:
    """A launched driver and its folder."""

    launch: Launch
    process: Process
    folder: Path
    store: Store

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def row(self) -> Launch:
        """The launch as the store knows it now."""
        return self.store.launch(self.launch.epoch)

    def progress(self, kind: str, name: str) -> dict[str, Any]:
        """What the last heartbeat told of a query or a sink; empty if nothing yet."""
        return self.row().progress.get(kind, {}).get(name, {})

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the launch but the shell that keeps the exit code."""
        assert processes.signal_launch(self.process, self.folder, number), "nothing runs"

    def kill(self) -> None:
        """Kill every process of the launch at once, as a crash of its host would."""
        self.signal(signal.SIGKILL)
        gone = lambda: not processes.launch_processes(self.process, self.folder)  # noqa: E731
        wait_for(gone, "the killed processes to be gone", 10)

    def exit_code(self, seconds: float = 90.0) -> int:
        """Wait for the end; return the exit code."""
        try:
            wait_for(lambda: processes.exit_code(self.folder) is not None, "the exit code", seconds)
        except AssertionError:
            raise AssertionError(f"the driver did not end; its log:\n{self.log[-6000:]}") from None
        code = processes.exit_code(self.folder)
        assert code is not None
        return code


class Drivers:
    """Starts drivers and ends all of them when the test is over."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.store = Store(settings.store)
        self.started: list[RunningDriver] = []

    def start(
        self,
        specs: Sequence[Spec],
        *,
        script: Path = STREAM,
        conf: Mapping[str, str] = MappingProxyType({}),
        java: str = QUICK_JAVA,
        **options: Any,
    ) -> RunningDriver:
        """Start a driver that takes over from whatever launch holds the app.

        Parameters: conf, more properties of Spark; java, options that its Java has here only.
        """
        app = specs[0].app
        holder = self.store.holder("driver", app)
        launch = self.store.begin_launch(
            "driver", app, expected=holder.epoch if holder is not None else None
        )
        folder = self.folder / "launches" / f"driver-{app}" / str(launch.epoch)
        folder.mkdir(parents=True)
        snapshot = {
            "launch": launch.model_dump(mode="json"),
            "specs": [spec.dump() for spec in specs],
            "options": {"every": "1 second", "start_wait_s": 20, **options},
        }
        (folder / "launch.json").write_text(json.dumps(snapshot))
        process = processes.spawn(
            self._command(script, folder, conf, java),
            folder=folder,
            env=dict(os.environ) | self.settings.environment() | {"PYSPARK_PYTHON": sys.executable},
            epoch=launch.epoch,
            cwd=CHECKOUT,
        )
        self.store.update_launch(launch.epoch, folder=str(folder), process=process)
        driver = RunningDriver(launch, process, folder, self.store)
        self.started.append(driver)
        return driver

    def _command(
        self, script: Path, folder: Path, further: Mapping[str, str], java: str
    ) -> list[str]:
        conf = spark_conf(self.settings) | {"spark.driver.memory": "1g", "spark.ui.port": "0"}
        conf["spark.driver.extraJavaOptions"] += f" {java}"
        argv = [str(SUBMIT), "--master", self.settings.spark_master]
        for key, value in (conf | dict(further)).items():
            argv += ["--conf", f"{key}={value}"]
        return [*argv, str(script), "--launch", str(folder / "launch.json")]

    def end_all(self) -> None:
        """Kill whatever still runs."""
        for driver in self.started:
            processes.signal_launch(driver.process, driver.folder, signal.SIGCONT)
            processes.stop(driver.process, driver.folder, 0)


def send(settings: Settings, topic: str, values: Sequence[bytes | None]) -> None:
    """Send messages and wait until the broker has all of them."""
    producer = Producer(kafka.client_config(settings) | {"linger.ms": 20})
    for value in values:
        while True:
            try:
                producer.produce(topic, value=value)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def manifests(settings: Settings, spec: Spec, window: str = "") -> list[Manifest]:
    """Return the manifests of all published batches."""
    folder = names.window_path(spec, window) if window else names.raw_path(spec)
    found = published_batches(settings.lake, folder)
    return [read_manifest(settings.lake, folder, name) for name in found]


def landed(settings: Settings, spec: Spec) -> int:
    """Return how many rows were published."""
    return sum(m.read for m in manifests(settings, spec))


def end_offsets(settings: Settings, spec: Spec) -> dict[int, int]:
    """Return the topic's end."""
    return kafka.end_offsets(kafka.Admin(settings), spec.source.kafka.topic)[1]


@contextmanager
def running_drivers(settings: Settings, folder: Path) -> Iterator[Drivers]:
    """Give a starter of drivers; whatever it started is gone afterwards."""
    found = Drivers(settings, folder)
    try:
        yield found
    finally:
        found.end_all()
        found.store.close()
