"""What every server has in common: written configuration, a start, a question, a stop."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import ClassVar

import psutil
from pydantic import BaseModel

from streamkeeper.errors import Unavailable
from streamkeeper.launches import Process
from streamkeeper_apps.local.places import Places, write_private
from streamkeeper_io import processes

_LARGEST_LOG = 20 << 20
_SHOWN_LINES = 15
_LOOK_EVERY_S = 0.5
_REST_GRACE_S = 2.0


class ServerFailed(Unavailable):
    """A server of this machine did not start."""


class Record(BaseModel):
    """What `run/<server>.json` keeps: which process serves, and from which configuration."""

    process: Process
    digest: str
    started_at: datetime


def fill(template: str, values: Mapping[str, object]) -> str:
    """Return a template of this package with `$name` replaced; KeyError for a missing name."""
    text = (files("streamkeeper_apps.local") / "templates" / template).read_text()
    return Template(text).substitute(values)


def digest_of_code(*folders: Path) -> str:
    """Return a hash of the Python files that a server keeps in memory once it has imported them."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


class Server(ABC):
    """One server as a child process.

    name: told in progress, logs and files; needs: servers that must be ready before it starts;
    timeout_s: seconds until it must be ready; grace_s: seconds to end after stop_signal.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    timeout_s: ClassVar[float] = 120
    grace_s: ClassVar[float] = 20
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, places: Places) -> None:
        self.places = places

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.places.root)!r})"

    @abstractmethod
    def argv(self) -> list[str]:
        """The command."""

    @abstractmethod
    def check(self) -> str | None:
        """Ask the server itself; None when it serves, else what is wrong."""

    def config(self) -> dict[str, str]:
        """The texts of its configuration files by name."""
        return {}

    def env(self) -> dict[str, str]:
        """Environment variables beyond those of every process of the stack."""
        return {}

    def prepare(self) -> None:  # noqa: B027 (optional)
        """Make what must exist before the start; called at every start."""

    def completed(self) -> None:  # noqa: B027 (optional)
        """Make what needs the running server; called whenever it became ready."""

    def fingerprint(self) -> str:
        """Anything else that makes a running process stale when it changes."""
        return ""

    # The process
    @property
    def _record_file(self) -> Path:
        return self.places.root / "run" / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.places.log_folder(self.name) / "log"

    def record(self) -> Record | None:
        """What is recorded of its last start; None when nothing is."""
        try:
            return Record.model_validate_json(self._record_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def alive(self) -> bool:
        """Tell whether the recorded process runs."""
        record = self.record()
        return record is not None and processes.alive(record.process)

    def digest(self) -> str:
        """A hash of all that a start is made from."""
        made_from = [self.argv(), self.config(), self.env(), self.fingerprint()]
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def keepable(self) -> bool:
        """Tell whether a running process serves and was started as one would be now."""
        record = self.record()
        if record is None or not processes.alive(record.process):
            return False
        return record.digest == self.digest() and self.check() is None

    def start(self) -> None:
        """Write the configuration, end leftovers of this server, start it."""
        self.stop()
        self._rotate_log()
        folder = self.places.conf(self.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.config().items():
            write_private(folder / name, text)
        self.prepare()
        process = processes.spawn(
            self.argv(),
            folder=self.places.log_folder(self.name),
            env=self.places.environment() | self.env(),
            cwd=self.places.root,
        )
        record = Record(process=process, digest=self.digest(), started_at=datetime.now(UTC))
        write_private(self._record_file, record.model_dump_json(indent=1))

    def wait_ready(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until the server serves; ServerFailed with the end of its log when it does not.

        Parameters: given_up, asked between two looks; True ends the waiting with ServerFailed.
        """
        deadline = time.monotonic() + self.timeout_s
        while (wrong := self.check()) is not None:
            if given_up():
                raise ServerFailed(f"{self.name} was not waited for: the start was given up")
            if not self.alive():
                raise ServerFailed(self._failure(f"ended while starting ({wrong})"))
            if time.monotonic() > deadline:
                raise ServerFailed(
                    self._failure(f"was not ready after {self.timeout_s:.0f} s: {wrong}")
                )
            time.sleep(_LOOK_EVERY_S)
        self.completed()

    def _failure(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        shown = "\n".join(f"  | {line}" for line in lines)
        return f"{self.name} {what}\nthe end of {self.log}:\n{shown}"

    def _rotate_log(self) -> None:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > _LARGEST_LOG:
                self.log.rename(self.log.with_name("log.1"))

    def members(self) -> list[psutil.Process]:
        """The live processes of the recorded session."""
        record = self.record()
        return processes.launch_processes(record.process, None) if record else []

    def main_process(self) -> psutil.Process | None:
        """The server's own process, below the shell that keeps its exit code."""
        record = self.record()
        if record is None or not processes.alive(record.process):
            return None
        children = psutil.Process(record.process.pid).children()
        return children[0] if children else None

    def stop(self) -> None:
        """End all its processes: the stop signal to the main one, after the grace SIGKILL."""
        main = self.main_process()
        if main is not None:
            with suppress(psutil.NoSuchProcess):
                main.send_signal(self.stop_signal)
                psutil.wait_procs([main], timeout=self.grace_s)
        left = self.members()
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        psutil.wait_procs(left, timeout=_REST_GRACE_S)
        self.kill()
        self._record_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End all its processes by SIGKILL, as a crash would; the record stays."""
        while members := self.members():
            for member in members:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(members, timeout=5)


class JavaServer(Server):
    """A server whose command is a Java class.

    heap_mib: the most heap, in MiB.
    """

    heap_mib: ClassVar[int]
    main_class: ClassVar[str]

    def __init__(self, places: Places, java: Path) -> None:
        super().__init__(places)
        self.java = java

    @abstractmethod
    def class_path(self) -> list[str]:
        """Entries of the class path."""

    def java_options(self) -> list[str]:
        """Options beyond those of every Java server."""
        return []

    def arguments(self) -> list[str]:
        """Arguments of the class."""
        return []

    def java_command(self, main_class: str, *arguments: str, options: list[str]) -> list[str]:
        """The command that runs a class of this server's class path."""
        temporary = self.places.temporary
        return [
            str(self.java / "bin" / "java"),
            # No /tmp/hsperfdata files: nothing is written outside the root.
            "-XX:-UsePerfData",
            *([f"-Djava.io.tmpdir={temporary}"] if temporary else []),
            "-Djava.net.preferIPv4Stack=true",
            *options,
            "-cp",
            ":".join(self.class_path()),
            main_class,
            *arguments,
        ]

    def argv(self) -> list[str]:
        heap = [f"-Xmx{self.heap_mib}m", "-XX:+ExitOnOutOfMemoryError"]
        options = [*heap, *self.java_options()]
        return self.java_command(self.main_class, *self.arguments(), options=options)
