"""All declared streams at their own rates at once, watched for what is stuck, lost or grows."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from drivers import Drivers, RunningDriver, end_offsets, manifests, wait_for
from rich.table import Table
from topics import Producing, declare

from streamkeeper import names, spans
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka, processes

STREAMS = Path(__file__).parents[2] / "include" / "streams"
MIB = 2**20
LIVE = "live in Java's heap"
RECORDS_A_FILE = 5
_EVERY_S = 5.0
_APPS = ("soak_a", "soak_b")
# Java's heap grows for as long as it may, whatever lives in it. So it has its whole size from the
# start, and what is seen to grow is something else; what lives in it is told by full collections,
# which Spark asks for.
_JAVA = "-Xms1g -XX:+AlwaysPreTouch -Xlog:gc:file="
_SPARK = {"spark.cleaner.periodicGC.interval": "60s"}
_FULL = re.compile(r"Pause Full \(System\.gc\(\)\) \d+M->(\d+)M")


def soaked_streams(settings: Settings) -> list[Spec]:
    """Return the declared streams that have a producer, under names of their own, in two apps.

    The fastest stream has an app to itself, the others share the second one.
    """
    found = [load_spec(path) for path in sorted(STREAMS.glob("*.yaml"))]
    kept = (s for s in found if s.producer.simulator or s.producer.folder)
    tag = secrets.token_hex(3)
    ordered = enumerate(sorted(kept, key=_rate, reverse=True))
    made = [_own(s, _APPS[min(place, 1)], tag) for place, s in ordered]
    for spec in made:
        kafka.ensure_topic(kafka.Admin(settings), spec.source.kafka)
    return made


def _rate(spec: Spec) -> float:
    """Return the messages a second that a stream's simulator, or its folder, gives."""
    simulator = spec.producer.simulator
    if simulator is None:
        return RECORDS_A_FILE / _EVERY_S
    return simulator.entities / simulator.every.total_seconds()


def _own(spec: Spec, app: str, tag: str) -> Spec:
    given = spec.dump()
    given |= {"name": f"{spec.name}_{tag}", "app": f"{app}_{tag}"}
    given["source"]["kafka"]["topic"] += f"-{tag}"
    given["lake"]["path"] = f"/soak-{tag}/{spec.name}"
    if spec.producer.simulator:
        given["producer"]["simulator"]["hours_back"] = 0
    for sink in given["sinks"]:
        for where in ("table", "path"):
            if where in sink:
                sink[where] += f"_{tag}"
    return Spec.model_validate(given)


@dataclass
class Watched:
    """What was seen of one stream.

    dropped: records of files; longest_s: between two published batches while messages waited;
    behind: the most batches that a sink was behind.
    """

    spec: Spec
    dropped: int = 0
    sent: int = 0
    landed: int = 0
    quarantined: int = 0
    batches: int = 0
    longest_s: float = 0.0
    behind: int = 0
    _changed: float = field(default_factory=time.monotonic)
    _offsets: Mapping[str, int] = field(default_factory=dict)

    def note(self, driver: Mapping[str, Any], ends: Mapping[int, int]) -> None:
        """Look at what the driver tells of the stream.

        Parameters: ends, the topic's end.
        """
        name, now = self.spec.name, time.monotonic()
        land = driver.get("queries", {}).get(f"{name}/{names.LAND}", {})
        offsets = land.get("offsets", {})
        if offsets != self._offsets or sum(offsets.values()) == sum(ends.values()):
            self._changed, self._offsets = now, offsets
        self.longest_s = max(self.longest_s, now - self._changed)
        mine = {k: s for k, s in driver.get("sinks", {}).items() if k.startswith(f"{name}/")}
        self.behind = max([self.behind, *(sink["lag"] for sink in mine.values())])


