"""The formats of a watched folder's files: JSON lines, JSON documents, CSV."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from streamkeeper.errors import StreamkeeperError
from streamkeeper.files import printable
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.folder.contents import DAMAGED, BrokenOff, Content, Refused
from streamkeeper_apps.producer.json_files import Pieces
from streamkeeper_apps.producer.rows import Lines

_SHOWN = 10
_KINDS_OF_KEYS = 1000


class Survey(NamedTuple):
    """What one pass over a file tells; `kind` is how another pass is to read it."""

    sha256: str
    records: int
    notes: tuple[str, ...]
    kind: type[Content]


class JsonLines(Content):
    """A value a line; blank lines are no records."""

    blank = 0

    def records(self) -> Iterator[bytes]:
        """Yield every line that is not blank.

        Raises BrokenOff when the last line has no end and is no JSON value.
        """
        for line in self.lines():
            record = line.rstrip(b"\r\n")
            if not record.strip():
                self.blank += 1
                continue
            if not line.endswith(b"\n") and parsed(record) is None:
                raise BrokenOff("its last line breaks off")
            yield record


class JsonDocument(Content):
    """One object, or one array of any length; also objects one after the other."""

    blank = 0

    def records(self) -> Iterator[bytes]:
        """Yield the object, or every element; its text as it stands.

        Raises BrokenOff, Refused.
        """
        pieces = Pieces(self.stream, self.codec, self.wrong)
        if pieces.peek() == "[":
            yield from pieces.elements()
            return
        count = 0
        while pieces.peek():
            yield pieces.value(count)
            count += 1

    def wrong(self, count: int, reason: str, cut: bool) -> StreamkeeperError:
        """Return the error for a value that cannot be read."""
        if cut:
            return BrokenOff(f"it breaks off after {count:,} values")
        return Refused(
            f"after value {count:,}: {reason}; it is neither one object nor one array; if it "
            "holds a value a line, declare producer.folder.format: json_lines"
        )


class CsvRecords(Content):
    """Records as RFC 4180 writes them; their bytes as they stand where the columns are in order.

    Where the header names other columns, or in another order, the declared ones are put in order,
    cells as they are written. A record of another width than the header is no such record: it is
    sent as it stands, and with one delimiter more where it would pass for one.
    """

    blank = 0

    def __init__(self, path: Path, spec: Spec, largest: int) -> None:
        self._places: Sequence[int | None] | None = None
        self.ragged = 0
        super().__init__(path, spec, largest)
        csv.field_size_limit(largest)
        of = spec.source.csv
        self._delimiter = of.delimiter
        self._columns = list(
            of.columns or (".".join(field.keys(name)) for name, field in spec.fields.items())
        )
        self._missing = next(iter(of.missing), "")

    def records(self) -> Iterator[bytes]:
        """Yield every record but the header and blank lines.

        Raises BrokenOff for a quote that is never closed, Refused for a header that cannot be it.
        """
        records = self._records()
        if self.declared.header:
            first = next(records, None)
            if first is None:
                return
            try:
                header = next(csv.reader([first], delimiter=self._delimiter))
            except csv.Error as error:
                raise Refused(f"its first line is no header: {error}") from None
            self._read_header(header)
        arrange = self._arranged if self._places is not None else lambda record: record
        for record in records:
            yield arrange(record).encode("utf-8", "surrogateescape")

    def _records(self) -> Iterator[str]:
        """Yield the records' texts."""
        lines = Lines(self.text(""))
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            plain = lines.without_quotes(256)
            if plain:
                for line in plain:
                    if record := line.rstrip("\r\n"):
                        yield record
                    else:
                        self.blank += 1
                continue
            lines.record.clear()
            begins = lines.count + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                self._check_end(lines, begins, str(error))
                cells = [""]
            if cells is None:
                return
            record = "".join(lines.record).rstrip("\r\n")
            if record:
                yield record
            else:
                self.blank += 1

    def _check_end(self, lines: Lines, begins: int, reason: str) -> None:
        """Raise where the record that is no CSV goes on to the end; else it is sent as it is."""
        if lines.ended:
            raise BrokenOff(f"a quote opened in line {begins:,} or below is not closed")
        if "field limit" in reason:
            told = (
                "a cell that begins in line {:,} or below, if its quote is closed at all, is longer"
            )
            raise self.too_large(told.format(begins))

    def _read_header(self, header: Sequence[str]) -> None:
        if list(header) == self._columns:
            return
        twice = [name for name, n in Counter(header).items() if n > 1 and name in self._columns]
        if twice:
            raise Refused(f"its header names {', '.join(twice)} more than once")
        if not set(header) & set(self._columns):
            raise Refused(
                f"its first line names none of the columns {', '.join(self._columns)}; a file "
                "without a header needs producer.folder.header: false"
            )
        self._width = len(header)
        self._places = [header.index(c) if c in header else None for c in self._columns]
        added = [name for name in header if name not in self._columns]
        absent = [name for name in self._columns if name not in header]
        if added:
            self.notes.append(f"columns not declared: {', '.join(added[:_SHOWN])}")
        if absent:
            self.notes.append(f"columns missing: {', '.join(absent[:_SHOWN])}")
        self.notes.append("columns were put in the declared order")

    def _arranged(self, record: str) -> str:
        """Return a record with its cells in the declared order."""
        cells = self._cut(record)
        if len(cells) != self._width:
            self.ragged += 1
            wide = len(cells) == len(self._columns)
            return record + self._delimiter if wide else record
        assert self._places is not None
        return self._delimiter.join(
            self._missing if place is None else cells[place] for place in self._places
        )

    def _cut(self, record: str) -> list[str]:
        """Return the cells as they are written, quotes included."""
        if '"' not in record:
            return record.split(self._delimiter)
        # Every second piece stands within quotes, where a delimiter is a sign like any other.
        pieces = record.split('"')
        pieces[::2] = [piece.replace(self._delimiter, "\0\n\0") for piece in pieces[::2]]
        return '"'.join(pieces).split("\0\n\0")


