"""Sees and steers streams through the store; drivers and keepers do the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from streamkeeper.errors import DeclarationError
from streamkeeper.launches import (
    EXIT_CHECK,
    EXIT_DISAGREEMENT,
    EXIT_DRAINED,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
    Launch,
)
from streamkeeper.names import LAND
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_apps.streams import stream_names, unknown
from streamkeeper_io import processes
from streamkeeper_io.store import Store

_ENDS = {
    EXIT_DRAINED: "drained",
    EXIT_FENCED: "fenced by a newer launch",
    EXIT_CHECK: "stopped: a record broke a check that ends the stream, see its log",
    EXIT_DISAGREEMENT: "stopped: two records of one fact differ, see its log",
    EXIT_UNAVAILABLE: "gave up: something outside does not answer",
}
_EXPIRY_S = 30.0


class Control:
    """What a person asks of streams.

    Parameters: settings; store; by, who asks, as the store records it; console.
    """

    def __init__(
        self, settings: Settings, store: Store, by: str, console: Console | None = None
    ) -> None:
        self._settings, self._store, self._by = settings, store, by
        self._console = console or Console(highlight=False, soft_wrap=True)

    def status(self, names: Sequence[str]) -> int:
        """Print a table of streams; 1 when one that is wanted does not live."""
        known = stream_names(self._settings)
        for name in names:
            self._must_know(name)
        table = Table("stream", "wanted", "part", "launch", "state", "heartbeat")
        healthy, lines = True, list[str]()
        for name in names or known:
            wanted = self._store.desired(name)
            driver = self._store.holder("driver", self._app(name))
            producer = self._store.holder("producer", name)
            healthy &= wanted == "stopped" or lives(driver)
            table.add_row(name, wanted, "driver", *_cells(driver))
            lines += [f"{name} {line}" for line in _driver(driver, name)]
            lines += [f"{name} {line}" for line in self._anew(driver, name)]
            if producer is not None:
                table.add_row("", "", "producer", *_cells(producer))
                lines += [f"{name} {line}" for line in _producer(producer)]
        self._console.print(table)
        for line in lines:
            self._say(line)
        return 0 if healthy else 1

    def start(self, name: str, wait_s: float) -> bool:
        """Want a stream to run; wait until a launch lives."""
        self._must_know(name)
        self._store.set_desired(name, "running", self._by)
        self._say(f"{name}: wanted state is running")
        return self._await_launch(name, wait_s, older_than=None)

    def stop(self, name: str, wait_s: float) -> bool:
        """Want a stream to be stopped, ask its driver to drain, wait until it has."""
        self._must_know(name)
        self._store.set_desired(name, "stopped", self._by)
        self._say(f"{name}: wanted state is stopped")
        launch = self._store.holder("driver", self._app(name))
        if launch is None or not lives(launch):
            self._say(f"{name}: no driver runs")
            return True
        self._store.request_stop(launch.epoch, self._by)
        return self._await_end(name, launch, wait_s)

    def restart(self, name: str, wait_s: float) -> bool:
        """Drain the driver; wait until its keeper has launched the next one."""
        self._must_know(name)
        self._store.set_desired(name, "running", self._by)
        launch = self._store.holder("driver", self._app(name))
        if launch is not None and lives(launch):
            self._store.request_stop(launch.epoch, self._by)
            if not self._await_end(name, launch, wait_s):
                return False
        return self._await_launch(name, wait_s, older_than=launch)

    def _anew(self, driver: Launch | None, name: str) -> list[str]:
        """Return what is to be said of a new generation that was asked for or does not count."""
        request = self._store.last_request(name)
        known = self._store.generations(name, LAND)
        if request is not None and all(g.request < request.number for g in known):
            return [f"{request.kind} by {request.by}: the next launch begins with it"]
        if not known:
            return []
        newest, query = known[-1], {}
        if driver is not None:
            query = driver.progress.get("queries", {}).get(f"{name}/{LAND}", {})
        read: dict[int, int] = dict(newest.start)
        if query.get("generation") == newest.generation:
            read |= {int(p): offset for p, offset in query["offsets"].items()}
        left = sum(max(0, end - read.get(p, 0)) for p, end in newest.target.items())
        return [f"land: reads again; counts once {left:,} more are read"] if left else []

    def _must_know(self, name: str) -> None:
        # A stream whose file is gone may still run: it can be seen and stopped.
        declared = name in stream_names(self._settings)
        if not declared and self._store.holder("driver", name) is None:
            raise unknown(self._settings, name)

    def _app(self, name: str) -> str:
        try:
            return load_spec(self._settings.streams / f"{name}.yaml").app
        except DeclarationError:
            return name  # a broken or deleted file; its app was most likely named as it is

    def _await_end(self, name: str, launch: Launch, wait_s: float) -> bool:
        self._say(f"{name}: launch {launch.epoch} is asked to drain the batch in hand")
        if wait_s <= 0:
            return True
        began = time.monotonic()

        def ended() -> Launch | None:
            seen = self._store.launch(launch.epoch)
            return None if lives(seen) else seen

        seen = self._wait(f"{name}: drains", ended, wait_s, lambda: self._how_far(name))
        if seen is None:
            self._say(
                f"{name}: launch {launch.epoch} still runs after {wait_s:g} s; the keeper ends "
                f"its processes when it does not drain; its log: {launch.folder}/log"
            )
            return False
        seconds = time.monotonic() - began
        self._say(f"{name}: launch {launch.epoch} {how_it_ended(seen)}, after {seconds:.1f} s")
        for line in _driver(seen, name):
            self._say(f"{name}: {line}")
        return True

    def _await_launch(self, name: str, wait_s: float, older_than: Launch | None) -> bool:
        if wait_s <= 0:
            return True
        app = self._app(name)

        def launched() -> Launch | None:
            seen = self._store.holder("driver", app)
            newer = seen is not None and (older_than is None or seen.epoch > older_than.epoch)
            return seen if newer and seen and seen.heartbeat_at and lives(seen) else None

        seen = self._wait(f"{name}: waits for a launch", launched, wait_s, lambda: "")
        if seen is None:
            self._say(
                f"{name}: nobody launched it within {wait_s:g} s; is the DAG keep__{app} "
                "unpaused, and do Airflow's scheduler and triggerer run?"
            )
            return False
        self._say(f"{name}: launch {seen.epoch} runs")
        return True

    def _wait(
        self,
        what: str,
        look: Callable[[], Launch | None],
        wait_s: float,
        how_far: Callable[[], str],
    ) -> Launch | None:
        deadline = time.monotonic() + wait_s
        with self._console.status(what) as shown:
            while time.monotonic() < deadline:
                if (seen := look()) is not None:
                    return seen
                shown.update(f"{what} {how_far()}")
                time.sleep(0.5)
        return None

    def _how_far(self, name: str) -> str:
        return "; ".join(_driver(self._store.holder("driver", self._app(name)), name))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def lives(launch: Launch | None) -> bool:
    """Tell whether a launch lives, as far as it can be seen from here."""
    if launch is None:
        return False
    process = launch.process
    if process is not None and processes.on_this_host(process):
        return processes.alive(process)
    if launch.ended_at is not None:
        return False
    seen = launch.heartbeat_at or launch.began_at
    return (datetime.now(UTC) - seen).total_seconds() < _EXPIRY_S


def how_it_ended(launch: Launch) -> str:
    """Tell how a launch ended."""
    code = launch.exit_code
    if code is None and launch.folder:
        code = processes.exit_code(Path(launch.folder))
    if code is None:
        return "ended without an exit code"
    if 128 < code < 160:
        return f"was killed by signal {code - 128}"
    return _ENDS.get(code, f"failed with exit code {code}; its log: {launch.folder}/log")


def _cells(launch: Launch | None) -> tuple[str, str, str]:
    if launch is None:
        return "-", "never launched", "-"
    if not lives(launch):
        state = how_it_ended(launch)
    elif launch.stop_requested_at is not None:
        state = f"drains, asked by {launch.stop_requested_by}"
    else:
        state = "runs"
    return str(launch.epoch), state, age(launch.heartbeat_at)


def age(instant: datetime | None) -> str:
    """Return how long ago an instant was."""
    if instant is None:
        return "none yet"
    seconds = int((datetime.now(UTC) - instant).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{max(seconds, 0)} s ago"


def _driver(launch: Launch | None, stream: str) -> list[str]:
    """Return what its driver's last heartbeat tells of a stream, a line a query and sink."""
    if launch is None:
        return []
    pages = launch.progress.get("ui")
    lines = [f"Spark's pages: {pages}"] if pages and lives(launch) else []
    lines += [_query(name, query) for name, query in _parts(launch, "queries", stream)]
    return lines + [_sink(name, sink) for name, sink in _parts(launch, "sinks", stream)]


