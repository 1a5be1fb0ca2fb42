"""A watched folder and its producer, against a log that forgets what was not committed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamkeeper.files import FileEntry
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.folder.contents import NotTaken
from streamkeeper_apps.producer.folder.watching import Watching

SECOND = 1.0


def declare(**folder: Any) -> Spec:
    """A stream of a folder with two fields."""
    given = {"path": "x", "settle": "1s", "give_up": "10s", "every": "1s"} | folder
    csv = given.get("format") == "csv"
    return Spec.model_validate(
        {
            "name": "building_files",
            "app": "building_files",
            "description": "x",
            "source": {
                "kafka": {"topic": "t", "kind": "transactional"},
                "format": "csv" if csv else "json",
            },
            "fields": {
                "n": {"type": "integer", "required": True},
                "at": {"type": "timestamp", "required": True},
            },
            "event_time": {"field": "at"},
            "lake": {"path": "/x"},
            "producer": {"folder": given},
        }
    )


class Died(Exception):
    """The process is gone."""


class FakeLog:
    """A topic and its ledger in memory; what is not committed goes with the process.

    Parameters: limit, records in a transaction; takes, bytes that a record may have.

    `dies_at`: the steps after which the process dies; `brokers_take`: what is larger is refused,
    though nobody has said so.
    """

    def __init__(self, limit: int = 10**9, takes: int = 10**6) -> None:
        self.topic: list[tuple[str, str, int, bytes]] = []
        self.entries: dict[str, FileEntry] = {}
        self.asked: dict[str, datetime] = {}
        self.limit, self.steps, self.dies_at = limit, 0, 10**9
        self.takes, self.brokers_take = takes, 10**9
        self._open: list[tuple[str, str, int, bytes]] | None = None
        self.transactions = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            self._open = None
            raise Died

    def refresh(self) -> None:
        self._step()

    def largest(self, path: str) -> int:
        return self.takes

    def begin(self) -> None:
        assert self._open is None
        self._step()
        self._open = []

    def send(self, path: str, sha256: str, number: int, record: bytes) -> None:
        assert self._open is not None
        self._step()
        self._open.append((path, sha256, number, record))

    def full(self) -> bool:
        return self._open is not None and len(self._open) >= self.limit

    def commit(self, entries: Sequence[FileEntry], served: Sequence[str]) -> None:
        assert self._open is not None
        self._step()
        for path, _, _, record in self._open:
            if len(record) > self.brokers_take:
                raise NotTaken(path, f"Kafka does not take a record of {len(record):,} bytes")
        self.topic += self._open
        self.entries |= {
            entry.path: FileEntry.model_validate_json(entry.model_dump_json()) for entry in entries
        }
        self.asked = {path: at for path, at in self.asked.items() if path not in served}
        self._open, self.transactions = None, self.transactions + 1
        self._step()  # the answer is lost, the commit is not

    def abort(self) -> None:
        self._open = None

    def ask(self, path: str) -> None:
        self.asked[path] = datetime.now(UTC)

    def of(self, path: str, sha256: str | None = None) -> list[bytes]:
        """The records of a file, or of one content of it, in the order of the topic."""
        return [r for p, s, _, r in self.topic if p == path and sha256 in (None, s)]


class Folder:
    """A folder, and a producer that watches it by a clock of its own."""

    def __init__(self, root: Path, spec: Spec | None = None, log: FakeLog | None = None) -> None:
        self.root, self.spec, self.log = root, spec or declare(), log or FakeLog()
        self.now, self.said, self.stopped = 0.0, [""], ""
        self._ticks = 10**18
        self.launch()

    def launch(self) -> None:
        self.watching = Watching(
            self.spec,
            self.root,
            self.log,
            self.said.append,
            lambda: self.stopped,
            clock=lambda: self.now,
        )

    def write(self, path: str, content: bytes) -> str:
        """Write a file, at a time of its own; return its hash."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        self._ticks += 10**9
        os.utime(place, ns=(self._ticks, self._ticks))
        return hashlib.sha256(content).hexdigest()

    def look(self, seconds: float = SECOND) -> None:
        self.now += seconds
        self.watching.look()

    def settle(self) -> None:
        """Look until all that is there has its verdict."""
        for _ in range(50):
            self.look()
            if not self.watching.pending_files:
                return
        raise AssertionError(f"it does not come to rest: {self.said}")

    def entry(self, path: str) -> FileEntry:
        return self.log.entries[path]


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n": %d, "at": "2026-11-26T10:00:00Z"}\n' % n for n in numbers)