@dataclass
class Soak:
    """Streams that run, their producers and drivers.

    memory: by app and kind, MiB at each look: what the driver's Java and Python processes hold,
    and what lived in Java's heap after each full collection.
    """

    drivers: Drivers
    settings: Settings
    folder: Path
    specs: Sequence[Spec]
    running: dict[str, RunningDriver] = field(default_factory=dict)
    producers: dict[str, Producing] = field(default_factory=dict)
    watched: list[Watched] = field(default_factory=list)
    memory: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def start(self) -> None:
        """Start the drivers, then the producers."""
        for app in dict.fromkeys(spec.app for spec in self.specs):
            mine = [spec for spec in self.specs if spec.app == app]
            log = self._collections(app)
            self.running[app] = self.drivers.start(
                mine, every=None, conf=_SPARK, java=f"{_JAVA}{log}"
            )
        for app, driver in self.running.items():
            wait_for(lambda d=driver: d.row().progress.get("state") == "running", app)
        declared = self.folder / "declared"
        here = self.settings.model_copy(update={"streams": declared, "files": self.folder})
        for spec in self.specs:
            declare(spec, declared)
            log = self.folder / f"{spec.name}.log"
            kind = "simulate" if spec.producer.simulator else "folder"
            self.producers[spec.name] = Producing(here, log, [kind, spec.name])
            self.watched.append(Watched(spec))

    def watch(self, seconds: float) -> None:
        """Look every few seconds, for so long."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(_EVERY_S)
            self._drop_files()
            for app, driver in self.running.items():
                assert processes.exit_code(driver.folder) is None, driver.log[-4000:]
                for kind, held in _memory(driver).items():
                    self.memory.setdefault((app, kind), []).append(held)
                told = driver.row().progress
                for one in self.watched:
                    if one.spec.app == app:
                        one.note(told, end_offsets(self.settings, one.spec))

        for app in self.running:
            found = _FULL.findall(self._collections(app).read_text())
            self.memory[app, LIVE] = [float(live) for live in found]

    def _drop_files(self) -> None:
        """Drop a file of readings into each watched folder."""
        for one in self.watched:
            if (folder := one.spec.producer.folder) is None:
                continue
            lines = [_reading_line(one.dropped + n) for n in range(RECORDS_A_FILE)]
            file = self.folder / folder.path / f"{one.dropped:06d}.jsonl"
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(lines), encoding="utf-8")
            one.dropped += RECORDS_A_FILE

    def _collections(self, app: str) -> Path:
        return self.folder / f"{app}.gc.log"

    def finish(self) -> None:
        """End the producers, wait until all is landed and applied, and let the drivers drain.

        A folder's producer is ended once it has sent all files.
        """
        simulated = [one for one in self.watched if one.spec.producer.simulator]
        folders = [one for one in self.watched if one.spec.producer.folder]
        for one in simulated:
            self._end_producer(one)
        for one in folders:
            wait_for(lambda o=one: self._landed(o) >= o.dropped, f"{one.spec.name}: all files", 180)
            self._end_producer(one)
        for one in self.watched:
            wait_for(lambda o=one: self._is_done(o), f"{one.spec.name}: all that was sent")
            self._account(one)
        for app, driver in self.running.items():
            self.drivers.store.request_stop(driver.launch.epoch, "the test")
            assert driver.exit_code() == EXIT_DRAINED, f"{app}: {driver.log[-4000:]}"

    def _end_producer(self, one: Watched) -> None:
        producer = self.producers[one.spec.name]
        producer.process.terminate()
        assert producer.code() == 0, producer.said

    def end(self) -> None:
        """End producers that still run."""
        for producer in self.producers.values():
            producer.end()

    def _landed(self, one: Watched) -> int:
        return sum(m.read for m in manifests(self.settings, one.spec))

    def _is_done(self, one: Watched) -> bool:
        ends = end_offsets(self.settings, one.spec)
        found = manifests(self.settings, one.spec)
        if spans.holes({}, ends, (m.span for m in found)):
            return False
        sinks = self.running[one.spec.app].row().progress.get("sinks", {})
        mine = [s for name, s in sinks.items() if name.startswith(f"{one.spec.name}/")]
        return all(s["state"] == "ok" and s["lag"] == 0 for s in mine)

    def _account(self, one: Watched) -> None:
        found = manifests(self.settings, one.spec)
        # Offsets of a transactional topic are not all messages.
        one.sent = one.dropped or sum(end_offsets(self.settings, one.spec).values())
        one.landed, one.batches = self._landed(one), len(found)
        one.quarantined = sum(m.quarantined for m in found)


def _reading_line(number: int) -> str:
    at = datetime.now(UTC).isoformat()
    made = {
        "timestamp": at,
        "device_id": f"device_{number % 20:02d}",
        "building": "ABC"[number % 3],
    }
    made |= {"floor": number % 5, "type": "energy", "value": number % 90 / 10, "unit": "kWh"}
    return json.dumps(made) + "\n"


def _memory(driver: RunningDriver) -> dict[str, float]:
    """Return the MiB (PSS) that the driver's Java and its Python processes hold."""
    held = {"Java": 0.0, "Python": 0.0}
    for process in processes.launch_processes(driver.process, driver.folder):
        try:
            kind = "Java" if "java" in process.name() else "Python"
            held[kind] += process.memory_full_info().pss / MIB
        except psutil.NoSuchProcess:
            continue
    return held


def grown(looks: Sequence[float]) -> tuple[float, float]:
    """Return the median of the second third of the looks and of the last one."""
    third = max(1, len(looks) // 3)
    return median(looks[-2 * third : -third] or looks), median(looks[-third:])


def _untagged(name: str) -> str:
    return name.rpartition("_")[0]


def tables(soak: Soak) -> list[Table]:
    """Return what was seen, for the terminal and for docs/soak.md."""
    streams = Table(
        "stream", "app", "messages/s", "sent", "landed", "quarantined", "batches",
        "longest wait, s", "sinks behind, batches",
    )  # fmt: skip
    for one in soak.watched:
        streams.add_row(
            _untagged(one.spec.name), _untagged(one.spec.app),
            f"{_rate(one.spec):g}", f"{one.sent:,}",
            f"{one.landed:,}", f"{one.quarantined:,}", f"{one.batches:,}",
            f"{one.longest_s:.0f}", str(one.behind),
        )  # fmt: skip
    memory = Table("driver", "memory", "second third, MiB", "last third, MiB", "most, MiB")
    for (app, kind), looks in sorted(soak.memory.items()):
        if looks:
            figures = (*grown(looks), max(looks))
            memory.add_row(_untagged(app), kind, *(f"{mib:,.0f}" for mib in figures))
    return [streams, memory]
