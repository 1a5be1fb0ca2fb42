"""A stream's rows and windows in PostgreSQL, aggregated there: no more than answers travel."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

import psycopg
from sqlalchemy import make_url

from streamkeeper.dashboard_questions import Dialect, Question, postgres
from streamkeeper.dashboards import Span
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_io.postgres import connect, is_away, unavailable
from streamkeeper_io.postgres_sinks import START, sink_table
from streamkeeper_io.readings import Answers, Unanswered, Windows, lacking, window_sink

# What takes longer is no page's business; the server ends it.
_OPTIONS = "-c default_transaction_read_only=on -c statement_timeout=15s -c timezone=UTC"


class PostgresReadings:
    """The rows of one sink's table; every statement runs in a read-only transaction.

    Parameters: settings; spec; sink, of landed rows.
    Raises SettingsError when no database is set for the sink's connection.
    """

    def __init__(self, settings: Settings, spec: Spec, sink: PostgresSink) -> None:
        self.settings, self.spec, self.sink = settings, spec, sink
        self.columns = sink.columns or tuple(spec.columns())
        self._dialect = postgres(sink_table(spec, sink).full_name, spec.event_time.field)
        self._url = make_url(settings.postgres_url(sink.connection))
        self._open: psycopg.Connection[Any] | None = None

    @property
    def place(self) -> str:
        return f"PostgreSQL, table {self.sink.table}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def newest(self) -> datetime | None:
        time, table = self._dialect.time, self._dialect.rows
        sql = f"SELECT {time} FROM {table} WHERE {time} IS NOT NULL ORDER BY 1 DESC LIMIT 1"
        try:
            rows = self._run(sql)
        except psycopg.Error as error:
            raise unavailable(self._url, self.sink.connection, error) from error
        return rows[0][0] if rows else None

    def answer(self, span: Span, questions: Sequence[Question]) -> Answers:
        return [
            lacking(question, self.columns, self.place)
            or self._answer(self._dialect, question, span)
            for question in questions
        ]

    def expect(self, span: Span, questions: Sequence[Question]) -> None:
        """PostgreSQL keeps what was asked of it last in its own memory."""

    def _answer(self, dialect: Dialect, question: Question, span: Span) -> list[Any] | Unanswered:
        try:
            return question.merge([self._run(question.sql(dialect, span))])
        except psycopg.Error as error:
            # A condition that PostgreSQL does not know, a statement that took too long.
            return Unanswered(f"PostgreSQL does not tell: {str(error).splitlines()[0]}")

    def window(self, name: str) -> Windows:
        sink = window_sink(self.spec, name)
        if sink is None or sink.connection != self.sink.connection:
            from streamkeeper_io.lake_readings import LakeReadings

            return LakeReadings(self.settings, self.spec).window(name)
        dialect = postgres(sink_table(self.spec, sink).full_name, START)
        return Windows(
            f"PostgreSQL, table {sink.table}",
            lambda span, questions: [self._answer(dialect, q, span) for q in questions],
        )

    def _run(self, sql: str) -> list[Any]:
        """Return the rows of a statement; none where the sink has not made its table yet."""
        try:
            if self._open is None:
                self._open = connect(self._url, "streamkeeper dashboard", options=_OPTIONS)
            with self._open.cursor() as cursor:
                # The statements are made of quoted names and literals of the declaration.
                cursor.execute(sql.encode())
                return cursor.fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return []
        except psycopg.Error as error:
            slow = isinstance(error, psycopg.errors.QueryCanceled)
            if is_away(error) and not slow:
                with suppress(psycopg.Error):
                    self.__exit__()
                raise unavailable(self._url, self.sink.connection, error) from error
            raise
