"""Watched folders: what the ledger says of a file, and what is to be done about one seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal[
    "sending", "sent", "waiting", "incomplete", "refused", "unreadable", "unknown", "changed"
]
"""sending: some of its records are in the topic, the rest follows; sent: all are; waiting: it is
still being written, or so it seems; incomplete: it broke off and does not change any more; refused:
it is not what the declaration says; unreadable: it cannot be opened; unknown: its name fits no
pattern; changed: it is no longer what was sent. What is incomplete, refused or unreadable is looked
at again when it changes; what is changed only when a person asks."""

_HIDDEN, _UNFINISHED = (".", "_"), (".tmp", ".part", ".partial", ".crdownload", "~")
_LONGEST_TEXT = 2_000
AGAIN = "again:"
"""Begins the key of a request in the ledger; a file's path follows."""


class FileEntry(BaseModel):
    """What the ledger keeps of a file, as of its last change of state.

    path: below the folder; size: bytes; modified: its own time of change, ns since 1970; sha256: of
    the content that `records` counts, empty while none was read; records: of this content in the
    topic; earlier: records of contents before it; reading: how often it was begun; partition,
    first_offset, last_offset: where they stand in the topic (others may stand between); topic_id:
    of that topic; notes: what is to be said besides; epoch: of the launch that wrote it.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    state: State
    why: str = ""
    size: int = 0
    modified: int = 0
    sha256: str = ""
    records: int = 0
    earlier: int = 0
    reading: int = 0
    topic_id: str = ""
    partition: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    notes: tuple[str, ...] = ()
    at: datetime
    epoch: int | None = None


@dataclass(frozen=True)
class Seen:
    """A file as a look at the folder finds it; `problem` tells why it cannot be read."""

    path: str
    size: int = 0
    modified: int = 0
    inode: int = 0
    matches: bool = True
    problem: str = ""

    def same_as(self, entry: FileEntry) -> bool:
        """Tell whether it looks as it did when the entry was written."""
        return (self.size, self.modified) == (entry.size, entry.modified)


Step = Literal["leave", "settle", "tell", "read", "go_on", "compare"]
"""leave: nothing; settle: look again, it may still be written; tell: write why it is not read;
read: read it from its first record on; go_on: read it from where the ledger stands; compare: look
whether its content is still that of the ledger."""


_DONE_WITH = ("sent", "incomplete", "refused", "changed")


def next_step(seen: Seen, entry: FileEntry | None, *, settled: bool, asked: bool) -> Step:
    """Say what is to be done about a file.

    Parameters: settled, whether it looked the same for the declared time; asked, whether a person
    asks to read it again.
    """
    told = "unreadable" if seen.problem else "" if seen.matches else "unknown"
    if told:
        same = entry is not None and (entry.state, entry.why) == (told, why_not(seen))
        return "leave" if same else "tell"
    if entry is not None and seen.same_as(entry) and not asked and entry.state in _DONE_WITH:
        return "leave"
    if not settled:
        return "settle"
    if entry is None or asked or not entry.sha256:
        return "read"
    if entry.state == "sending" and seen.same_as(entry):
        return "go_on"
    return "compare"


def why_not(seen: Seen) -> str:
    """Return why a file is not read, as far as its name and kind tell."""
    return seen.problem or ("" if seen.matches else "its name fits none of the declared patterns")


@dataclass
class Settling:
    """Which files have looked the same for a while.

    Parameters: settle_s, for so many seconds; patience_s, after so many seconds what is broken off
    counts as incomplete. The clock is the caller's, in seconds, and never goes back.
    """

    settle_s: float
    patience_s: float
    _same: dict[str, tuple[Seen, float]] = field(default_factory=dict)
    _restless: dict[str, float] = field(default_factory=dict)

    def note(self, seen: Sequence[Seen], now: float) -> None:
        """Take in a look at the folder; files that are gone are forgotten."""
        same, restless = self._same, self._restless
        self._same = {
            one.path: same[one.path]
            if one.path in same and same[one.path][0] == one
            else (one, now)
            for one in seen
        }
        self._restless = {
            one.path: restless.get(one.path, now) for one in seen if not self.settled(one.path, now)
        }

    def settled(self, path: str, now: float) -> bool:
        """Tell whether a file has looked the same for long enough to be read."""
        return now - self._same[path][1] >= self.settle_s

    def given_up(self, path: str, now: float) -> bool:
        """Tell whether a broken file has looked the same for so long that nobody writes it."""
        return now - self._same[path][1] >= self.patience_s

    def restless(self, path: str, now: float) -> bool:
        """Tell whether a file has been changing for so long that nobody need wait for it."""
        return now - self._restless.get(path, now) >= self.patience_s


def printable(text: str) -> str:
    """Return a text that came out of a file, with escapes for what no UTF-8 can write.

    One that is too long for a person is cut: names in a file may be of any length, the ledger is
    not for them.
    """
    told = text.encode("utf-8", "backslashreplace").decode()
    return told if len(told) <= _LONGEST_TEXT else f"{told[:_LONGEST_TEXT]} and so on"


def is_hidden(path: str) -> bool:
    """Tell whether a path, or a folder on it, is hidden or of a file that is not finished."""
    return any(
        part.startswith(_HIDDEN) or part.lower().endswith(_UNFINISHED) for part in path.split("/")
    )


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether a path fits one of the patterns; `*` stays within a folder, `**/` does not."""
    return any(_pattern(pattern).fullmatch(path) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression; as pathlib's glob, letters in their case."""
    pieces = re.split(r"(\*\*/|\*|\?|\[!?[^]]+\])", pattern)
    known = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
    # Every second piece is a sign of the pattern, or a class such as [0-9].
    made = (
        known.get(piece, piece.replace("[!", "[^")) if i % 2 else re.escape(piece)
        for i, piece in enumerate(pieces)
    )
    return re.compile("".join(made), re.DOTALL)