class Keys:
    """Counts how the keys of JSON objects differ from the declared ones.

    Parameters: spec.
    """

    def __init__(self, spec: Spec) -> None:
        self._declared = {field.keys(name)[0] for name, field in spec.fields.items()}
        self._found: Counter[frozenset[str]] = Counter()

    def note(self, record: bytes) -> None:
        """Take in a record."""
        value = parsed(record)
        if isinstance(value, dict) and value.keys() != self._declared:
            keys = frozenset(value)
            if keys in self._found or len(self._found) < _KINDS_OF_KEYS:
                self._found[keys] += 1

    def notes(self) -> Iterator[str]:
        """Yield what there is to say."""
        added, absent = Counter[str](), Counter[str]()
        for keys, count in self._found.items():
            added.update(dict.fromkeys(keys - self._declared, count))
            absent.update(dict.fromkeys(self._declared - keys, count))
        for what, counts in (("not declared", added), ("missing", absent)):
            if counts:
                yield f"keys {what}: {_listed(counts)}"


def _listed(counts: Counter[str]) -> str:
    """Write names with how often each came, the most frequent ones first."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{name} ({count:,})" for name, count in order[:_SHOWN]]
    more = len(counts) - _SHOWN
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def parsed(record: bytes) -> Any:
    """Return what a record is as JSON, whatever bytes its texts hold; None for what is none."""
    try:
        return json.loads(record.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


def survey(path: Path, spec: Spec, largest: int) -> Survey:
    """Read a file to its end and tell what it is.

    Parameters: largest, bytes that a record may have.
    Raises BrokenOff, Refused; OSError when it cannot be read.
    """
    folder = spec.producer.folder
    assert folder is not None
    if folder.format == "csv":
        return _survey(CsvRecords, path, spec, largest)
    if folder.format == "json_lines":
        return _survey(JsonLines, path, spec, largest)
    first, second = _first_lines(path, spec, largest)
    if first[:1] not in (b"{", b"[") or isinstance(parsed(first), dict):
        return _survey(JsonLines, path, spec, largest)
    try:
        return _survey(JsonDocument, path, spec, largest)
    except Refused:
        # Lines, the first of which is none: no line of a document is an object by itself.
        if isinstance(parsed(second), dict):
            return _survey(JsonLines, path, spec, largest)
        raise


def _first_lines(path: Path, spec: Spec, largest: int) -> tuple[bytes, bytes]:
    """Return the first two lines that are not blank, or as much of them as is to be seen."""
    content = JsonLines(path, spec, largest)
    found: list[bytes] = []
    try:
        for line in content.lines():
            if line.strip():
                found.append(line.strip())
            if len(found) == 2:
                break
    except (Refused, OSError, ValueError, *DAMAGED):
        pass  # what is wrong with it, the survey tells
    finally:
        content.close()
    first, second, *_ = *found, b"", b""
    return first, second


def _survey(kind: type[Content], path: Path, spec: Spec, largest: int) -> Survey:
    content = kind(path, spec, largest)
    keys = Keys(spec) if kind is not CsvRecords else None
    take: Callable[[bytes], None] = keys.note if keys else lambda record: None
    records = no_utf8 = 0
    try:
        for record in content.each():
            records += 1
            take(record)
            no_utf8 += not record.isascii() and not _is_utf8(record)
        blank, ragged = getattr(content, "blank", 0), getattr(content, "ragged", 0)
        notes = [*content.notes, *(keys.notes() if keys else ())]
        for count, what in (
            (blank, "blank lines"),
            (no_utf8, "records that are not UTF-8, to be quarantined"),
            (ragged, "records of another width than the header, to be quarantined"),
        ):
            if count:
                notes.append(f"{what}: {count:,}")
        return Survey(content.sha256, records, tuple(map(printable, notes)), kind)
    finally:
        content.close()


def _is_utf8(record: bytes) -> bool:
    try:
        record.decode()
    except UnicodeDecodeError:
        return False
    return True
