"""The functions that expressions may use: what is not here is refused.

docs/expressions.md is made from this table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamkeeper.spec import pieces as p
from streamkeeper.spec.field_types import Digits, FieldType, digits
from streamkeeper.spec.functions import Function, Parameter
from streamkeeper.spec.pieces import Piece


def _same(pieces: Sequence[Piece]) -> FieldType:
    return next((x.type for x in pieces if x.type != p.NULL), p.NULL)


def _wide(pieces: Sequence[Piece]) -> FieldType:
    """Return the type in which whole numbers are computed with."""
    return {"int32": "integer", "float": "double"}.get(pieces[0].type, pieces[0].type)


def _sum_type(pieces: Sequence[Piece]) -> FieldType:
    found = digits(pieces[0].type)
    if found is not None:
        return Digits(min(38, found.precision + 10), found.scale).name
    return _wide(pieces)


def _mean_type(pieces: Sequence[Piece]) -> FieldType:
    found = digits(pieces[0].type)
    if found is None:
        return "double"
    return Digits(min(38, found.precision + 4), min(38, found.scale + 4)).name


def _sum(pieces: Sequence[Piece]) -> str:
    # A sum that outgrows its type is null, not the end of the stream.
    kind = pieces[0].type
    return f"{'sum' if kind in ('double', 'float') else 'try_sum'}({pieces[0].sql})"


def _mean(pieces: Sequence[Piece]) -> str:
    return f"{'try_avg' if digits(pieces[0].type) else 'avg'}({pieces[0].sql})"


def _abs(pieces: Sequence[Piece]) -> str:
    if pieces[0].type in ("double", "float") or digits(pieces[0].type) is not None:
        return f"abs({p.as_type(pieces[0], _wide(pieces)).sql})"
    wide = p.as_type(pieces[0], "integer").sql
    return f"if({wide} < 0L, try_subtract(0L, {wide}), {wide})"


def _nullif(pieces: Sequence[Piece]) -> str:
    return f"nullif({pieces[0].sql}, {pieces[1].sql})"


_X, _NUMBER = Parameter("x", "double"), Parameter("x", "number")
_TEXT, _TIME, _ANY = Parameter("text", "text"), Parameter("time", "timestamp"), Parameter("x")
_UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
_PATTERN = re.compile(r"(yyyy|yy|MM|dd|HH|mm|ss|SSS|[-/:._ ]|'[A-Za-z ]+')+")

SCALARS = (
    Function("abs", (_NUMBER,), _wide, _abs, "the number without its sign", "abs(a - b)"),
    Function("ceil", (_X,), "integer", "ceil({0})", "the next whole number up", "ceil(x)"),
    Function("floor", (_X,), "integer", "floor({0})", "the next whole number down", "floor(x)"),
    Function(
        "round",
        (_X, Parameter("digits", literal=(0, 12), default="0")),
        "double",
        "round({0}, {1})",
        "rounded to so many digits after the point (0 to 12), halves away from zero",
        "round(x, 1)",
    ),
    Function("sign", (_X,), "double", "sign({0})", "-1, 0 or 1", "sign(x)"),
    Function("sqrt", (_X,), "double", "sqrt({0})", "the square root", "sqrt(x)"),
    Function(
        "power",
        (_X, Parameter("exponent", "double")),
        "double",
        "power({0}, {1})",
        "x to this power",
        "power(x, 2)",
    ),
    Function("exp", (_X,), "double", "exp({0})", "e to the power of x", "exp(x)"),
    Function("ln", (_X,), "double", "ln({0})", "the natural logarithm; null up to 0", "ln(x)"),
    Function(
        "log10", (_X,), "double", "log10({0})", "the logarithm of base 10; null up to 0", "log10(x)"
    ),
    *(
        Function(
            name,
            (_ANY, Parameter("y")),
            _same,
            lambda given, name=name: f"{name}({', '.join(g.sql for g in given)})",
            f"the {which} of the values that are not null",
            f"{name}(a, b)",
            more=True,
            together=True,
        )
        for name, which in (("greatest", "highest"), ("least", "lowest"))
    ),
    Function(
        "coalesce",
        (_ANY, Parameter("y")),
        _same,
        lambda given: f"coalesce({', '.join(g.sql for g in given)})",
        "the first value that is not null",
        "coalesce(a, 0)",
        more=True,
        together=True,
    ),
    Function(
        "nullif",
        (_ANY, Parameter("y")),
        _same,
        _nullif,
        "null where both are equal, else x",
        "nullif(x, -9999)",
        together=True,
    ),
    Function("length", (_TEXT,), "int32", "length({0})", "characters of a text", "length(city)"),
    Function("lower", (_TEXT,), "string", "lower({0})", "in small letters", "lower(city)"),
    Function("upper", (_TEXT,), "string", "upper({0})", "in capital letters", "upper(city)"),
    Function("trim", (_TEXT,), "string", "trim({0})", "without spaces at both ends", "trim(city)"),
    Function(
        "substring",
        (
            _TEXT,
            Parameter("from", literal=(1, 100_000)),
            Parameter("length", literal=(0, 100_000)),
        ),
        "string",
        "substring({0}, {1}, {2})",
        "so many characters from a place on, counted from 1",
        "substring(path, 1, 4)",
    ),
    Function(
        "concat",
        (_TEXT, _TEXT),
        "string",
        lambda given: f"concat({', '.join(g.sql for g in given)})",
        "texts one after the other; null if one is null",
        "concat(city, '/', site)",
        more=True,
    ),
    *(
        Function(
            name,
            (_TEXT, Parameter("part", "text")),
            "boolean",
            f"{name}({{0}}, {{1}})",
            f"whether the text {about} this part",
            f"{name}(path, '/api')",
        )
        for name, about in (
            ("contains", "holds"),
            ("startswith", "begins with"),
            ("endswith", "ends with"),
        )
    ),
    Function(
        "replace",
        (_TEXT, Parameter("part", "text"), Parameter("other", "text")),
        "string",
        "replace({0}, {1}, {2})",
        "with the other text in place of the part",
        "replace(city, 'Fès', 'Fes')",
    ),
    Function(
        "split_part",
        (_TEXT, Parameter("separator", "text"), Parameter("number", literal=(1, 1_000))),
        "string",
        "split_part({0}, {1}, {2})",
        "one of the parts between separators, counted from 1; empty beyond the last",
        "split_part(path, '/', 2)",
    ),
    *(
        Function(name, (_TIME,), "int32", f"{name}({{0}})", about, f"{name}(at)")
        for name, about in (
            ("year", "the year (UTC)"),
            ("month", "the month, 1 to 12 (UTC)"),
            ("day", "the day of the month (UTC)"),
            ("dayofweek", "the day of the week, Sunday is 1 (UTC)"),
            ("hour", "the hour, 0 to 23 (UTC)"),
            ("minute", "the minute"),
            ("second", "the second"),
        )
    ),
    Function(
        "date_trunc",
        (Parameter("unit", literal=_UNITS), _TIME),
        "timestamp",
        "date_trunc({0}, {1})",
        f"the start of the unit (UTC): {', '.join(_UNITS)}",
        "date_trunc('day', at)",
    ),
    Function(
        "date_format",
        (_TIME, Parameter("pattern", literal=_PATTERN)),
        "string",
        "date_format({0}, {1})",
        "the time as a text (UTC), of yyyy MM dd HH mm ss SSS and what stands between them",
        "date_format(at, 'yyyy-MM-dd')",
    ),
    Function(
        "unix_seconds",
        (_TIME,),
        "integer",
        "unix_seconds({0})",
        "whole seconds since 1970",
        "unix_seconds(received) - unix_seconds(sent)",
    ),
    Function(
        "unix_millis",
        (_TIME,),
        "integer",
        "unix_millis({0})",
        "whole milliseconds since 1970",
        "unix_millis(at)",
    ),
)

_SHARE = Parameter("share", literal=(0.0, 1.0))
AGGREGATES = (
    Function("avg", (_NUMBER,), _mean_type, _mean, "the mean", "avg(temperature)", aggregate=True),
    Function("sum", (_NUMBER,), _sum_type, _sum, "the sum", "sum(bytes)", aggregate=True),
    *(
        Function(
            name,
            (_ANY,),
            _same,
            f"{name}({{0}})",
            f"the {which} value",
            f"{name}(temperature)",
            aggregate=True,
        )
        for name, which in (("min", "lowest"), ("max", "highest"))
    ),
    Function(
        "stddev",
        (_X,),
        "double",
        "stddev_samp({0})",
        "the standard deviation of a sample; null for one reading",
        "stddev(temperature)",
        aggregate=True,
    ),
    Function(
        "variance",
        (_X,),
        "double",
        "var_samp({0})",
        "the variance of a sample; null for one reading",
        "variance(temperature)",
        aggregate=True,
    ),
    Function(
        "count_if",
        (Parameter("condition", "boolean"),),
        "integer",
        "count_if({0})",
        "for how many readings the condition is true",
        "count_if(status >= 500) / count(*)",
        aggregate=True,
    ),
    Function(
        "percentile",
        (_X, _SHARE),
        "double",
        "percentile({0}, {1})",
        "the exact percentile, between two readings where the share falls between them; it keeps "
        "every different value",
        "percentile(rt_ms, 0.95)",
        aggregate=True,
    ),
    Function(
        "median",
        (_X,),
        "double",
        "percentile({0}, 0.5D)",
        "the exact median; it keeps every different value",
        "median(rt_ms)",
        aggregate=True,
    ),
    Function(
        "approx_percentile",
        (_NUMBER, _SHARE, Parameter("accuracy", literal=(1, 1_000_000), default="10000")),
        _same,
        "approx_percentile({0}, {1}, {2})",
        "a reading near the percentile: its place among the sorted readings is off by at most "
        "1/accuracy of their number (accuracy 10000 when left out: 0.01 %)",
        "approx_percentile(rt_ms, 0.95)",
        aggregate=True,
    ),
    Function(
        "approx_count_distinct",
        (_ANY, Parameter("error", literal=(0.005, 0.3), default="0.05D")),
        "integer",
        "approx_count_distinct({0}, {1})",
        "about how many different values: the standard error is 5 % when left out, 0.5 to 30 %",
        "approx_count_distinct(ip, 0.02)",
        aggregate=True,
    ),
)

FUNCTIONS = {function.name: function for function in (*SCALARS, *AGGREGATES)}
ALIASES = {"mean": "avg", "ceiling": "ceil", "pow": "power", "stddev_samp": "stddev"}
