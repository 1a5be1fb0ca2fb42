"""Files as records: opened and unpacked, each record a message; nothing that is read is lost."""

from __future__ import annotations

import difflib
import gzip
import json
import lzma
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import IO, Any, NamedTuple

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import Spec
from streamkeeper.spec.producers import Replay
from streamkeeper_apps.producer.cells import instant_reader, to_bytes
from streamkeeper_apps.producer.layout import Layout

_OPENERS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
_new: Callable[..., Record] = tuple.__new__
DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""What reading a broken archive raises."""


class Record(NamedTuple):
    """A record as a message; `micros` is its event time, if it can be told, in µs since 1970.

    `whole` is false for a malformed record. It begins as a Message does, and is sent as one.
    """

    key: bytes | None
    value: bytes
    micros: int | None
    whole: bool


def whole(key: bytes | None, value: bytes, micros: int | None) -> Record:
    """Return a record that could be read; much faster than the constructor."""
    return _new(Record, (key, value, micros, True))


class Source(ABC):
    """A file of records, plain or packed with gzip or xz (told by its first bytes).

    Subclasses yield the records; `blank_lines` counts lines that hold none.

    Parameters: path; spec, a declaration with `producer.replay`.
    Raises StreamkeeperError when there is no replay, or the file cannot be opened.
    """

    malformed_are = "sent as they stand and so quarantined"

    def __init__(self, path: Path, spec: Spec) -> None:
        self.path, self.spec, self.replay = path, spec, replay_of(spec)
        self.blank_lines = 0
        try:
            self.size = path.stat().st_size
            self._raw = path.open("rb")
        except OSError as error:
            raise StreamkeeperError(f"{path} cannot be read: {error.strerror}") from None
        head = self._raw.read(6)
        self._raw.seek(0)
        opener = next((opener for magic, opener in _OPENERS if head.startswith(magic)), None)
        self.stream: IO[bytes] = opener(self._raw) if opener else self._raw

    @property
    def position(self) -> int:
        """Bytes of the file read so far, packed as they are."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Yield every record.

        Raises StreamkeeperError where the file cannot be read any further.
        """

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are not blank, without their ends."""
        number = 0
        try:
            for line in self.stream:
                number += 1
                stripped = line.rstrip(b"\r\n")
                if number == 1:
                    stripped = stripped.removeprefix(b"\xef\xbb\xbf")
                if stripped.strip():
                    yield stripped
                else:
                    self.blank_lines += 1
        except DAMAGED as error:
            raise self.damaged(f"line {number}", error) from None

    def damaged(self, where: str, error: object) -> StreamkeeperError:
        """Return the error for a file that breaks off."""
        return StreamkeeperError(
            f"{self.path} is damaged after {where}: {error}; what stands before it was read"
        )


def replay_of(spec: Spec) -> Replay:
    """Return how a stream's files become messages; StreamkeeperError when that is not declared."""
    if spec.producer.replay is None:
        raise StreamkeeperError(
            f"the stream {spec.name!r} declares no replay; add producer.replay to it"
        )
    return spec.producer.replay


class Writer:
    """Makes messages of a record's mapped fields.

    Parameters: spec; `texts` are then given in the order of `names`.
    """

    def __init__(self, spec: Spec) -> None:
        replay = replay_of(spec)
        self._layout = Layout(spec, [*replay.columns, *replay.constants])
        self.names = self._layout.names
        self._constants = {
            name: json.dumps(value, ensure_ascii=False) for name, value in replay.constants.items()
        }
        self._key = self.names.index(replay.key) if replay.key else None
        event = spec.event_time.field
        self._event = self.names.index(event) if event in self.names else None
        self._instant = instant_reader(spec.fields[event])

    def constant(self, name: str) -> str | None:
        """Return the JSON text of a constant; None for a field that a column fills."""
        return self._constants.get(name)

    def records(self, columns: Sequence[Sequence[str]]) -> Iterator[Record]:
        """Yield the records of many lines; columns, the texts of each of `names`."""
        values = self._layout.many(columns)
        micros: Iterable[int | None] = repeat(None)
        if self._event is not None:
            micros = map(self._instant, columns[self._event])
        keys: Iterable[bytes | None] = repeat(None)
        if self._key is not None:
            keys = map(key_of, columns[self._key])
        # Nothing but C between the items: this is the inner loop of a replay.
        return map(_new, repeat(Record), zip(keys, values, micros, repeat(True)))

    def record(self, texts: Sequence[str]) -> Record:
        """Return the record of one line."""
        return next(self.records([(text,) for text in texts]))


@lru_cache(maxsize=65536)
def key_of(made: str) -> bytes | None:
    """Return a key: a text itself, anything else as JSON writes it, nothing for null."""
    if made == "null":
        return None
    if made[0] == '"':
        made = made[1:-1] if "\\" not in made else json.loads(made)
    return to_bytes(made)


def malformed(line: bytes) -> Record:
    """Return the record of a line that cannot be read: its own bytes."""
    return Record(None, line, None, False)


def no_such(
    path: Path, field: str, what: str, wanted: str, there: Sequence[str]
) -> StreamkeeperError:
    """Return the error for a mapped name that a file does not have."""
    text = f"{path}: producer.replay.columns.{field}: no {what} is named {wanted!r}; "
    text += f"there are {', '.join(map(repr, there))}"
    nearest = difflib.get_close_matches(wanted, there, n=1)
    return StreamkeeperError(text + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
