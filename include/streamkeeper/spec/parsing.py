"""From the text of an expression to sqlglot's tree; what could not be one is refused before."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.parsers.spark import SparkParser
from sqlglot.tokens import Token, TokenType

from streamkeeper.errors import ExpressionError

MAX_LENGTH = 2_000
MAX_TOKENS = 500
MAX_DEPTH = 30
CAST_TYPES = ("string", "integer", "double", "float", "boolean", "decimal(P,S)")


class _Dialect(Spark):
    """Spark's dialect, except that calls stay as they are written: the allowlist reads them."""

    class Parser(SparkParser):
        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser
            for name, parser in SparkParser.FUNCTION_PARSERS.items()
            if name in ("CAST", "TRY_CAST")
        }
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser
            for name, parser in SparkParser.NO_PAREN_FUNCTION_PARSERS.items()
            if name in ("CASE", "IF")
        }


@lru_cache(maxsize=4096)
def tree_of(text: str) -> exp.Expr:
    """Parse a text; what could not be SQL of one expression is refused before."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"is longer than {MAX_LENGTH:,} characters")
    if not text.strip():
        raise ExpressionError("is empty")
    try:
        _refuse(sqlglot.tokenize(text, dialect=_Dialect))
        found = sqlglot.parse(text, dialect=_Dialect)
    except sqlglot.errors.ParseError as error:
        raise ExpressionError(_told(error)) from None
    except sqlglot.errors.SqlglotError:
        raise ExpressionError("a quotation mark or a comment is not closed") from None
    except RecursionError:
        raise ExpressionError("is nested too deep") from None
    if len(found) != 1 or found[0] is None:
        raise ExpressionError("is not one expression")
    return found[0]


def _refuse(tokens: list[Token]) -> None:
    """Raise ExpressionError for what is not read at all, each with a text of its own."""
    if len(tokens) > MAX_TOKENS:
        raise ExpressionError(f"has more than {MAX_TOKENS} words and signs")
    depth = 0
    last: Token | None = None
    for token in tokens:
        if token.comments:
            raise ExpressionError("comments (-- and /* */) are not read")
        if token.token_type == TokenType.SEMICOLON:
            raise ExpressionError("a `;` is not read: write one expression")
        twice = last is not None and last.text == token.text and last.end + 1 == token.start
        if token.text in ("{{", "{%", "}}", "%}") or (twice and token.text in "{}"):
            raise ExpressionError("templates ({{ }}) are not read: write the value out")
        depth += token.token_type in (TokenType.L_PAREN, TokenType.CASE)
        depth -= token.token_type in (TokenType.R_PAREN, TokenType.END)
        if depth > MAX_DEPTH:
            raise ExpressionError(f"is nested deeper than {MAX_DEPTH}")
        last = token


def _told(error: sqlglot.errors.ParseError) -> str:
    found: dict[str, Any] = error.errors[0] if error.errors else {}
    place = f" at {found['highlight']!r}" if found.get("highlight") else ""
    if found.get("description", "").startswith("Expected TYPE"):
        return f"no such type to cast to{place}; valid: {', '.join(CAST_TYPES)}"
    return f"is not SQL{place}"


def names_in(text: str) -> set[str]:
    """Return the names that an expression mentions; none if it cannot be read at all."""
    try:
        return {column.name for column in tree_of(text).find_all(exp.Column)}
    except ExpressionError:
        return set()
