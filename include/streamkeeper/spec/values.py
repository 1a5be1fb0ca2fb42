"""What the keys of a declaration hold: durations, names, expressions, scalars."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from streamkeeper.spec.durations import format_duration, parse_duration
from streamkeeper.spec.expressions import Expression
from streamkeeper.spec.field_types import FIELD_TYPES, read_type


def _read_text(value: object) -> Expression:
    """Keep an expression's text; `Spec` reads it when the types of all columns are known."""
    if isinstance(value, Expression):
        return value
    if not isinstance(value, str):
        raise ValueError("an expression is a text, such as temperature > 40")
    return Expression(value)


def _read_path(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError("a path is keys with a point between two, or a list of keys")


def _read_scalar(value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("needs a plain value: a text, a number, true or false")
    return value


TypeName = Annotated[
    str,
    BeforeValidator(read_type),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [*FIELD_TYPES[:-1]]},
                {"type": "string", "pattern": r"^decimal\(\s*\d{1,2}\s*,\s*\d{1,2}\s*\)$"},
            ]
        }
    ),
]


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\s*\d{1,9}\s*[a-z]{1,5}\s*$"}),
]


ExpressionText = Annotated[
    Expression,
    BeforeValidator(_read_text),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": 2000}),
]


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


LakePath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]


Scalar = Annotated[str | int | float | bool, BeforeValidator(_read_scalar)]


FieldPath = Annotated[str | tuple[str, ...], BeforeValidator(_read_path)]


Text = Annotated[str, Field(min_length=1, max_length=1000)]


FieldName = Annotated[str, Field(max_length=64)]


class Model(BaseModel):
    """Base of all parts: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
