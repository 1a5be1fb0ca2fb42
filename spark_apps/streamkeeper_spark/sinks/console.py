"""Rows on the driver's log, for people who watch it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from rich.console import Console
from rich.table import Table

from streamkeeper.manifest import Manifest
from streamkeeper.names import BATCH, GENERATION
from streamkeeper.report_text import plain
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import ConsoleSink
from streamkeeper_io.lake import read_rows
from streamkeeper_spark.sinks.counts import count_values, most_frequent

_WIDEST_CELL = 40


def print_raw(spec: Spec, rows: int) -> Callable[[DataFrame, int], None]:
    """Return the function that prints the first valid rows of each batch."""

    def show(batch: DataFrame, number: int) -> None:
        print(f"{spec.name} raw, console batch {number}:", flush=True)
        batch.show(rows, truncate=_WIDEST_CELL)

    return show


def console_sink(spec: Spec, sink: ConsoleSink, lake: str) -> ConsoleWindows | ConsoleCounts:
    """Return what prints published batches as it is declared."""
    if sink.counts is None:
        return ConsoleWindows(spec, sink, lake)
    return ConsoleCounts(spec, sink, lake, sink.counts)


class ConsoleCounts:
    """Prints of each published batch how many valid rows have each value of a column.

    Parameters: spec and sink, the declaration; lake; column, its name.
    """

    def __init__(self, spec: Spec, sink: ConsoleSink, lake: str, column: str) -> None:
        self.name = f"console:counts:{column}"
        self._stream, self._lake, self._column = spec.name, lake, column
        self._most = sink.rows

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Print one published batch; of an empty one nothing."""
        if manifest.read == 0:
            return 0
        counts = count_values(self._lake, manifest, folder, [self._column])[self._column]
        told = ", ".join(self._told(counts)) or "none"
        print(
            f"{self._stream} batch {manifest.batch}: {counts.total():,} valid, "
            f"{manifest.quarantined:,} quarantined; {self._column} {told}",
            flush=True,
        )
        return counts.total()

    def _told(self, counts: Counter[Any]) -> Iterator[str]:
        shown = most_frequent(counts, self._most)
        for value, count in shown:
            yield f"{'null' if value is None else plain(str(value), _WIDEST_CELL)}: {count:,}"
        if others := len(counts) - len(shown):
            rest = counts.total() - sum(count for _, count in shown)
            yield f"{others:,} others: {rest:,}"

    def close(self) -> None:
        """Nothing is held open."""


class ConsoleWindows:
    """Prints published window batches, at most one every `every`.

    Parameters: spec and sink, the declaration; lake.
    """

    def __init__(self, spec: Spec, sink: ConsoleSink, lake: str) -> None:
        self.name = f"console:{sink.of}"
        self._title, self._lake, self._limit = f"{spec.name} {sink.of}", lake, sink.rows
        self._every_s, self._printed = sink.every.total_seconds(), float("-inf")

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Print one published batch, unless another was printed a moment ago."""
        # A batch comes a little early or late; half an interval tells it from the one before.
        if manifest.read == 0 or time.monotonic() - self._printed < self._every_s / 2:
            return 0
        self._printed = time.monotonic()
        tables = read_rows(self._lake, [f"{folder}/{name}" for name in manifest.files])
        rows = pa.concat_tables(tables).drop_columns([GENERATION, BATCH])
        newest = rows.sort_by([("window_start", "descending")]).slice(0, self._limit)
        print(f"{self._title}, batch {manifest.batch}, {manifest.read} rows:", flush=True)
        _print_table(newest)
        return newest.num_rows

    def close(self) -> None:
        """Nothing is held open."""


def _print_table(rows: pa.Table) -> None:
    drawn = Table(*rows.column_names)
    for row in rows.to_pylist():
        drawn.add_row(*[_cell(value) for value in row.values()])
    Console(width=160, no_color=True, markup=False, highlight=False).print(drawn)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:.2f}" if isinstance(value, float) else str(value)
