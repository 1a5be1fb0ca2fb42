"""The model of what the dashboard shows of a stream, and the mistakes that it may have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from streamkeeper.spec import raw
from streamkeeper.spec.columns import Columns
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.values import ExpressionText, Model

MOST_SERIES = 8


class MapColumns(Model):
    """The columns that tell where a reading was made, in degrees, and the name of that place."""

    latitude: str
    longitude: str
    label: str | None = None


class Dashboard(Model):
    """What the dashboard shows: numbers over time, by which column they are compared, a map.

    `where`: only the numbers of readings that meet this condition are drawn; all are counted.
    """

    by: str | None = None
    where: ExpressionText | None = None
    series: Annotated[tuple[str, ...], Field(max_length=MOST_SERIES)] = ()
    map: MapColumns | None = None


def dashboard_problems(data: dict[str, Any], columns: Columns) -> Iterator[Problem]:
    """Yield the mistakes of `dashboard` that one key alone does not show.

    Parameters: data, the raw declaration; columns, its columns.
    """
    given, path = raw.mapping(data.get("dashboard")), ("dashboard",)
    yield from columns.known((*path, "by"), given.get("by"))
    yield from columns.condition((*path, "where"), given.get("where"))
    series = raw.items(given.get("series"))
    for i, name in enumerate(series):
        here: KeyPath = (*path, "series", i)
        yield from _number(here, name, columns)
        if name in series[:i]:
            yield Problem(here, "this column stands twice", name)
    places = raw.mapping(given.get("map"))
    for key in ("latitude", "longitude"):
        yield from _number((*path, "map", key), places.get(key), columns)
    yield from columns.known((*path, "map", "label"), places.get("label"))


def _number(path: KeyPath, name: Any, columns: Columns) -> Iterator[Problem]:
    yield from columns.known(path, name)
    sure = isinstance(name, str) and name in columns.types and name not in columns.unclear
    if sure and name not in columns.numbers():
        message = f"only a number can be drawn; this column is {columns.types[name]}"
        yield Problem(path, message, name, columns.numbers())
