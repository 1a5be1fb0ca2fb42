"""Watches a folder: each file's records go into the topic, its state into the ledger, together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from streamkeeper.errors import StreamkeeperError
from streamkeeper.files import FileEntry, Seen, Settling, State, next_step, printable, why_not
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.folder.contents import BrokenOff, NotTaken, Refused
from streamkeeper_apps.producer.folder.readers import Survey, survey
from streamkeeper_apps.producer.folder.scan import look_at

_LOOK_EVERY = 500
_LARGE = 4 << 20
_RESTLESS = "it is written to all the time"
_SENT: dict[str, Any] = {"state": "sent", "why": ""}


class Log(Protocol):
    """The topic and its ledger, written in transactions: all of one is there, or nothing."""

    @property
    def entries(self) -> Mapping[str, FileEntry]:
        """What is committed of each file."""

    @property
    def asked(self) -> Mapping[str, datetime]:
        """The files that a person asks to read again."""

    def refresh(self) -> None:
        """Read on in the ledger."""

    def largest(self, path: str) -> int:
        """Return how many bytes a record of a file may have, as of the last `refresh`."""

    def begin(self) -> None:
        """Begin a transaction."""

    def send(self, path: str, sha256: str, number: int, record: bytes) -> None:
        """Send a record of a file within the transaction; number, from 1 on; raises NotTaken."""

    def full(self) -> bool:
        """Tell whether the transaction is large or old enough to be committed."""

    def commit(self, entries: Sequence[FileEntry], served: Sequence[str]) -> None:
        """Commit the records sent, the states of their files, and the requests that were served.

        Raises NotTaken when Kafka does not take a record; then there is only `abort`.
        """

    def abort(self) -> None:
        """Take back what was sent since `begin`."""


class FileChanged(StreamkeeperError):
    """A file is no longer what it was when it was first read, a moment ago."""


class Watching:
    """One run of a folder's producer.

    Parameters: spec, with `producer.folder`; root, the folder; log; say, tells a person; stop,
    returns why to end; epoch, of the launch; clock, seconds that never go back.

    `sent` counts the records that this run committed; `clean_since` is the last instant at which
    every file that lay in the folder had its verdict.
    """

    def __init__(
        self,
        spec: Spec,
        root: Path,
        log: Log,
        say: Callable[[str], None],
        stop: Callable[[], str] = lambda: "",
        *,
        epoch: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert spec.producer.folder is not None
        self._spec, self._declared, self._root, self._log = spec, spec.producer.folder, root, log
        self._say, self._stop, self._epoch, self._clock = say, stop, epoch, clock
        self._settling = Settling(
            self._declared.settle.total_seconds(), self._declared.give_up.total_seconds()
        )
        self._pending: dict[str, FileEntry] = {}
        self._served: list[str] = []
        self._told: list[str] = []
        self._begun = False
        # Files that broke off, as they looked then: no use in reading them again as they are.
        self._broken: dict[str, tuple[Seen, str]] = {}
        # Why Kafka did not take a record of a file, each time that it was tried.
        self._not_taken: dict[str, list[str]] = {}
        self._away = ""
        self.sent = self.pending_files = 0
        self.clean_since: datetime | None = None

    def progress(self) -> dict[str, Any]:
        """Return what a heartbeat tells.

        An hour is filled by this producer no longer once every file of it is read: `event_time` is
        the last instant at which that was so.
        """
        clean = self.clean_since
        told = {"event_time": clean.isoformat()} if clean else {}
        return told | {
            "sent": self.sent,
            "files": len(self._log.entries),
            "waiting": self.pending_files,
            "phase": "waits" if not self.pending_files else "reads",
        }

    def run(self, *, once: bool = False) -> str:
        """Look again and again; return why it ended.

        Parameters: once, end when every file has its verdict.
        Raises KafkaUnavailable, Fenced.
        """
        while not (reason := self._stop()):
            self.look()
            if once and not self.pending_files:
                return self._stop() or "all files read"
            until = self._clock() + self._declared.every.total_seconds()
            while self._clock() < until and not self._stop():
                time.sleep(min(0.1, max(until - self._clock(), 0)))
        return reason

    def look(self) -> None:
        """Look at the folder once and read what is ready."""
        began = datetime.now(UTC)
        self._log.refresh()
        try:
            seen = look_at(self._root, self._declared)
        except OSError as error:
            self._tell_away(f"the folder {self._root} cannot be read: {error.strerror}")
            return
        self._tell_away("")
        self._settling.note(seen, self._clock())
        self.pending_files = 0
        try:
            for one in seen:
                if self._stop():
                    self.pending_files += 1
                    break
                self._step(one)
            self._note_gone({one.path for one in seen})
            self._commit()
        except FileChanged as error:
            self._take_back(str(error))
        except NotTaken as error:
            # The topic may take less than it did a moment ago: the next look knows.
            self._not_taken.setdefault(error.path, []).append(str(error))
            self._take_back(f"{error.path}: {error}")
        except BaseException:
            self._abort()
            raise
        if not self.pending_files:
            self.clean_since = began

    def _take_back(self, why: str) -> None:
        self._abort()
        self._say(f"{why}; it is looked at again")
        self.pending_files += 1

    def _step(self, seen: Seen) -> None:
        entry = self._entry(seen.path)
        settled = self._settling.settled(seen.path, self._clock())
        asked = seen.path in self._log.asked and seen.path not in self._served
        match next_step(seen, entry, settled=settled, asked=asked):
            case "leave":
                return
            case "settle":
                self._let_settle(seen, entry)
            case "tell":
                state: State = "unreadable" if seen.problem else "unknown"
                self._tell(seen, state, why_not(seen))
            case "read" | "go_on" | "compare" as step:
                self._look_into(seen, entry, step, asked)

    def _let_settle(self, seen: Seen, entry: FileEntry | None) -> None:
        if not self._settling.restless(seen.path, self._clock()):
            self.pending_files += 1
        elif entry is None or entry.why != _RESTLESS:
            self._tell(seen, "waiting", _RESTLESS)

    def _look_into(self, seen: Seen, entry: FileEntry | None, step: str, asked: bool) -> None:
        """Read a file once to know what it is, then do what is to be done with it."""
        known = self._broken.get(seen.path)
        if known and known[0] == seen and not asked:
            self._wait_or_give_up(seen, known[1])
            return
        if seen.size >= _LARGE:
            self._commit()  # Kafka would end a transaction that waits for the survey
        try:
            found = survey(self._root / seen.path, self._spec, self._log.largest(seen.path))
            self._refuse_not_taken(seen.path)
        except BrokenOff as error:
            self._broken[seen.path] = (seen, str(error))
            self._wait_or_give_up(seen, str(error))
            self._serve(seen.path, asked)
        except Refused as error:
            sent = entry.records if entry is not None and entry.state == "sending" else 0
            told = f"; {sent:,} of its records had been sent" if sent else ""
            self._not_taken.pop(seen.path, None)
            self._tell(seen, "refused", f"{error}{told}")
            self._serve(seen.path, asked)
        except FileNotFoundError:
            return
        except OSError as error:
            self._tell(seen, "unreadable", f"cannot be read: {error.strerror or error}")
        else:
            self._broken.pop(seen.path, None)
            if entry is not None and step != "read" and found.sha256 != entry.sha256:
                self._tell(seen, "changed", self._what_changed(entry))
            elif entry is not None and step != "read" and entry.records == found.records:
                self._note(entry.model_copy(update=self._as_seen(seen) | _SENT))
            else:
                self._send(seen, entry if step != "read" else None, found, asked)

    def _refuse_not_taken(self, path: str) -> None:
        """Raise Refused for a file of which Kafka did not take a record twice."""
        tries = self._not_taken.get(path, [])
        if len(tries) > 1:
            raise Refused(tries[-1])

    @staticmethod
    def _what_changed(entry: FileEntry) -> str:
        told = f"its content is no longer that of which {entry.records:,} records were sent"
        return f"{told}; `produce folder --again` sends it anew"

    def _wait_or_give_up(self, seen: Seen, why: str) -> None:
        given_up = self._settling.given_up(seen.path, self._clock())
        state: State = "incomplete" if given_up else "waiting"
        if not given_up:
            self.pending_files += 1
        self._tell(seen, state, why)

    def _send(self, seen: Seen, entry: FileEntry | None, found: Survey, asked: bool) -> None:
        """Send the records of a file, from where the ledger stands."""
        made = entry or self._begun_anew(self._entry(seen.path), seen, found)
        made = made.model_copy(update=self._as_seen(seen) | {"notes": found.notes, "why": ""})
        self._serve(seen.path, asked)
        for number, record in self._records(seen, found, made.records):
            self._open()
            self._log.send(seen.path, found.sha256, number, record)
            if self._log.full() or (number % _LOOK_EVERY == 0 and self._stop()):
                self._note(made.model_copy(update={"state": "sending", "records": number}))
                self._commit()
                if reason := self._stop():
                    self._say(f"{seen.path}: {number:,} of {found.records:,} records; {reason}")
                    self.pending_files += 1
                    return
                made = self._entry(seen.path) or made
        self._note(made.model_copy(update=_SENT | {"records": found.records}))
        told = f"; {'; '.join(found.notes)}" if found.notes else ""
        self._told.append(f"{seen.path}: {found.records:,} records, {seen.size:,} bytes{told}")
        if self._log.full():
            self._commit()

    def _records(self, seen: Seen, found: Survey, skip: int) -> Iterator[tuple[int, bytes]]:
        """Yield the numbered records behind so many; raise FileChanged where they are others."""
        changed = FileChanged(f"{seen.path} has changed while it was read")
        number = 0
        try:
            largest = self._log.largest(seen.path)
            with closing(found.kind(self._root / seen.path, self._spec, largest)) as content:
                for number, record in enumerate(content.each(), 1):
                    if number > skip:
                        yield number, record
                sha256 = content.sha256
        except (OSError, Refused, BrokenOff) as error:
            raise changed from error
        if (sha256, number) != (found.sha256, found.records):
            raise changed

    def _begun_anew(self, before: FileEntry | None, seen: Seen, found: Survey) -> FileEntry:
        return FileEntry(
            path=seen.path,
            state="sending",
            sha256=found.sha256,
            earlier=before.earlier + before.records if before else 0,
            reading=before.reading + 1 if before else 1,
            at=datetime.now(UTC),
        )

    def _tell(self, seen: Seen, state: State, why: str) -> None:
        """Put a verdict into the ledger, and into the log; what was sent stays counted."""
        before, why = self._entry(seen.path), printable(why)
        if before and (before.state, before.why) == (state, why) and seen.same_as(before):
            return
        made = before or FileEntry(path=seen.path, state=state, at=datetime.now(UTC))
        self._note(made.model_copy(update=self._as_seen(seen) | {"state": state, "why": why}))
        self._told.append(f"{seen.path}: {state}: {why}")

    def _note_gone(self, there: set[str]) -> None:
        """Tell of files that went before all of their records were sent."""
        for path, entry in list(self._log.entries.items()):
            if entry.state == "sending" and path not in there and path not in self._pending:
                why = f"it was deleted when {entry.records:,} of its records had been sent"
                self._tell(Seen(path, entry.size, entry.modified), "changed", why)

    @staticmethod
    def _as_seen(seen: Seen) -> dict[str, Any]:
        return {"size": seen.size, "modified": seen.modified}

    def _entry(self, path: str) -> FileEntry | None:
        return self._pending.get(path) or self._log.entries.get(path)

    def _serve(self, path: str, asked: bool) -> None:
        if asked:
            self._served.append(path)

    def _note(self, entry: FileEntry) -> None:
        self._pending[entry.path] = entry.model_copy(
            update={"at": datetime.now(UTC), "epoch": self._epoch}
        )

    def _open(self) -> None:
        if not self._begun:
            self._log.begin()
            self._begun = True

    def _commit(self) -> None:
        if not self._pending and not self._served:
            return
        self._open()
        before = {path: self._log.entries.get(path) for path in self._pending}
        self._log.commit(list(self._pending.values()), self._served)
        for path, entry in self._pending.items():
            self._not_taken.pop(path, None)
            old = before[path]
            counted = old.earlier + old.records if old else 0
            self.sent += entry.earlier + entry.records - counted
        for line in self._told:
            self._say(line)
        self._forget()

    def _abort(self) -> None:
        if self._begun:
            self._log.abort()
        self._forget()

    def _forget(self) -> None:
        self._pending, self._served, self._told, self._begun = {}, [], [], False

    def _tell_away(self, text: str) -> None:
        if text != self._away:
            self._say(text or "the folder can be read again")
        self._away = text