def _parts(launch: Launch, kind: str, stream: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a heartbeat's parts of one stream; they are named `stream/part`."""
    named = launch.progress.get(kind, {}).items()
    return [(n.partition("/")[2], part) for n, part in named if n.partition("/")[0] == stream]


def _query(name: str, query: dict[str, Any]) -> str:
    text = f"{name}: batch {query.get('batch')}, {query.get('rows', 0):,} rows"
    if query.get("quarantined"):
        text += f", {query['quarantined']:,} quarantined"
    if corrected := query.get("corrected"):
        told = ", ".join(f"{kind} {rows:,}" for kind, rows in sorted(corrected.items()))
        text += f", corrected {told}"
    return text + (f"; {query['error']}" if query.get("error") else "")


def _sink(name: str, sink: dict[str, Any]) -> str:
    text = f"sink {name}: {sink.get('state')}"
    if sink.get("lag"):
        text += f", {sink['lag']:,} batches behind"
    if sink.get("left_out"):
        text += f", left out {sink['left_out']:,}, which are in the lake"
    return text + (f"; {sink['error']}" if sink.get("error") else "")


def _producer(launch: Launch) -> list[str]:
    """Return what a producer's last heartbeat tells."""
    progress = launch.progress
    if not progress:
        return []
    text = f"producer: sent {progress.get('sent', 0):,}, acknowledged {progress.get('acked', 0):,}"
    return [f"{text}, all up to {progress.get('event_time')} ({progress.get('phase')})"]
