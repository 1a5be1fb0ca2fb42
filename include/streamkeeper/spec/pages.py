"""docs/expressions.md, made from the allowlist of functions and operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from streamkeeper.spec import parsing, pieces
from streamkeeper.spec.allowlist import AGGREGATES, ALIASES, SCALARS
from streamkeeper.spec.functions import Function, Parameter
from streamkeeper.spec.pieces import Piece

_HEAD = """\
# Expressions

This page is made by `make docs` from the allowlist in the code; a test holds it so.

An expression is a part of SQL over the fields and derived columns of one reading. It stands in
`derived`, in `checks` (`expect`), in `where` of windows, KPIs and alerts; a measure of a window
or KPI is one over many readings. It is read by sqlglot, held to the functions and operators
below, typed, and given to Spark with quoted names. Anything else is a mistake that
`streamkeeper check` tells with the nearest match: subqueries, window functions (`over`),
functions of the form `x -> ...`, comments, `;`, templates, and all functions that are not
listed.

## Names, values and types
- A name is that of a field or derived column, written as declared, capitals too. `` `order` ``
  in backquotes is the same name; needed only where SQL has another use for the word.
- Texts stand in `'...'` or `"..."`, with `\\'` for a quotation mark within. Numbers: `40`,
  `0.5`, `1e3`. Further values: `true`, `false`, `null`.
- Types are those of fields. `integer` and `int32` are computed with as 64 bits, `float` as
  `double`; whole numbers beside a `double` become one. A decimal stays exact with whole
  numbers, decimals and written numbers. `a / b` of whole numbers is a `double`.
- Texts, numbers, booleans and times are not compared with one another. A time is compared with
  a time, or with a text that has a zone: `at > '2026-11-24T12:00:00Z'`.
- Whatever cannot be computed is null: a division by zero, a number that outgrows its type, a
  cast of a text that is no number, and everything computed from null. An error would end the
  stream at the same record again and again.
- At most {length} characters, {tokens} words and signs, {depth} levels of brackets.

## Operators
| operator | meaning |
|---|---|
"""
_OPERATORS = (
    ("`+` `-` `*` `/` `%`", "arithmetic; `%` is the rest of a division"),
    ("`\\|\\|`", "texts one after the other, as `concat`"),
    ("`=` `<>` `!=` `<` `<=` `>` `>=`", "comparisons; null if one side is null"),
    ("`<=>`", "equal, where null equals null; never null"),
    ("`and` `or` `not`", "of conditions"),
    ("`between a and b`", "both included; also `not between`"),
    ("`in (a, b)`", "one of these values; also `not in`"),
    ("`like 'a%'`", "a pattern: `%` any characters, `_` one; `\\` before either for itself"),
    ("`is null` `is true` `is false`", "never null; also `is not ...`"),
    (
        "`case when c then x else y end`",
        "the first x whose condition is true; also `case a when b`",
    ),
    ("`if(c, x, y)`", "x where the condition is true, else y"),
    ("`cast(x as type)`", f"to {', '.join(f'`{t}`' for t in parsing.CAST_TYPES)}; null if not"),
)
_MEASURES = """
## Measures
A measure is made of these aggregates, with operators and the functions above around or within
them: `round(avg(temperature), 1)`, `max(t) - min(t)`, `count_if(status >= 500) / count(*)`.
Nulls are left out. Fields stand within aggregates only.

`count(*)` counts readings, `count(x)` those where x is not null, `count(distinct x)` the
different values, exactly. A stream cannot keep all different values, so a window's live rows
refuse `count(distinct x)`; use `approx_count_distinct(x)`. KPIs have both.

"""
_HOW_TYPED = {
    "number": "number",
    "double": "number",
    "text": "string",
    "boolean": "boolean",
    "timestamp": "timestamp",
    "any": "any",
}


def expressions_page() -> str:
    """Return the text of docs/expressions.md."""
    head = _HEAD.format(
        length=f"{parsing.MAX_LENGTH:,}",
        tokens=parsing.MAX_TOKENS,
        depth=parsing.MAX_DEPTH,
    )
    operators = "".join(f"| {how} | {meaning} |\n" for how, meaning in _OPERATORS)
    return (
        head
        + operators
        + "\n## Functions of one reading\n"
        + _table(SCALARS)
        + _other_names(SCALARS)
        + _MEASURES
        + _table(AGGREGATES)
        + _other_names(AGGREGATES)
    )


def _table(functions: Iterable[Function]) -> str:
    rows = (
        f"| `{f.usage}` | {', '.join(map(_parameter, f.parameters))} | {_gives(f)} | {f.about} "
        f"| `{f.example}` |\n"
        for f in functions
    )
    return "| function | of | gives | meaning | example |\n|---|---|---|---|---|\n" + "".join(rows)


def _parameter(parameter: Parameter) -> str:
    return "value" if parameter.literal is not None else _HOW_TYPED[parameter.kind]


def _gives(function: Function) -> str:
    if isinstance(function.gives, str):
        return function.gives
    return _rule(function.gives, function)


def _rule(rule: Callable[[Sequence[Piece]], str], function: Function) -> str:
    """Tell a type that follows from the arguments, by trying two types of them."""
    given = {kind: rule([pieces.Piece("x", kind)]) for kind in ("int32", "float", "decimal(10,2)")}
    if all(kind == found for kind, found in given.items()):
        return "the same"
    return f"{given['float']}; decimal of a decimal" + (
        f"; {given['int32']} of whole numbers" if given["int32"] != given["float"] else ""
    )


def _other_names(functions: Iterable[Function]) -> str:
    names = {f.name for f in functions}
    told = [f"`{other}` for `{name}`" for other, name in ALIASES.items() if name in names]
    return f"\nOther names: {', '.join(told)}.\n" if told else ""
