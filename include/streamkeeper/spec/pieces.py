"""Pieces of an expression: SQL for Spark with its type, and how two pieces get one type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from streamkeeper.errors import ExpressionError
from streamkeeper.spec.field_types import Digits, FieldType, digits, is_number, sql_type, wider

NULL = "null"
Level = Literal["constant", "row", "group"]
_WHOLE = {"integer": Digits(19, 0), "int32": Digits(10, 0)}


class Piece(NamedTuple):
    """A part of an expression.

    type: a field's type, or `null` for the literal; level: whether it is the same for all rows,
    differs by row, or is one of a group; value: of a literal, a number as Decimal; exact: a number
    that was written with a point and may become a decimal.
    """

    sql: str
    type: FieldType
    level: Level = "constant"
    value: Decimal | str | bool | None = None


def level_of(pieces: Sequence[Piece]) -> Level:
    """Return the level of what is made of these pieces.

    Raises ExpressionError when some are of a row and others of a group of rows.
    """
    levels = {piece.level for piece in pieces}
    if levels >= {"row", "group"}:
        raise ExpressionError(
            "mixes fields of single readings with aggregates; put the fields into an aggregate "
            "too, such as max(...)"
        )
    return "group" if "group" in levels else "row" if "row" in levels else "constant"


def text_literal(value: str) -> str:
    """Write a text as Spark SQL reads it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    for plain, written in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\0", "\\0")):
        escaped = escaped.replace(plain, written)
    return f"'{escaped}'"


def number_literal(value: Decimal, kind: FieldType) -> str:
    """Write a number as Spark SQL reads it, in one of the types of numbers.

    Raises ExpressionError when the type does not hold it.
    """
    if kind in ("double", "float"):
        found = float(value)
        if math.isinf(found):
            raise ExpressionError(f"the number {value} is larger than a double holds")
        text = f"{found!r}D" if kind == "double" else f"{found!r}F"
    elif kind in _WHOLE:
        text = f"{int(value)}L" if kind == "integer" else f"{int(value)}"
    else:
        text = f"{value:f}BD"
    return f"({text})" if text.startswith("-") else text


def decimal_of(value: Decimal) -> Digits:
    """Return the digits that a literal needs."""
    _, found, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    return Digits(max(len(found) + max(0, int(exponent)), scale, 1), scale)


def as_type(piece: Piece, kind: FieldType) -> Piece:
    """Return a piece in a type that holds all its values."""
    if piece.type == kind:
        return piece
    if isinstance(piece.value, Decimal) and digits(kind) is None:
        return piece._replace(sql=number_literal(piece.value, kind), type=kind)
    return Piece(f"cast({piece.sql} as {sql_type(kind)})", kind, piece.level)


def as_decimal(piece: Piece) -> Piece:
    """Return a whole number or a literal as the decimal that holds it; others as they are."""
    if isinstance(piece.value, Decimal):
        found = decimal_of(piece.value)
        if found.precision <= 38:
            return piece._replace(sql=number_literal(piece.value, found.name), type=found.name)
    if piece.type in _WHOLE:
        return as_type(piece, _WHOLE[piece.type].name)
    return piece


def common_type(pieces: Sequence[Piece]) -> FieldType:
    """Return the one type that several pieces get.

    Raises ExpressionError when there is none.
    """
    kinds = list(dict.fromkeys(piece.type for piece in pieces if piece.type != NULL))
    if len(kinds) <= 1:
        return kinds[0] if kinds else NULL
    if not all(is_number(kind) for kind in kinds):
        raise ExpressionError(f"{' and '.join(kinds[:3])} do not go together")
    if all(kind in _WHOLE for kind in kinds):
        return "integer"
    decimals = [digits(as_decimal(piece).type) for piece in pieces if piece.type != NULL]
    widest = decimals[0]
    for found in decimals[1:]:
        widest = wider(widest, found) if widest is not None and found is not None else None
    exact = any(digits(kind) for kind in kinds)
    return widest.name if exact and widest is not None else "double"


def unify(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces in their common type.

    A text beside timestamps is read as one. Raises ExpressionError when no type is common.
    """
    if any(piece.type == "timestamp" for piece in pieces):
        pieces = [_as_timestamp(piece) for piece in pieces]
    kind = common_type(pieces)
    return [piece if piece.type == NULL else as_type(_exact(piece, kind), kind) for piece in pieces]


def _exact(piece: Piece, kind: FieldType) -> Piece:
    return as_decimal(piece) if digits(kind) is not None else piece


def _as_timestamp(piece: Piece) -> Piece:
    from datetime import datetime

    if piece.type != "string" or not isinstance(piece.value, str):
        return piece
    try:
        found = datetime.fromisoformat(piece.value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ExpressionError(
            f"{piece.value!r} is not a time with its zone, such as '2026-11-24T12:00:00Z'"
        )
    return Piece(f"timestamp{text_literal(found.isoformat())}", "timestamp", value=piece.value)
