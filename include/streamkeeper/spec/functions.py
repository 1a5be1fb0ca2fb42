"""What a function of expressions is: its parameters, its type, the SQL of a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from streamkeeper.errors import ExpressionError
from streamkeeper.spec import pieces as p
from streamkeeper.spec.field_types import FieldType, is_number
from streamkeeper.spec.pieces import Piece

Kind = Literal["number", "double", "text", "boolean", "timestamp", "any"]
_ARTICLES = {
    "number": "a number",
    "double": "a number",
    "text": "a string",
    "boolean": "a boolean",
    "timestamp": "a timestamp",
}


@dataclass(frozen=True)
class Parameter:
    """What stands at one place of a call.

    kind: what type it has; a `double` is any number, computed with as a double. literal: a plain
    value within these limits, or one of these texts; default: of a literal that may be left out.
    """

    name: str
    kind: Kind = "any"
    literal: tuple[float, float] | tuple[str, ...] | re.Pattern[str] | None = None
    default: str | None = None

    def accept(self, function: str, given: Piece) -> Piece:
        """Return the argument as the function takes it.

        Raises ExpressionError for another type or value.
        """
        if self.literal is not None:
            return self._literal(function, given)
        fits = {
            "number": is_number(given.type),
            "double": is_number(given.type),
            "text": given.type == "string",
            "boolean": given.type == "boolean",
            "timestamp": given.type == "timestamp",
            "any": given.type != p.NULL,
        }
        if given.type != p.NULL and not fits[self.kind]:
            raise ExpressionError(
                f"{function} needs {_ARTICLES[self.kind]}; {given.sql.strip('`')!r} is {given.type}"
            )
        if given.type == p.NULL:
            raise ExpressionError(f"{function} of null is always null")
        return p.as_type(given, "double") if self.kind == "double" else given

    def _literal(self, function: str, given: Piece) -> Piece:
        wanted, value = self.literal, given.value
        if isinstance(wanted, re.Pattern):
            if isinstance(value, str) and wanted.fullmatch(value):
                return given
            told: tuple[str, ...] = ()
            message = f"the {self.name} of {function} is a text such as 'yyyy-MM-dd HH:mm'"
        elif isinstance(wanted, tuple) and isinstance(wanted[0], str):
            told = tuple(str(w) for w in wanted)
            if isinstance(value, str) and value.lower() in told:
                return given._replace(sql=p.text_literal(value.lower()))
            message = f"the {self.name} of {function} is one of the plain texts"
        else:
            assert isinstance(wanted, tuple)
            low, high = float(wanted[0]), float(wanted[1])
            whole = isinstance(wanted[0], int)
            if isinstance(value, Decimal) and low <= value <= high:
                if not whole:
                    return p.as_type(given, "double")
                if value == int(value):
                    return given._replace(sql=str(int(value)), type="int32")
            told = ()
            kind = "a whole number" if whole else "a number"
            message = f"the {self.name} of {function} is {kind} from {wanted[0]} to {wanted[1]}"
        raise ExpressionError(message, _shown(given), told)


def _shown(piece: Piece) -> str:
    return str(piece.value) if piece.value is not None else piece.sql.strip("`")


TypeRule: TypeAlias = str | Callable[[Sequence[Piece]], FieldType]


@dataclass(frozen=True)
class Function:
    """A function of the allowlist.

    sql: a template of the arguments, or a function that makes the SQL of them; gives: the type, or
    a function that tells it from the arguments; more: whether the last parameter may come again;
    together: whether the arguments get one type; streaming: None, or what to use instead in a
    window's measures.
    """

    name: str
    parameters: tuple[Parameter, ...]
    gives: TypeRule
    sql: str | Callable[[Sequence[Piece]], str]
    about: str
    example: str
    aggregate: bool = False
    more: bool = False
    together: bool = False

    def call(self, given: Sequence[Piece]) -> Piece:
        """Return the call of the function.

        Raises ExpressionError for a wrong number, type or value of arguments.
        """
        accepted = self._accepted(given)
        if self.together:
            accepted = p.unify(accepted)
        level = p.level_of(accepted)
        if self.aggregate:
            if level == "group":
                raise ExpressionError(f"{self.name} is an aggregate; it cannot hold another one")
            level = "group"
        kind = self.gives if isinstance(self.gives, str) else self.gives(accepted)
        sqls = [piece.sql for piece in accepted]
        sql = self.sql.format(*sqls) if isinstance(self.sql, str) else self.sql(accepted)
        return Piece(sql, kind, level)

    def _accepted(self, given: Sequence[Piece]) -> list[Piece]:
        wanted = list(self.parameters)
        least = sum(1 for w in wanted if w.default is None)
        if len(given) < least or (len(given) > len(wanted) and not self.more):
            raise ExpressionError(f"{self.name} is called {self.usage}")
        wanted += [wanted[-1]] * (len(given) - len(wanted))
        found = [w.accept(self.name, g) for w, g in zip(wanted, given, strict=False)]
        # Defaults are literals that Spark reads as they stand.
        return found + [Piece(w.default or "", "int32") for w in wanted[len(given) :]]

    @property
    def usage(self) -> str:
        """How the function is called."""
        shown = [f"[{w.name}]" if w.default is not None else w.name for w in self.parameters]
        return f"{self.name}({', '.join([*shown, '...'] if self.more else shown)})"
