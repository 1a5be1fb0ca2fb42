"""Expressions of declarations: the scalar subset of SQL, held to an allowlist and typed.

sqlglot reads the text as Spark's dialect; each node that `_Walk` knows is written anew as SQL for
Spark, with quoted names. Whatever it does not know is refused, so nothing else of a declaration
can run. Arithmetic that a value breaks (a division by zero, a sum that outgrows its type) gives
null: an error would end the stream at every new start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlglot import exp

from streamkeeper.errors import ExpressionError
from streamkeeper.spec import pieces as p
from streamkeeper.spec.allowlist import ALIASES, FUNCTIONS, SCALARS
from streamkeeper.spec.field_types import (
    Digits,
    FieldType,
    arithmetic,
    digits,
    is_number,
    sql_type,
)
from streamkeeper.spec.parsing import CAST_TYPES, tree_of
from streamkeeper.spec.pieces import Piece

MAX_CHAIN = 100
_MAX_WHOLE = 2**63 - 1


@dataclass(frozen=True)
class Expression:
    """An expression as declared, and what it means.

    text: as declared; sql: for Spark, names quoted; type: of its value, `null` if it has none;
    fields: the columns it reads, in order; aggregate: whether it is one value of a group.
    function, field, distinct: what it is if it is one aggregate of one column (None: of rows).
    """

    text: str
    sql: str = ""
    type: FieldType = ""
    fields: tuple[str, ...] = ()
    aggregate: bool = False
    function: str | None = None
    field: str | None = None
    distinct: bool = False

    def __str__(self) -> str:
        return self.text


def parse_expression(
    text: str,
    columns: Mapping[str, FieldType],
    *,
    aggregates: bool = False,
    streaming: bool = False,
) -> Expression:
    """Read an expression.

    Parameters: text; columns, the types of the names it may use; aggregates, whether it is a
    measure, one value of a group of readings; streaming, whether a stream computes it.
    Raises ExpressionError with the problem, the valid names and the nearest one.
    """
    tree = tree_of(text)
    walk = _Walk(columns, aggregates=aggregates, streaming=streaming)
    piece = walk.read(tree)
    if aggregates and piece.level != "group":
        raise ExpressionError(
            "is no aggregate of readings, such as avg(temperature) or count(*)",
        )
    if piece.type == p.NULL:
        raise ExpressionError("is always null")
    function, name, distinct = _plain_aggregate(tree) if aggregates else (None, None, False)
    return Expression(
        text, piece.sql, piece.type, tuple(walk.fields), aggregates, function, name, distinct
    )


def parse_condition(text: str, columns: Mapping[str, FieldType]) -> Expression:
    """Read an expression of single readings that is true or false.

    Raises ExpressionError as `parse_expression`.
    """
    found = parse_expression(text, columns)
    if found.type != "boolean":
        raise ExpressionError(f"is {found.type}, not a condition such as temperature > 40")
    return found


def _plain_aggregate(tree: exp.Expr) -> tuple[str | None, str | None, bool]:
    """Return function, column and `distinct` of one aggregate of one column."""
    tree = tree.unnest()
    if not isinstance(tree, exp.Anonymous) or not tree.expressions:
        return None, None, False
    name = _function_name(tree)
    inner, distinct = tree.expressions[0], False
    if isinstance(inner, exp.Star):
        return "count", None, False
    if isinstance(inner, exp.Distinct) and len(inner.expressions) == 1:
        inner, distinct = inner.expressions[0], True
    if isinstance(inner, exp.Column) and (name == "count" or FUNCTIONS[name].aggregate):
        return name, inner.name, distinct
    return None, None, False


def _function_name(call: exp.Anonymous) -> str:
    name = str(call.this).lower()
    return ALIASES.get(name, name)


_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "<=>",
}
_ARITHMETIC: dict[type[exp.Expr], tuple[str, str]] = {
    exp.Add: ("+", "try_add"),
    exp.Sub: ("-", "try_subtract"),
    exp.Mul: ("*", "try_multiply"),
    exp.Div: ("/", "try_divide"),
    exp.Mod: ("%", "try_mod"),
}
_REFUSED: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.Query, "subqueries are not read"),
    (exp.Exists, "subqueries are not read"),
    (exp.Window, "window functions (over) are not read"),
    (exp.Filter, "`filter (where ...)` is not read; use count_if(...) or an if(...) within"),
    (exp.Lambda, "functions of the form x -> ... are not read"),
    (exp.Alias, "names (as) are not read: the key in the declaration is the name"),
    (exp.Star, "* stands in count(*) only"),
    (exp.Placeholder, "placeholders are not read: write the value out"),
    (exp.Parameter, "placeholders are not read: write the value out"),
    (exp.Block, "a `;` is not read: write one expression"),
    (exp.Interval, "intervals are not read; compare unix_seconds(...)"),
    (exp.Bracket, "[...] is not read; declare a field with its `path`"),
    (exp.Distinct, "distinct stands in count(distinct ...) only"),
    (exp.Concat, "write a quotation mark within a text as \\'"),
)
OPERATORS = (
    *("+", "-", "*", "/", "%", "||", "=", "<>", "!=", "<", "<=", ">", ">=", "<=>"),
    *("and", "or", "not", "between", "in", "like", "is null", "is true", "is false"),
)


class _Walk:
    """Writes a tree anew, from its leaves up."""

    def __init__(
        self, columns: Mapping[str, FieldType], *, aggregates: bool, streaming: bool
    ) -> None:
        self._columns, self._aggregates, self._streaming = columns, aggregates, streaming
        self.fields: dict[str, None] = {}
        self._depth = 0
        self._readers: dict[type[exp.Expr], Callable[[Any], Piece]] = {
            exp.Column: self._column,
            exp.Literal: self._literal,
            exp.Boolean: lambda n: Piece(str(n.this).lower(), "boolean", value=bool(n.this)),
            exp.Null: lambda _: Piece("null", p.NULL),
            exp.Paren: lambda n: self.read(n.this),
            exp.Neg: self._negative,
            exp.Not: lambda n: self._logical("NOT", self.read(n.this)),
            exp.And: lambda n: self._logical("AND", self.read(n.left), self.read(n.right)),
            exp.Or: lambda n: self._logical("OR", self.read(n.left), self.read(n.right)),
            exp.DPipe: lambda n: FUNCTIONS["concat"].call([self.read(n.left), self.read(n.right)]),
            exp.Between: self._between,
            exp.In: self._in,
            exp.Is: self._is,
            exp.Like: self._like,
            exp.If: self._if,
            exp.Case: self._case,
            exp.Cast: self._cast,
            exp.TryCast: self._cast,
            exp.Anonymous: self._call,
        }

    def read(self, node: exp.Expr) -> Piece:
        """Return a node as a piece; raises ExpressionError for what is not in the subset."""
        self._depth += 1
        if self._depth > MAX_CHAIN:
            raise ExpressionError(f"has more than {MAX_CHAIN} operations one upon the other")
        try:
            return self._read(node)
        finally:
            self._depth -= 1

    def _read(self, node: exp.Expr) -> Piece:
        reader = self._readers.get(type(node))
        if reader is not None:
            return reader(node)
        if type(node) in _COMPARISONS:
            return self._compare(_COMPARISONS[type(node)], node.left, node.right)  # type: ignore[attr-defined]
        if type(node) in _ARITHMETIC:
            a, b = self.read(node.left), self.read(node.right)  # type: ignore[attr-defined]
            return self._arithmetic(*_ARITHMETIC[type(node)], a, b)
        for kind, told in _REFUSED:
            if isinstance(node, kind):
                raise ExpressionError(told)
        raise ExpressionError(
            f"{type(node).__name__.lower()} is not read; operators", "", OPERATORS
        )

    def _column(self, node: exp.Column) -> Piece:
        name = node.name
        if node.table:
            raise ExpressionError(f"write {name} alone, without what stands before the point")
        if name not in self._columns:
            raise ExpressionError("no such field is declared", name, tuple(self._columns))
        self.fields[name] = None
        return Piece(f"`{name}`", self._columns[name], "row")

    def _literal(self, node: exp.Literal) -> Piece:
        text = str(node.this)
        if node.is_string:
            return Piece(p.text_literal(text), "string", value=text)
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise ExpressionError(f"{text} is no number that is read") from None
        return self._number(value)

    def _number(self, value: Decimal) -> Piece:
        exponent = value.as_tuple().exponent
        whole = exponent == 0 and -_MAX_WHOLE <= value <= _MAX_WHOLE
        kind = "integer" if whole else "double"
        return Piece(p.number_literal(value, kind), kind, value=value)

    def _negative(self, node: exp.Neg) -> Piece:
        piece = self.read(node.this)
        if isinstance(piece.value, Decimal):
            return self._number(-piece.value)
        return self._arithmetic("-", "try_subtract", self._number(Decimal(0)), piece)

    def _logical(self, operator: str, *given: Piece) -> Piece:
        for piece in given:
            if piece.type not in ("boolean", p.NULL):
                raise ExpressionError(
                    f"{operator.lower()} needs conditions; {piece.sql.strip('`')!r} is {piece.type}"
                )
        sql = f" {operator} ".join(g.sql for g in given)
        return Piece(
            f"({operator} {sql})" if len(given) == 1 else f"({sql})", "boolean", p.level_of(given)
        )

    def _compare(self, operator: str, left: exp.Expr, right: exp.Expr) -> Piece:
        a, b = p.unify([self.read(left), self.read(right)])
        return Piece(f"({a.sql} {operator} {b.sql})", "boolean", p.level_of([a, b]))

    def _arithmetic(self, operator: str, safe: str, a: Piece, b: Piece) -> Piece:
        for piece in (a, b):
            if piece.type != p.NULL and not is_number(piece.type):
                raise ExpressionError(
                    f"{operator} needs numbers; {piece.sql.strip('`')!r} is {piece.type}"
                )
        kind = p.common_type([a, b])
        level = p.level_of([a, b])
        if digits(kind) is not None:
            a, b = p.as_decimal(a), p.as_decimal(b)
            found = arithmetic(operator, _digits(a), _digits(b))
            return Piece(f"{safe}({a.sql}, {b.sql})", found.name, level)
        if kind in ("double", "float") or operator == "/":
            a, b = p.as_type(a, "double"), p.as_type(b, "double")
            if operator in "+-*":
                return Piece(f"({a.sql} {operator} {b.sql})", "double", level)
            return Piece(f"{safe}({a.sql}, {b.sql})", "double", level)
        a, b = p.as_type(a, "integer"), p.as_type(b, "integer")
        return Piece(f"{safe}({a.sql}, {b.sql})", "integer", level)

    def _between(self, node: exp.Between) -> Piece:
        given = [self.read(n) for n in (node.this, node.args["low"], node.args["high"])]
        a, low, high = p.unify(given)
        sql = f"({a.sql} BETWEEN {low.sql} AND {high.sql})"
        return Piece(sql, "boolean", p.level_of(given))

    def _in(self, node: exp.In) -> Piece:
        if node.args.get("query") or not node.expressions:
            raise ExpressionError("subqueries are not read; write in (value, value)")
        a, *values = p.unify([self.read(n) for n in (node.this, *node.expressions)])
        sql = f"({a.sql} IN ({', '.join(v.sql for v in values)}))"
        return Piece(sql, "boolean", p.level_of([a, *values]))

    def _is(self, node: exp.Is) -> Piece:
        piece = self.read(node.this)
        wanted = node.expression
        if isinstance(wanted, exp.Null):
            return Piece(f"({piece.sql} IS NULL)", "boolean", piece.level)
        if isinstance(wanted, exp.Boolean):
            self._logical("IS", piece)
            return Piece(f"({piece.sql} IS {str(wanted.this).upper()})", "boolean", piece.level)
        raise ExpressionError("after `is` stands null, true or false")

    def _like(self, node: exp.Like) -> Piece:
        piece, pattern = self.read(node.this), self.read(node.expression)
        if piece.type != "string" or not isinstance(pattern.value, str):
            raise ExpressionError("like needs a string and a plain pattern, such as 'Fe%'")
        if pattern.value.replace("\\\\", "").replace("\\%", "").replace("\\_", "").count("\\"):
            raise ExpressionError("in a pattern of like, \\ stands before %, _ or \\ only")
        return Piece(f"({piece.sql} LIKE {pattern.sql})", "boolean", piece.level)

    def _if(self, node: exp.If) -> Piece:
        other = node.args.get("false")
        return self._choose([(self.read(node.this), self.read(node.args["true"]))], other)

    def _case(self, node: exp.Case) -> Piece:
        branches = []
        for branch in node.args["ifs"]:
            if node.this is not None:
                condition = self._compare("=", node.this, branch.this)
            else:
                condition = self.read(branch.this)
            branches.append((condition, self.read(branch.args["true"])))
        return self._choose(branches, node.args.get("default"))

    def _choose(self, branches: list[tuple[Piece, Piece]], other: exp.Expr | None) -> Piece:
        last = self.read(other) if other is not None else Piece("null", p.NULL)
        conditions = [self._logical("WHEN", condition) for condition, _ in branches]
        values = p.unify([*(value for _, value in branches), last])
        whens = " ".join(
            f"WHEN {condition.sql} THEN {value.sql}"
            for (condition, _), value in zip(branches, values, strict=False)
        )
        kind = next((v.type for v in values if v.type != p.NULL), p.NULL)
        level = p.level_of([*conditions, *values])
        return Piece(f"(CASE {whens} ELSE {values[-1].sql} END)", kind, level)

    def _cast(self, node: exp.Cast) -> Piece:
        piece, kind = self.read(node.this), _cast_type(node.args["to"])
        if piece.type == "timestamp" and kind != "string":
            raise ExpressionError(f"a timestamp is not cast to {kind}; use unix_seconds(...)")
        return Piece(f"try_cast({piece.sql} as {sql_type(kind)})", kind, piece.level)

    def _call(self, node: exp.Anonymous) -> Piece:
        name = _function_name(node)
        if name == "count":
            return self._count(node)
        function = FUNCTIONS.get(name)
        if function is None:
            valid = FUNCTIONS if self._aggregates else {f.name: f for f in SCALARS}
            names = (*valid, "count") if self._aggregates else tuple(valid)
            raise ExpressionError("is no function here", name, tuple(sorted(names)))
        if function.aggregate:
            self._need_aggregates(name)
        return function.call([self.read(n) for n in node.expressions])

    def _need_aggregates(self, name: str) -> None:
        if not self._aggregates:
            raise ExpressionError(
                f"{name} is an aggregate of many readings; this expression sees one reading"
            )

    def _count(self, node: exp.Anonymous) -> Piece:
        self._need_aggregates("count")
        (first, *more) = node.expressions or [None]
        if isinstance(first, exp.Star) and not more:
            return Piece("count(*)", "integer", "group")
        distinct = isinstance(first, exp.Distinct)
        if first is None or more or (distinct and first.args.get("on")):
            raise ExpressionError("count is called count(*), count(x) or count(distinct x, ...)")
        given = [self.read(n) for n in (first.expressions if distinct else [first])]
        if p.level_of(given) == "group":
            raise ExpressionError("count is an aggregate; it cannot hold another one")
        if distinct and self._streaming:
            raise ExpressionError(
                "count(distinct ...) cannot be kept by a stream; use approx_count_distinct(...), "
                "or put it into a KPI"
            )
        inner = ", ".join(g.sql for g in given)
        return Piece(f"count({'distinct ' if distinct else ''}{inner})", "integer", "group")


def _digits(piece: Piece) -> Digits:
    found = digits(piece.type)
    if found is None:
        raise ExpressionError("is always null")
    return found


_CASTS = {
    exp.DType.TEXT: "string",
    exp.DType.VARCHAR: "string",
    exp.DType.BIGINT: "integer",
    exp.DType.INT: "integer",
    exp.DType.DOUBLE: "double",
    exp.DType.FLOAT: "float",
    exp.DType.BOOLEAN: "boolean",
}


def _cast_type(node: exp.DataType) -> FieldType:
    kind, inner = node.this, node.expressions
    if kind in _CASTS and not inner:
        return _CASTS[kind]
    if kind == exp.DType.DECIMAL:
        found = digits(f"decimal({','.join(e.name for e in inner)})")
        if found is not None:
            return found.name
        raise ExpressionError("a decimal has 1 to 38 digits, such as decimal(10,2)")
    told = "no such type to cast to (a time is a field of type timestamp)"
    raise ExpressionError(told, node.sql("spark").lower(), CAST_TYPES)
