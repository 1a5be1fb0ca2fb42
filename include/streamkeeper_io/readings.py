"""Where the dashboard finds a stream's rows, windows and KPIs; it only reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self

from streamkeeper.dashboard_questions import Question
from streamkeeper.dashboards import Span
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink


class Unanswered(NamedTuple):
    """A question that these rows cannot answer, and why."""

    reason: str


Answers = list[list[Any] | Unanswered]


class Windows(NamedTuple):
    """The rows of a window: where they are, and what answers questions about those of a time."""

    place: str
    answer: Callable[[Span, Sequence[Question]], Answers]


class Readings(Protocol):
    """The rows of a stream, wherever they are; a context manager, which closes what it opened."""

    @property
    def place(self) -> str:
        """Where the rows are, for people."""

    def newest(self) -> datetime | None:
        """Return the newest event time; None where there is no row. Raises Unavailable."""

    def answer(self, span: Span, questions: Sequence[Question]) -> Answers:
        """Return the answer of each question about the rows of a time. Raises Unavailable."""

    def expect(self, span: Span, questions: Sequence[Question]) -> None:
        """Make ready for these questions about parts of a time, where that saves reading twice."""

    def window(self, name: str) -> Windows:
        """Return the rows of a window, whose times are their starts."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_readings(settings: Settings, spec: Spec) -> Readings:
    """Return the rows of a stream: from PostgreSQL where a sink writes them, else from the lake.

    Raises SettingsError when the address that is needed is not set.
    """
    sink = rows_sink(spec)
    if sink is not None:
        from streamkeeper_io.postgres_readings import PostgresReadings

        return PostgresReadings(settings, spec, sink)
    from streamkeeper_io.lake_readings import LakeReadings

    return LakeReadings(settings, spec)


def rows_sink(spec: Spec) -> PostgresSink | None:
    """Return the PostgreSQL sink of landed rows that has their event time; None if none has."""
    for sink in spec.sinks:
        if not isinstance(sink, PostgresSink) or sink.of != "raw":
            continue
        if spec.event_time.field in (sink.columns or spec.columns()):
            return sink
    return None


def window_sink(spec: Spec, window: str) -> PostgresSink | None:
    """Return the PostgreSQL sink of a window's rows; None if there is none."""
    found = (s for s in spec.sinks if isinstance(s, PostgresSink) and s.of == window)
    return next(found, None)


def lacking(question: Question, columns: Sequence[str], place: str) -> Unanswered | None:
    """Return why a question cannot be answered by rows with these columns; None if it can."""
    missing = [name for name in dict.fromkeys(question.columns) if name not in columns]
    if not missing:
        return None
    return Unanswered(f"{place} has no column {', '.join(missing)}")
