"""What `show` prints: aligned tables for people, JSON and CSV for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from streamkeeper.csv_text import csv_line
from streamkeeper.showing import cell_text, exact_text, json_value, shortened

Format = Literal["table", "json", "csv"]
FORMATS: tuple[Format, ...] = ("table", "json", "csv")
_LONGEST_CELL = 60
_LONGEST_WHOLE = 2000
_GAP = "  "


@dataclass(frozen=True)
class Shown:
    """One table to show.

    `whole` names columns whose texts are not cut to a cell's length; `note` is told when there are
    no rows.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    whole: frozenset[str] = frozenset()
    note: str = "no rows"


def print_shown(found: Iterable[Shown], how: Format) -> None:
    """Print tables; JSON is one array of objects and CSV one table, their titles on stderr."""
    if how == "table":
        for one in found:
            _print_table(one, sys.stdout)
        return
    write: Callable[[Shown, TextIO], None] = _print_json if how == "json" else _print_csv
    for one in found:
        print(one.title if one.rows else f"{one.title}: {one.note}", file=sys.stderr)
        write(one, sys.stdout)


def _print_json(shown: Shown, out: TextIO) -> None:
    """Write an array, one object a line: a document for parsers, lines for grep."""
    lines = (
        json.dumps(
            {c: json_value(v) for c, v in zip(shown.columns, row, strict=True)}, ensure_ascii=False
        )
        for row in shown.rows
    )
    out.write("[" + ",\n ".join(lines) + "]\n")


def _print_csv(shown: Shown, out: TextIO) -> None:
    if shown.columns:
        out.write(csv_line(shown.columns))
    out.writelines(csv_line(map(exact_text, row)) for row in shown.rows)


def _print_table(shown: Shown, out: TextIO) -> None:
    """Write an aligned table, or a record a column a line where the table is too wide."""
    from rich.cells import cell_len

    out.write(f"{shown.title}\n" if shown.rows else f"{shown.title}: {shown.note}\n")
    if not shown.rows:
        return
    numbers = {i for i in range(len(shown.columns)) if _is_number(shown.rows, i)}
    lines = [[_cell(shown, i, value) for i, value in enumerate(row)] for row in shown.rows]
    widths = [
        max(cell_len(line[i]) for line in [shown.columns, *lines])
        for i in range(len(shown.columns))
    ]

    def aligned(cells: Sequence[str]) -> str:
        padded = (
            " " * (width - cell_len(cell)) + cell
            if i in numbers
            else cell + " " * (width - cell_len(cell))
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return _GAP.join(padded).rstrip() + "\n"

    if sum(widths) + len(_GAP) * (len(widths) - 1) > _width(out):
        _print_records(shown.columns, lines, out)
    else:
        out.write(aligned(shown.columns) + _GAP.join("─" * width for width in widths) + "\n")
        out.writelines(aligned(line) for line in lines)
    out.write("\n")


def _print_records(columns: Sequence[str], lines: Sequence[Sequence[str]], out: TextIO) -> None:
    width = max(map(len, columns))
    for number, line in enumerate(lines, 1):
        out.write(f"── {number} of {len(lines)}\n")
        for column, cell in zip(columns, line, strict=True):
            out.write(f"{column.ljust(width)}{_GAP}{cell}".rstrip() + "\n")


def _cell(shown: Shown, place: int, value: Any) -> str:
    whole = shown.columns[place] in shown.whole
    return shortened(cell_text(value), _LONGEST_WHOLE if whole else _LONGEST_CELL)


def _is_number(rows: Sequence[Sequence[Any]], place: int) -> bool:
    values = [row[place] for row in rows if row[place] is not None]
    return bool(values) and all(isinstance(v, int | float) and v is not True for v in values)


def _width(out: TextIO) -> int:
    """Return the terminal's width; a file or a pipe has room for any row."""
    # COLUMNS, where it is set, counts for a pipe too.
    fallback = (80 if out.isatty() else 1_000_000, 24)
    return shutil.get_terminal_size(fallback).columns
