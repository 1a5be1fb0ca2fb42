"""Takes files apart into records, whose bytes stay as they are; nothing is guessed or left out."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import Spec

DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
"""What reading a broken archive raises; only the first tells that it merely breaks off."""
BOM = b"\xef\xbb\xbf"
_MAGIC: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open}
_PACKED = (".gz", ".xz")
_NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\f\r")
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class Refused(StreamkeeperError):
    """A file is not what the declaration says; nothing of it is sent."""


class BrokenOff(StreamkeeperError):
    """A file ends in the middle of a record, of its archive or of its only value."""


class NotTaken(StreamkeeperError):
    """Kafka does not take a record of a file; `path` is the file's below the folder."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class Content(ABC):
    """One pass over a file, packed with gzip or xz (told by its first bytes) or plain.

    Parameters: path; spec, a declaration with `producer.folder`; largest, bytes that a record may
    have.
    Raises OSError when it cannot be opened, Refused or BrokenOff for its first bytes.
    """

    def __init__(self, path: Path, spec: Spec, largest: int) -> None:
        assert spec.producer.folder is not None
        self.path, self.spec, self.declared = path, spec, spec.producer.folder
        self.largest = largest
        self._hashed = _Hashed(path.open("rb", buffering=0))
        self.notes: list[str] = []
        try:
            self.stream: IO[bytes] = self._unpacked(io.BufferedReader(self._hashed, 1 << 18))
            self._look_at_the_head()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def records(self) -> Iterator[bytes]:
        """Yield every record, without the end of its line; UTF-8 as it stands, else decoded.

        Raises Refused, BrokenOff; OSError where the disk fails.
        """

    def each(self) -> Iterator[bytes]:
        """Yield the records; read the file to its end, whatever stands there."""
        try:
            for record in self.records():
                if len(record) > self.largest:
                    raise self.too_large(f"a record of {len(record):,} bytes")
                yield record
            while self.stream.read(1 << 20):
                pass
        except EOFError as error:
            raise BrokenOff(f"the archive breaks off: {error}") from None
        except DAMAGED as error:
            raise Refused(f"the archive is damaged: {error}") from None
        except UnicodeError as error:
            told = str(error)  # UTF-16 without a byte order mark is no UnicodeDecodeError
            if isinstance(error, UnicodeDecodeError):
                told = f"{error.reason} at byte {error.start} of a part"
            raise Refused(f"is not {self.declared.encoding}: {told}") from None

    def close(self) -> None:
        """Close the file."""
        self._hashed.close()

    @property
    def sha256(self) -> str:
        """The hash of what was read so far; of the whole file once `each` has ended."""
        return self._hashed.sha256.hexdigest()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their ends; raises Refused for one that is too long."""
        longest = self.largest + 3  # with its end, and with a byte more
        read = self._line_reader()
        number = 0
        while line := read(longest):
            number += 1
            if len(line) >= longest and not line.endswith(b"\n"):
                raise self.too_large(f"line {number:,} is longer")
            yield line.removeprefix(BOM) if number == 1 else line

    def too_large(self, what: str) -> Refused:
        """Return the error for a record that its topic does not take, with the next step."""
        return Refused(
            f"{what}; the topic takes {self.largest:,} bytes as a record of this file: raise its "
            "max.message.bytes, then ask for the file with `produce folder --again`"
        )

    def _line_reader(self) -> Callable[[int], bytes]:
        if self.declared.encoding == "utf-8":
            return self.stream.readline
        text = self.text("\n")
        return lambda size: text.readline(size).encode()

    def text(self, newline: str) -> io.TextIOWrapper:
        """Return the file as text; bytes that are no UTF-8 pass through unchanged."""
        errors = "surrogateescape" if self.declared.encoding == "utf-8" else "strict"
        # Kept, for it closes the file when it goes.
        self._text = io.TextIOWrapper(self.stream, self.codec, errors, newline)
        return self._text

    @property
    def codec(self) -> str:
        """Python's name of the declared encoding; a byte order mark is no part of the text."""
        return "utf-8-sig" if self.declared.encoding == "utf-8" else self.declared.encoding

    def _unpacked(self, raw: io.BufferedReader) -> IO[bytes]:
        head = raw.peek(6)[:6]
        opener = _MAGIC.get(head[:2])
        if self.path.suffix in _PACKED and not opener:
            if len(head) == 1:
                raise BrokenOff("the archive has one byte")
            # Plain text may have such a name; an archive whose first bytes are wrong is none.
            if not _NO_TEXT.isdisjoint(head) and head[:2] not in _OTHER_MARKS:
                raise Refused("the archive is damaged: it does not begin as one of gzip or xz")
        found: IO[bytes] = opener(raw) if opener else raw
        return found

    def _look_at_the_head(self) -> None:
        stream: Any = self.stream
        try:
            head = bytes(stream.peek(4)[:4])
        except EOFError as error:
            raise BrokenOff(f"the archive breaks off: {error}") from None
        except DAMAGED as error:
            raise Refused(f"the archive is damaged: {error}") from None
        if head.startswith(BOM):
            self.notes.append("a byte order mark was taken off")
        if self.declared.encoding == "utf-8":
            other = _OTHER_MARKS.get(head[:2]) or ("UTF-16 or UTF-32" if b"\0" in head else "")
            if other:
                raise Refused(f"is {other}, not UTF-8; declare producer.folder.encoding")


class _Hashed(io.RawIOBase):
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file: Any = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer) or 0)
        self.sha256.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
