"""Mistakes of fields and derived columns, and the columns against which all else is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from streamkeeper.errors import ExpressionError
from streamkeeper.spec import raw, units
from streamkeeper.spec.correction_references import correction_problems
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.expressions import Expression, parse_expression
from streamkeeper.spec.field_types import NUMBERS, is_number, is_type
from streamkeeper.spec.parsing import names_in
from streamkeeper.spec.producer_references import crossed

MAX_FIELDS = 1_000
_FIELD_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
_MAX_STEPS = 10


class Columns:
    """The columns of a declaration's raw data.

    types: by name, fields first; unclear: those whose type is a mistake told already, so that
    nothing more is said about what uses them.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.fields = {k: raw.mapping(v) for k, v in raw.mapping(data.get("fields")).items()}
        self.types: dict[str, str] = {}
        self.unclear: set[str] = set()
        self._problems: list[Problem] = []
        for name, field in self.fields.items():
            self._add(name, field.get("type") if is_type(field.get("type")) else None)
        self._derived()

    def _add(self, name: str, kind: str | None) -> None:
        if kind is None:
            self.unclear.add(name)
        self.types[name] = (kind or "string").replace(" ", "")

    def numbers(self) -> tuple[str, ...]:
        """Return the columns that are numbers."""
        return tuple(n for n, t in self.types.items() if is_number(t) and n not in self.unclear)

    def known(self, path: KeyPath, name: Any) -> Iterator[Problem]:
        """Yield a mistake if no column has this name."""
        if isinstance(name, str) and name not in self.types:
            yield Problem(path, "no such field is declared", name, tuple(self.types))

    def required(self, name: str) -> bool:
        """Tell whether a column is never null."""
        event_time = raw.mapping(self.data.get("event_time")).get("field")
        return self.fields.get(name, {}).get("required") is True or name == event_time

    def expression(
        self, path: KeyPath, text: Any, found: list[Problem], **how: bool
    ) -> Expression | None:
        """Read an expression; what is wrong with it goes into `found`."""
        if not isinstance(text, str):
            return None  # the model says so
        try:
            return parse_expression(text, self.types, **how)
        except ExpressionError as error:
            if not names_in(text) & self.unclear:
                message = f"{error.problem}: {error.asked}" if error.asked else error.problem
                found.append(Problem(path, message, text, error.valid, asked=error.asked))
            return None

    def condition(self, path: KeyPath, text: Any) -> Iterator[Problem]:
        """Yield what is wrong with a condition of single readings."""
        found: list[Problem] = []
        read = self.expression(path, text, found)
        yield from found
        if read is not None and read.type != "boolean" and not set(read.fields) & self.unclear:
            message = f"is {read.type}, not a condition such as temperature > 40"
            yield Problem(path, message, text)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake of the fields and the derived columns."""
        if not self.fields and "fields" in self.data:
            yield Problem(("fields",), "a stream needs at least one field")
        if len(self.types) > MAX_FIELDS:
            message = f"a stream has at most {MAX_FIELDS:,} fields and derived columns"
            yield Problem(("fields",), message, len(self.types))
            return
        yield from self._names()
        for name, field in self.fields.items():
            yield from self._field(("fields", name), field)
        yield from self._paths()
        yield from self._problems

    def _derived(self) -> None:
        for name, given in raw.mapping(self.data.get("derived")).items():
            path: KeyPath = ("derived", name)
            inner = isinstance(given, dict)
            text = given.get("expression") if inner else given
            here = (*path, "expression") if inner else path
            found = self.expression(here, text, self._problems)
            if name in self.fields:
                self._problems.append(Problem(path, "a field has this name already", name))
                continue
            sure = found is not None and not set(found.fields) & self.unclear
            self._add(name, found.type if found is not None and sure else None)

    def _names(self) -> Iterator[Problem]:
        seen: dict[str, str] = {}
        derived = [n for n in raw.mapping(self.data.get("derived")) if n not in self.fields]
        for part, names in (("fields", list(self.fields)), ("derived", derived)):
            for name in names:
                if not _FIELD_NAME.match(name):
                    message = "a field's name is letters, digits and _, beginning with a letter"
                    yield Problem((part, name), message, name)
                if name.lower() in seen:
                    message = f"differs from the field {seen[name.lower()]!r} by case only"
                    yield Problem((part, name), message, name)
                seen[name.lower()] = name

    def _field(self, path: KeyPath, field: dict[str, Any]) -> Iterator[Problem]:
        kind = raw.text(field.get("type"))
        limits = field.get("range")
        if limits is not None and not is_number(kind):
            message = f"a range needs a number; the field's type is {kind}"
            yield Problem((*path, "range"), message, limits, NUMBERS)
        if crossed(limits):
            yield Problem((*path, "range"), "the lower limit lies above the upper one", limits)
        for key in ("format", "zone"):
            if key in field and kind != "timestamp":
                message = f"only a timestamp has a {key}; the field's type is {kind}"
                yield Problem((*path, key), message, field[key])
        zone = field.get("zone")
        if isinstance(zone, str) and zone not in raw.time_zones():
            yield Problem((*path, "zone"), "no such time zone", zone, raw.time_zones())
        yield from self._allowed(path, kind, field)
        yield from self._units(path, kind, field)
        yield from correction_problems(path, field, self.fields)

    def _allowed(self, path: KeyPath, kind: str | None, field: dict[str, Any]) -> Iterator[Problem]:
        expected: Any = {"string": str, "boolean": bool}.get(kind or "")
        if is_number(kind):
            expected = (int, float)
        for i, value in enumerate(raw.items(field.get("allowed"))):
            wrong = expected is None or not isinstance(value, expected)
            if wrong or (is_number(kind) and isinstance(value, bool)):
                message = f"is not a value of the field's type {kind}"
                yield Problem((*path, "allowed", i), message, value)

    def _units(self, path: KeyPath, kind: str | None, field: dict[str, Any]) -> Iterator[Problem]:
        sent, landed = field.get("sent_unit"), field.get("unit")
        if not isinstance(sent, str):
            return
        here = (*path, "sent_unit")
        if not isinstance(landed, str):
            yield Problem(here, "needs `unit` beside it, the unit of the landed value", sent)
            return
        if kind not in ("double", "float") and is_type(kind):
            message = f"a converted value is a double or float; the field's type is {kind}"
            yield Problem(here, message, sent)
        if landed not in units.UNITS:
            message = "is not a unit that is converted"
            yield Problem((*path, "unit"), message, landed, units.convertible(sent))
        elif sent not in units.UNITS:
            message = "is not a unit that is converted"
            yield Problem(here, message, sent, units.convertible(landed))
        elif sent not in units.convertible(landed):
            message = f"measures {units.UNITS[sent].dimension}; `unit` {landed} does not"
            yield Problem(here, message, sent, units.convertible(landed))

    def _paths(self) -> Iterator[Problem]:
        """Check where the fields stand in a message: no two at one place, none within another."""
        taken: dict[tuple[str, ...], str] = {}
        csv = raw.mapping(self.data.get("source")).get("format") == "csv"
        for name, field in self.fields.items():
            given = field.get("path")
            path: KeyPath = ("fields", name, "path")
            if csv and isinstance(given, list):
                yield Problem(path, "a list of keys is a place in JSON; write the column", given)
                continue
            steps = _steps(name, given, csv)
            if len(steps) > _MAX_STEPS or "" in steps:
                message = f"a path is 1 to {_MAX_STEPS} keys, with a point between two"
                yield Problem(path, message, given)
                continue
            lower = tuple(step.lower() for step in steps)
            for other, owner in taken.items():
                shared = min(len(other), len(lower))
                if other[:shared] == lower[:shared]:
                    place = "at" if other == lower else "within or around"
                    message = f"stands {place} the place of the field {owner!r}"
                    yield Problem(path if given else path[:-1], message, given or name)
                    break
            taken[lower] = name


def _steps(name: str, given: Any, csv: bool) -> tuple[str, ...]:
    if isinstance(given, str) and given:
        return (given,) if csv else tuple(given.split("."))
    return tuple(raw.texts(given)) or (name,)
