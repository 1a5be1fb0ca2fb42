"""Reading a topic whole, and running producers as commands."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from drivers import wait_for
from rich.console import Console

from streamkeeper.errors import StreamkeeperError
from streamkeeper.launches import Launch
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import exit_code_of
from streamkeeper_apps.look import Reading, Span
from streamkeeper_apps.producer.commands import add_produce_commands
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.folder.run import run_folder
from streamkeeper_apps.producer.replay import run_replay
from streamkeeper_apps.producer.session import Stop
from streamkeeper_apps.producer.simulate import run_simulator
from streamkeeper_io import kafka, processes
from streamkeeper_io.store import Store


@dataclass(frozen=True)
class Read:
    """A message as a consumer sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: Any
    headers: dict[str, Any]
    time: tuple[int, int]


def read_topic(settings: Settings, topic: str) -> list[Read]:
    """Return all messages of a topic up to its present end, by partition in their order.

    Of transactions only what is committed.
    """
    _, end = kafka.end_offsets(kafka.Admin(settings), topic)
    spans: dict[int, Span] = {partition: (0, stop) for partition, stop in end.items()}
    with closing(Reading(settings, topic, spans, 30)) as reading:
        found = [_read(m) for m in reading.messages()]
    return sorted(found, key=lambda m: (m.partition, m.offset))


def _read(m: Any) -> Read:
    headers = dict(m.headers() or [])
    return Read(m.partition(), m.offset(), m.key(), m.value(), headers, m.timestamp())


class Producing:
    """`streamkeeper produce ...` as a process, its output in a file.

    Parameters: program, what Python runs instead of the command's own module.
    """

    def __init__(
        self,
        settings: Settings,
        log: Path,
        arguments: Sequence[str],
        program: Sequence[str] = ("-m", "streamkeeper_apps.cli"),
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, "produce", *arguments],
                env=dict(os.environ) | settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self._log.read_text(encoding="utf-8")

    def says(self, text: str) -> None:
        """Wait until it has printed a text."""
        wait_for(lambda: text in self.said or self.process.poll() is not None, repr(text), 60)
        assert text in self.said, self.said

    def freezes(self) -> None:
        """Wait until it has stopped as SIGSTOP does it; it stays so."""
        look = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
        wait_for(lambda: os.waitid(os.P_PID, self.process.pid, look), "it to be frozen", 120)
        assert self.process.poll() is None, self.said

    def code(self, seconds: float = 120) -> int:
        """Wait for its end; return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the producer did not end; it said:\n{self.said}") from None

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


class InThread:
    """`streamkeeper produce ...` within this process, its output in memory."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        parser = argparse.ArgumentParser()
        add_produce_commands(parser.add_subparsers())
        options = parser.parse_args(["produce", *map(str, arguments)])
        runs: dict[str, Any] = {"simulate": run_simulator, "folder": run_folder}
        run = runs.get(arguments[0], run_replay)
        self._out = io.StringIO()
        self._display = Display(Console(file=self._out, highlight=False, soft_wrap=True), 1.0)
        self._stop = Stop()
        self._code: int | None = None
        call = partial(run, settings, options, stop=self._stop, display=self._display)
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], int]) -> None:
        try:
            self._code = call()
        except StreamkeeperError as error:
            self._out.write(f"error: {error}\n")
            self._code = exit_code_of(error)
        except Exception:
            self._out.write(traceback.format_exc())
            self._code = -1

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self._out.getvalue()

    def says(self, text: str) -> None:
        """Wait until it has printed a text."""
        wait_for(lambda: text in self.said or not self._thread.is_alive(), repr(text), 60)
        assert text in self.said, self.said

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does."""
        self._stop.signal = "SIGTERM"

    def code(self, seconds: float = 120) -> int:
        """Wait for its end; return the exit code."""
        self._thread.join(seconds)
        assert self._code is not None, f"the producer did not end; it said:\n{self.said}"
        return self._code

    def end(self) -> None:
        """Stop it if it still runs."""
        self.stop()
        self._thread.join(30)


def run_producer(settings: Settings, kind: str, stream: str, *arguments: Any) -> str:
    """Run `streamkeeper produce KIND STREAM ...` to its end; return what it said."""
    producing = InThread(settings, [kind, stream, *map(str, arguments)])
    try:
        assert producing.code() == 0, producing.said
    finally:
        producing.end()
    return producing.said


def declare(spec: Spec, folder: Path) -> None:
    """Write a stream's file into a folder."""
    folder.mkdir(exist_ok=True)
    data = spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    path = folder / f"{spec.name}.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    assert load_spec(path) == spec


def begin_producer(store: Store, spec: Spec, folder: Path) -> tuple[Launch, Path]:
    """Begin a launch of a stream's producer, as its keeper does; return it and its snapshot."""
    holder = store.holder("producer", spec.name)
    launch = store.begin_launch(
        "producer", spec.name, expected=holder.epoch if holder is not None else None
    )
    path = folder / f"launch-{launch.epoch}.json"
    snapshot = {
        "launch": launch.model_dump(mode="json"),
        "specs": [spec.dump()],
        "options": {"hours_back": None, "limit": None},
    }
    path.write_text(json.dumps(snapshot), encoding="utf-8")
    return launch, path


def record_process(store: Store, launch: Launch, pid: int) -> None:
    """Record the process of a launch."""
    store.update_launch(launch.epoch, process=processes.identify(pid))
