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
    `kinds`: the field that tells what a reading measures; its values' numbers are kept apart.
    """

    by: str | None = None
    kinds: str | None = None
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
    yield from _kinds((*path, "kinds"), given.get("kinds"), columns, max(1, len(series)))
    for i, name in enumerate(series):
        here: KeyPath = (*path, "series", i)
        yield from _number(here, name, columns)
        if name in series[:i]:
            yield Problem(here, "this column stands twice", name)
    places = raw.mapping(given.get("map"))
    for key in ("latitude", "longitude"):
        yield from _number((*path, "map", key), places.get(key), columns)
    yield from columns.known((*path, "map", "label"), places.get("label"))


def _kinds(path: KeyPath, name: Any, columns: Columns, series: int) -> Iterator[Problem]:
    if not isinstance(name, str):
        return  # the model says so
    yield from columns.known(path, name)
    kinds = raw.items(columns.fields.get(name, {}).get("allowed"))
    if name in columns.types and name not in _kind_fields(columns):
        message = "needs a field whose values are texts that `allowed` lists"
        yield Problem(path, message, name, _kind_fields(columns))
    elif len(kinds) * series > MOST_SERIES:
        message = (
            f"{len(kinds)} kinds of {series} number{'s' if series > 1 else ''} are more than the "
            f"{MOST_SERIES} series that are drawn; name fewer under dashboard.series"
        )
        yield Problem(path, message, name)


def _kind_fields(columns: Columns) -> tuple[str, ...]:
    texts = {n: f for n, f in columns.fields.items() if columns.types[n] == "string"}
    return tuple(name for name, field in texts.items() if raw.items(field.get("allowed")))


def _number(path: KeyPath, name: Any, columns: Columns) -> Iterator[Problem]:
    yield from columns.known(path, name)
    sure = isinstance(name, str) and name in columns.types and name not in columns.unclear
    if sure and name not in columns.numbers():
        message = f"only a number can be drawn; this column is {columns.types[name]}"
        yield Problem(path, message, name, columns.numbers())
