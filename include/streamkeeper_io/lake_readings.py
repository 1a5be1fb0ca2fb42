"""A stream's rows in the lake, hour by hour, aggregated by DuckDB; its windows and KPIs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from streamkeeper import names
from streamkeeper.dashboard_questions import AT, DUCKDB, ROWS, Answer, Keys, Question
from streamkeeper.dashboards import EPOCH, Span
from streamkeeper.hours import HOUR
from streamkeeper.names import hour_of, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.showing import HourRange
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_io.cassandra_windows import (
    MOST_PARTITIONS,
    cassandra_sink,
    partitions,
    read_windows,
)
from streamkeeper_io.lake import reach_lake, use_lake
from streamkeeper_io.readings import Answers, Unanswered, Windows, lacking
from streamkeeper_io.rows_once import RowsOnce
from streamkeeper_io.tables import python_rows
from streamkeeper_io.zones import LakeView

MOST_WINDOWS = 100_000
MOST_KPI_ROWS = 100_000
_WAIT_S = 2.0
_NEWEST_BATCHES = 3
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_HELD = timedelta(hours=2)


class _Held(NamedTuple):
    """Rows of a time that are kept for several questions."""

    span: Span
    columns: tuple[str, ...]
    parts: list[pa.Table]

    def covers(self, span: Span, columns: tuple[str, ...]) -> bool:
        """Tell whether they answer questions about a time that read some columns."""
        inside = self.span.begin <= span.begin and span.end <= self.span.end
        return inside and set(columns) <= set(self.columns)


class LakeReadings:
    """The rows of closed hours and those that have landed since, each once.

    Parameters: settings; spec. Raises SettingsError when no lake is set, LakeUnavailable.
    """

    def __init__(self, settings: Settings, spec: Spec) -> None:
        self.settings, self.spec = settings, spec
        self._held: _Held | None = None
        self._windows: dict[tuple[str, Span], pa.Table] = {}
        reach_lake(use_lake(settings), _WAIT_S)
        self.view = LakeView(settings, spec)

    @property
    def place(self) -> str:
        return f"the lake, {self.spec.lake.path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing stays open."""

    def newest(self) -> datetime | None:
        """Return the newest event time of the last batches, else the last closed hour's end."""
        told = []
        for n, manifest in enumerate(self.view.backwards("raw")):
            if manifest.last_event is not None:
                told.append(manifest.last_event.astimezone(UTC))
            elif manifest.hours:
                told.append(max(manifest.hours) + HOUR - timedelta(microseconds=1))
            if n + 1 >= _NEWEST_BATCHES and told:
                break
        if not told:
            closed = self.view.last_closed(names.CURATED, 1)
            told = [hour + HOUR - timedelta(microseconds=1) for hour in closed]
        return max(told, default=None)

    def answer(self, span: Span, questions: Sequence[Question]) -> Answers:
        declared = tuple(self.spec.columns())
        known = [lacking(question, declared, self.place) for question in questions]
        columns = tuple(dict.fromkeys(c for q in questions for c in q.columns if c in declared))
        held = self._held
        if held is not None and held.covers(span, columns):
            return _asked(held.parts, span, questions, known)
        return _asked(self._read(span, columns), span, questions, known)

    def expect(self, span: Span, questions: Sequence[Question]) -> None:
        """Read what will be asked of parts of a time, once; nothing where that is too much."""
        if span.length <= _LONGEST_HELD:
            declared = self.spec.columns()
            columns = tuple(dict.fromkeys(c for q in questions for c in q.columns if c in declared))
            self._held = _Held(span, columns, list(self._read(span, columns)))

    def _read(self, span: Span, columns: tuple[str, ...]) -> Iterator[pa.Table]:
        for rows in RowsOnce(self.view, columns).by_hour(_hours(span), *span):
            timed = _with_time(rows, names.EVENT_TIME)
            # Several questions follow, and each would look at the whole hour.
            begin, end = ((at - EPOCH) // _MICROSECOND for at in span)
            yield timed.filter((pc.field(AT) >= begin) & (pc.field(AT) < end))

    def window(self, name: str) -> Windows:
        if (sink := cassandra_sink(self.spec, name)) and self.settings.cassandra:
            return Windows(
                f"Cassandra, table {sink.keyspace}.{sink.table}",
                partial(self._in_cassandra, sink),
            )

        def answer(span: Span, questions: Sequence[Question]) -> Answers:
            found = self.view.live_windows(name, MOST_WINDOWS, _hours(span))
            parts = [] if found is None else [_with_time(found, "window_start")]
            return _asked(parts, span, questions, [None] * len(questions))

        return Windows(f"the lake, {names.window_path(self.spec, name)}", answer)

    def _in_cassandra(
        self, sink: CassandraSink, span: Span, questions: Sequence[Question]
    ) -> Answers:
        """Answer from the partitions of those keys that readings of this time have."""
        by = self.spec.window(sink.of).by
        keys: list[Any] = [()]
        if by:
            (found,) = self.answer(span, [Keys(by)])
            if isinstance(found, Unanswered):
                return [found] * len(questions)
            keys = found
        count = len(partitions(keys, span))
        if count > MOST_PARTITIONS:
            told = (
                f"{len(keys):,} keys in this time are {count:,} partitions, more than the "
                f"{MOST_PARTITIONS:,} that a page reads; choose a shorter time"
            )
            return [Unanswered(told)] * len(questions)
        if (sink.of, span) not in self._windows:
            rows = read_windows(self.settings, self.spec, sink, keys, span)
            self._windows[sink.of, span] = _with_time(rows, "window_start")
        parts = [self._windows[sink.of, span]]
        return _asked(parts, span, questions, [None] * len(questions))

    def kpi(self, name: str, most: int) -> dict[datetime, list[dict[str, Any]]]:
        """Return the rows of a KPI of the last closed hours, oldest first.

        Parameters: most, so many hours. Of an hour the first 100,000 rows are read.
        """
        found = {}
        for hour in self.view.last_closed(kpi_zone(name), most):
            with suppress(FileNotFoundError):
                read = self.view.closed(kpi_zone(name), hour, MOST_KPI_ROWS)
                if read is not None:
                    found[hour] = as_dicts(read[1])
        return found


def as_dicts(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows as Python's values by column, without Streamkeeper's own columns."""
    kept = rows.select([n for n in rows.column_names if not n.startswith("_")])
    return [dict(zip(kept.column_names, row, strict=True)) for row in python_rows(kept)]


def _asked(
    parts: Iterable[pa.Table],
    span: Span,
    questions: Sequence[Question],
    known: Sequence[Unanswered | None],
) -> Answers:
    """Ask parts of rows one after the other; known: why a question cannot be answered at all."""
    wrong = {i: why for i, why in enumerate(known) if why is not None}
    answers: list[list[Answer]] = [[] for _ in questions]
    with duckdb.connect(config={"threads": 2}) as database:
        database.execute("SET TimeZone = 'UTC'")
        for rows in parts:
            database.register(ROWS, rows)
            for i, question in enumerate(questions):
                if i in wrong:
                    continue
                try:
                    found = database.execute(question.sql(DUCKDB, span)).fetchall()
                except duckdb.Error as error:
                    wrong[i] = _unanswered(error)
                else:
                    answers[i].append(found)
    return [wrong.get(i) or q.merge(answers[i]) for i, q in enumerate(questions)]


def _with_time(rows: pa.Table, name: str) -> pa.Table:
    at = rows[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return rows.append_column(AT, at)


def _unanswered(error: duckdb.Error) -> Unanswered:
    # A condition that DuckDB does not know.
    return Unanswered(f"DuckDB does not tell: {str(error).splitlines()[0]}")


def _hours(span: Span) -> HourRange:
    return HourRange(hour_of(span.begin), hour_of(span.end - timedelta(microseconds=1)) + HOUR)
