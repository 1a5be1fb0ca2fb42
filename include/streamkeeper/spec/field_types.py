"""The types of fields and expressions, and how those of decimals follow from one another."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic_core import PydanticCustomError

FieldType = str
"""One of `FIELD_TYPES`; a decimal has its digits in it, such as `decimal(10,2)`."""

FIELD_TYPES = (
    *("string", "integer", "int32", "double", "float", "boolean", "timestamp"),
    "decimal(P,S)",
)
_PLAIN_NUMBERS = ("integer", "int32", "double", "float")
NUMBERS = (*_PLAIN_NUMBERS, "decimal(P,S)")
SQL_TYPES = {
    "string": "string",
    "integer": "bigint",
    "int32": "int",
    "double": "double",
    "float": "float",
    "boolean": "boolean",
    "timestamp": "timestamp",
}
MAX_PRECISION = 38
_MIN_ADJUSTED_SCALE = 6
_DECIMAL = re.compile(r"^decimal\(\s*([0-9]{1,2})\s*,\s*([0-9]{1,2})\s*\)$")


class Digits(NamedTuple):
    """The digits of a decimal: all of them, and those after the point."""

    precision: int
    scale: int

    @property
    def name(self) -> FieldType:
        """The type's name, such as `decimal(10,2)`."""
        return f"decimal({self.precision},{self.scale})"


def digits(kind: object) -> Digits | None:
    """Return the digits of a decimal type; None for any other, or for digits that cannot be."""
    match = _DECIMAL.match(kind) if isinstance(kind, str) else None
    if match is None:
        return None
    found = Digits(int(match[1]), int(match[2]))
    fits = 1 <= found.precision <= MAX_PRECISION and found.scale <= found.precision
    return found if fits else None


def is_type(kind: object) -> bool:
    """Tell whether a text names a field's type."""
    return isinstance(kind, str) and (kind in SQL_TYPES or digits(kind) is not None)


def is_number(kind: object) -> bool:
    """Tell whether a type is one of numbers."""
    return isinstance(kind, str) and (kind in _PLAIN_NUMBERS or digits(kind) is not None)


def read_type(kind: object) -> FieldType:
    """Read a field's type; `decimal(10, 2)` becomes `decimal(10,2)`.

    Raises the error of a wrong literal, with the valid types.
    """
    found = digits(kind)
    if found is not None:
        return found.name
    if isinstance(kind, str) and kind in SQL_TYPES:
        return kind
    if isinstance(kind, str) and re.match(r"^(decimal|numeric)\b", kind):
        raise ValueError(
            "a decimal has 1 to 38 digits, and no more of them after the point, such as "
            "decimal(10,2)"
        )
    valid = ", ".join(f"'{name}'" for name in FIELD_TYPES)
    raise PydanticCustomError("literal_error", "is not a type", {"expected": valid})


def sql_type(kind: FieldType) -> str:
    """Return a type's name in Spark SQL."""
    return SQL_TYPES.get(kind, kind)


def _bounded(precision: int, scale: int) -> Digits:
    """Give up digits after the point, as Spark does, where a result would have too many."""
    if precision <= MAX_PRECISION:
        return Digits(precision, scale)
    whole, least = precision - scale, min(scale, _MIN_ADJUSTED_SCALE)
    return Digits(MAX_PRECISION, max(MAX_PRECISION - whole, least))


def arithmetic(operator: str, a: Digits, b: Digits) -> Digits:
    """Return the digits of `a operator b`, as Spark computes them; operator is one of + - * / %."""
    scale, whole = max(a.scale, b.scale), max(a.precision - a.scale, b.precision - b.scale)
    if operator in "+-":
        return _bounded(whole + scale + 1, scale)
    if operator == "*":
        return _bounded(a.precision + b.precision + 1, a.scale + b.scale)
    if operator == "%":
        least = min(a.precision - a.scale, b.precision - b.scale)
        return _bounded(least + scale, scale)
    scale = max(_MIN_ADJUSTED_SCALE, a.scale + b.precision + 1)
    return _bounded(a.precision - a.scale + b.scale + scale, scale)


def wider(a: Digits, b: Digits) -> Digits | None:
    """Return the decimal that holds all values of both; None if there is none."""
    scale = max(a.scale, b.scale)
    precision = max(a.precision - a.scale, b.precision - b.scale) + scale
    return Digits(precision, scale) if precision <= MAX_PRECISION else None
