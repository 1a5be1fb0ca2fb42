"""Mistakes of what is corrected on landing: units told by the message, forms of timestamps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamkeeper.spec import raw, units
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.field_types import is_type

Fields = Mapping[str, dict[str, Any]]


def correction_problems(path: KeyPath, field: dict[str, Any], fields: Fields) -> Iterator[Problem]:
    """Yield the mistakes of one field.

    Parameters: path, where it stands; field, as written; fields, all of them.
    """
    yield from _forms(path, field)
    if isinstance(field.get("units"), dict):
        yield from _told_units((*path, "units"), field, fields)


def _forms(path: KeyPath, field: dict[str, Any]) -> Iterator[Problem]:
    also = raw.items(field.get("also"))
    kind = raw.text(field.get("type"))
    if also and kind != "timestamp":
        message = f"only a timestamp has further forms; the field's type is {kind}"
        yield Problem((*path, "also"), message, also)
    for i, form in enumerate(also):
        if form in also[:i] or form == field.get("format", "iso8601"):
            yield Problem((*path, "also", i), "stands twice", form)
        if form == "local" and "zone" not in field:
            message = "needs `zone`, in which times are written that tell none"
            yield Problem((*path, "also", i), message, form)


def _told_units(path: KeyPath, field: dict[str, Any], fields: Fields) -> Iterator[Problem]:
    given = raw.mapping(field["units"])
    kind = field.get("type")
    if kind not in ("double", "float") and is_type(kind):
        message = f"a converted value is a double or float; the field's type is {kind}"
        yield Problem(path, message)
    for key in ("unit", "sent_unit"):
        if key in field:
            message = "has no place beside `units`, by which each message tells its own"
            yield Problem((*path[:-1], key), message, field[key])
    yield from _teller((*path, "field"), given.get("field"), fields)
    landed = raw.texts(given.get("landed"))
    for i, unit in enumerate(landed):
        if unit in landed[:i]:
            yield Problem((*path, "landed", i), "stands twice", unit)
    dimensions = {units.UNITS[u].dimension for u in landed if u in units.UNITS}
    known = [u for u in units.UNITS if units.UNITS[u].dimension in dimensions]
    valid = tuple(dict.fromkeys([*landed, *known]))
    for text, unit in raw.mapping(given.get("spelled")).items():
        if isinstance(unit, str) and unit not in valid:
            yield Problem((*path, "spelled", text), "becomes none of the landed units", unit, valid)


def _teller(path: KeyPath, name: Any, fields: Fields) -> Iterator[Problem]:
    """Check the field that tells the units."""
    if not isinstance(name, str):
        return
    texts = tuple(n for n, f in fields.items() if f.get("type") == "string")
    if name not in texts:
        yield Problem(path, "is no text field", name, texts)
        return
    if "allowed" in fields[name]:
        message = "has `allowed` values; leave them out, the units are its values"
        yield Problem(path, message, name)
    of = [n for n, f in fields.items() if raw.mapping(f.get("units")).get("field") == name]
    if len(of) > 1 and path[1] != of[0]:
        yield Problem(path, f"tells the unit of {of[0]} already", name)
