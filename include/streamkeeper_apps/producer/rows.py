"""Reads CSV files row by row and makes each row a message; no row is dropped."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.cells import Column, column_converter
from streamkeeper_apps.producer.records import DAMAGED, Record, Source, Writer, malformed, no_such

_LARGEST_CELL = 16 * 1024 * 1024
# So many rows are made records together.
_ROWS = 256
_Fill = Callable[[Sequence[Sequence[str]], int], Sequence[str]]
"""Makes the JSON texts of a field from the columns of so many rows."""


class CsvFile(Source):
    """A CSV file: UTF-8, with or without a byte order mark, any line ends, names in its first line.

    Parameters: path; spec, a declaration with `producer.replay`.
    Raises StreamkeeperError when there is no replay, or the file lacks a declared column or names
    it twice.
    """

    malformed_are = "sent as lists and so quarantined"

    def __init__(self, path: Path, spec: Spec) -> None:
        super().__init__(path, spec)
        # Bytes that are no UTF-8 pass through unchanged and fail the check parse:utf8.
        decoded = io.TextIOWrapper(self.stream, "utf-8-sig", errors="surrogateescape", newline="")
        self._lines, self._delimiter = Lines(decoded), self.replay.delimiter
        self._reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        csv.field_size_limit(_LARGEST_CELL)
        header = self._next()
        if header is None:
            raise StreamkeeperError(f"{path} is empty; its first line must hold the columns' names")
        self._width = len(header)
        self._writer = Writer(spec)
        self._plan = [self._filler(name, header) for name in self._writer.names]

    def records(self) -> Iterator[Record]:
        """Yield every row; blank lines are counted and left out.

        Raises StreamkeeperError for a quote that is never closed and for a broken archive.
        """
        rows = list[list[str]]()
        try:
            while (found := self._rows()) is not None:
                for cells in found:
                    if len(cells) == self._width:
                        rows.append(cells)
                    else:
                        yield from self._whole(rows)
                        yield malformed(_as_list(cells))
                if len(rows) >= _ROWS:
                    yield from self._whole(rows)
        except StreamkeeperError:
            yield from self._whole(rows)
            raise
        yield from self._whole(rows)

    def _whole(self, rows: list[list[str]]) -> Iterator[Record]:
        """Return the records of whole rows, which are taken away."""
        columns = list(zip(*rows, strict=True))
        count = len(rows)
        rows.clear()
        if not count:
            return iter(())
        return self._writer.records([fill(columns, count) for fill in self._plan])

    def _rows(self) -> list[list[str]] | None:
        """Return some of the next rows; None at the end.

        Lines without a quote are rows, and their cells are what stands between.
        """
        try:
            lines = self._lines.without_quotes(_ROWS)
        except DAMAGED as error:
            raise self.damaged(f"line {self._lines.count}", error) from None
        if not lines:
            cells = self._next()
            return None if cells is None else [cells]
        delimiter = self._delimiter
        found = [whole.split(delimiter) for line in lines if (whole := line.rstrip("\r\n"))]
        self.blank_lines += len(lines) - len(found)
        return found

    def _next(self) -> list[str] | None:
        """Return the next row; one that is no CSV comes as a single cell of its whole text."""
        while True:
            self._lines.record.clear()
            begins = self._lines.count + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                return [self._malformed(begins, str(error))]
            except DAMAGED as error:
                raise self.damaged(f"line {self._lines.count}", error) from None
            if cells:
                return cells
            self.blank_lines += 1

    def _malformed(self, begins: int, reason: str) -> str:
        if self._lines.ended or "field limit" in reason:
            raise StreamkeeperError(
                f"{self.path}: a quote opened in line {begins} or below is not closed ({reason}); "
                "close it and replay the rest; the rows before it were read"
            )
        return "".join(self._lines.record).rstrip("\r\n")

    def _filler(self, name: str, header: Sequence[str]) -> _Fill:
        """Return what makes the texts of a field from the columns of many rows."""
        constant = self._writer.constant(name)
        if constant is not None:
            return _always(constant)
        column = self.replay.columns[name]
        title = str(column.column)
        places = [i for i, found in enumerate(header) if found == title]
        if not places:
            raise no_such(self.path, name, "column", title, header)
        if len(places) > 1:
            counted = " and ".join(str(p + 1) for p in places)
            raise StreamkeeperError(
                f"{self.path}: producer.replay.columns.{name}: the column {title!r} stands "
                f"{len(places)} times, at positions {counted}; map a column that stands once"
            )
        field, missing = self.spec.fields[name], self.replay.missing
        return _of(places[0], column_converter(field, column, missing))


class Lines:
    """The lines of a text; remembers those of the present record and whether they have ended."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._ahead: deque[str] = deque()
        self._damage: Exception | None = None
        self.record: list[str] = []
        self.count = 0
        self.ended = False

    def without_quotes(self, count: int) -> list[str]:
        """Return the next lines, at most so many, up to the first that holds a quote."""
        ahead = self._ahead
        if not ahead:
            self._read(count)
        lines = []
        while ahead and '"' not in ahead[0]:
            lines.append(ahead.popleft())
        self.count += len(lines)
        return lines

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if not self._ahead:
            self._read(1)
        if not self._ahead:
            self.ended = True
            raise StopIteration
        self.count += 1
        self.record.append(self._ahead.popleft())
        return self.record[-1]

    def _read(self, count: int) -> None:
        """Read ahead; a damage is raised once all before it was given out."""
        if self._damage is None:
            try:
                for line in islice(self._text, count):
                    self._ahead.append(line)
            except DAMAGED as error:
                self._damage = error
        if self._damage is not None and not self._ahead:
            raise self._damage


def _always(text: str) -> _Fill:
    return lambda columns, count: [text] * count


def _of(place: int, convert: Column) -> _Fill:
    return lambda columns, count: convert(columns[place])


def _as_list(cells: Sequence[str]) -> bytes:
    """Make a malformed row a JSON list of its cells: never an object, so it is quarantined."""
    text = json.dumps(list(cells), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape")
