"""Expressions: what is read, its type and SQL, and the text of every refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.errors import ExpressionError
from streamkeeper.spec.expressions import parse_condition, parse_expression

COLUMNS = {
    "temperature": "double",
    "humidity": "double",
    "n": "integer",
    "k": "int32",
    "level": "float",
    "city": "string",
    "ok": "boolean",
    "at": "timestamp",
    "price": "decimal(10,2)",
    "order": "integer",
}


@pytest.mark.parametrize(
    ("text", "sql", "kind"),
    [
        ("temperature > 40", "(`temperature` > 40.0D)", "boolean"),
        ("40 < n", "(40L < `n`)", "boolean"),
        ("n / k", "try_divide(cast(`n` as double), cast(`k` as double))", "double"),
        ("k + 1", "try_add(cast(`k` as bigint), 1L)", "integer"),
        ("-level", "(0.0D - cast(`level` as double))", "double"),
        ("price * 1.25", "try_multiply(`price`, 1.25BD)", "decimal(14,4)"),
        ("price / 3", "try_divide(`price`, 3BD)", "decimal(14,6)"),
        ("price + temperature", "(cast(`price` as double) + `temperature`)", "double"),
        ("city in ('Fes', 'Rabat') and not ok",
         "((`city` IN ('Fes', 'Rabat')) AND (NOT `ok`))", "boolean"),
        (r"city = 'it\'s'", r"(`city` = 'it\'s')", "boolean"),
        ('city || "/x"', "concat(`city`, '/x')", "string"),
        ("city like 'F%'", "(`city` LIKE 'F%')", "boolean"),
        ("ok is not true", "(NOT (`ok` IS TRUE))", "boolean"),
        ("at >= '2026-11-24T12:00:00Z'",
         "(`at` >= timestamp'2026-11-24T12:00:00+00:00')", "boolean"),
        ("case when ok then n else 1.5 end",
         "(CASE WHEN `ok` THEN cast(`n` as double) ELSE 1.5D END)", "double"),
        ("case city when 'Fes' then 1 end",
         "(CASE WHEN (`city` = 'Fes') THEN 1L ELSE null END)", "integer"),
        ("if(ok, 'a', city)", "(CASE WHEN `ok` THEN 'a' ELSE `city` END)", "string"),
        ("cast(city as decimal(5, 1))", "try_cast(`city` as decimal(5,1))", "decimal(5,1)"),
        ("city::integer", "try_cast(`city` as bigint)", "integer"),
        ("nullif(temperature, -9999)", "nullif(`temperature`, (-9999.0D))", "double"),
        ("date_trunc('DAY', at)", "date_trunc('day', `at`)", "timestamp"),
        ("`order` + order", "try_add(`order`, `order`)", "integer"),
        ("hour(at) % 2 = 0", "(try_mod(cast(hour(`at`) as bigint), 2L) = 0L)", "boolean"),
        ("POW(n, 2)", "power(cast(`n` as double), 2.0D)", "double"),
        ("99999999999999999999 > n", "(1e+20D > cast(`n` as double))", "boolean"),
    ],
)  # fmt: skip
def test_what_is_read(text: str, sql: str, kind: str) -> None:
    found = parse_expression(text, COLUMNS)
    assert (found.sql, found.type, found.text, found.aggregate) == (sql, kind, text, False)
    assert parse_expression(text, COLUMNS) == found


def test_fields_are_told_in_their_order() -> None:
    found = parse_expression("if(ok, humidity, temperature) > humidity", COLUMNS)
    assert found.fields == ("ok", "humidity", "temperature")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tempertaure > 1", "no such field is declared: tempertaure; valid: temperature, humidity, "
         "n, k, level, city, ok, at, price, order; did you mean 'temperature'?"),
        ("rond(n)", "is no function here: rond; valid: abs, ceil, coalesce, concat, contains, "
         "date_format, date_trunc, day, dayofweek, endswith, exp, floor; did you mean 'round'?"),
        ("Temperature > 1", "did you mean 'temperature'?"),
        ("uuid()", "is no function here: uuid"),
        ("current_user()", "is no function here: current_user"),
        ("java_method('java.lang.System', 'exit', 1)", "is no function here: java_method"),
        ("reflect('x', 'y')", "is no function here: reflect"),
        ("current_timestamp", "no such field is declared: current_timestamp"),
        ("(select 1)", "subqueries are not read"),
        ("n in (select 1)", "subqueries are not read"),
        ("exists(select 1)", "subqueries are not read"),
        ("select n", "subqueries are not read"),
        ("n; n", "a `;` is not read: write one expression"),
        ("n > 1; drop table x", "a `;` is not read: write one expression"),
        ("drop table x", "is not read"),
        ("n -- hidden", "comments (-- and /* */) are not read"),
        ("n /* hidden */", "comments (-- and /* */) are not read"),
        ("n /*+ broadcast(x) */", "comments (-- and /* */) are not read"),
        ("n /* open", "a quotation mark or a comment is not closed"),
        ("{{ ds }}", "templates ({{ }}) are not read"),
        ("n > {{ params.x }}", "templates ({{ }}) are not read"),
        ("{% if x %}", "templates ({{ }}) are not read"),
        ("sum(n) over ()", "window functions (over) are not read"),
        ("rank() over (order by n)", "window functions (over) are not read"),
        ("transform(city, x -> x + 1)", "is no function here: transform"),
        ("coalesce(n, x -> x)", "functions of the form x -> ... are not read"),
        ("cast(n as foo)", "no such type to cast to at 'foo'; valid: string, integer"),
        ("cast(n as array<int>)", "no such type to cast to"),
        ("cast(city as date)", "no such type to cast to (a time is a field of type timestamp): "
         "date; valid: string, integer, double, float, boolean, decimal(P,S)"),
        ("cast(n as decimal(50,2))", "a decimal has 1 to 38 digits"),
        ("n as m", "names (as) are not read"),
        ("*", "* stands in count(*) only"),
        ("a.n", "write n alone"),
        ("n[0]", "[...] is not read; declare a field with its `path`"),
        (":x", "placeholders are not read"),
        ("?", "placeholders are not read"),
        ("@x", "placeholders are not read"),
        ("interval 1 day", "intervals are not read"),
        ("city rlike '(a+)+$'", "regexplike is not read; operators"),
        ("n div 2", "intdiv is not read"),
        ("'it''s'", "write a quotation mark within a text as \\'"),
        ("'open", "a quotation mark or a comment is not closed"),
        ("city like 'a\\\\x'", "in a pattern of like"),
        ("n +", "is not SQL"),
        ("n n n", "is not SQL"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("null", "is always null"),
        ("n > 'a'", "integer and string do not go together"),
        ("ok + 1", "+ needs numbers; 'ok' is boolean"),
        ("ok and n", "and needs conditions; 'n' is integer"),
        ("at > '2026-11-24 12:00'", "'2026-11-24 12:00' is not a time with its zone"),
        ("1e400 > n", "is larger than a double holds"),
        ("substring(city)", "substring is called substring(text, from, length)"),
        ("substring(city, 0, 1)", "the from of substring is a whole number from 1 to 100000: 0"),
        ("upper(n)", "upper needs a string; 'n' is integer"),
        ("sqrt(null)", "sqrt of null is always null"),
        ("date_trunc('dya', at)", "the unit of date_trunc is one of the plain texts: dya; valid: "
         "year, quarter, month, week, day, hour, minute, second; did you mean 'day'?"),
        ("date_format(at, 'G')", "the pattern of date_format is a text such as"),
        ("avg(n)", "avg is an aggregate of many readings; this expression sees one reading"),
        ("count(*)", "count is an aggregate of many readings"),
        ("n = " + "1" * 3000, "is longer than 2,000 characters"),
        ("n + " * 300 + "n", "has more than 500 words and signs"),
        ("n + " * 200 + "n", "has more than 100 operations one upon the other"),
        ("(" * 400 + "n" + ")" * 400, "has more than 500 words and signs"),
        ("(" * 200 + "n" + ")" * 200, "is nested deeper than 30"),
        ("not " * 200 + "ok", "is nested too deep"),
        ("case when ok then " * 60 + "n" + " end" * 60, "is nested deeper than 30"),
        ("abs(" * 1000 + "n" + ")" * 1000, "is longer than 2,000 characters"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, COLUMNS)
    assert expected in str(caught.value)


def test_a_condition_is_true_or_false() -> None:
    assert parse_condition("ok or n > 1", COLUMNS).type == "boolean"
    with pytest.raises(ExpressionError, match="is integer, not a condition"):
        parse_condition("n", COLUMNS)


@pytest.mark.parametrize(
    ("text", "sql", "kind"),
    [
        ("avg(temperature)", "avg(`temperature`)", "double"),
        ("mean(price)", "try_avg(`price`)", "decimal(14,6)"),
        ("count(*)", "count(*)", "integer"),
        ("count(city)", "count(`city`)", "integer"),
        ("stddev(n)", "stddev_samp(cast(`n` as double))", "double"),
        ("sum(k)", "try_sum(`k`)", "integer"),
        ("sum(level)", "sum(`level`)", "double"),
        ("max(level)", "max(`level`)", "float"),
        ("approx_percentile(k, 0.95)", "approx_percentile(`k`, 0.95D, 10000)", "int32"),
        ("count_if(ok) / count(*)",
         "try_divide(cast(count_if(`ok`) as double), cast(count(*) as double))", "double"),
        ("round(max(temperature) - min(humidity), 1)",
         "round((max(`temperature`) - min(`humidity`)), 1)", "double"),
        ("approx_count_distinct(city, 0.01)", "approx_count_distinct(`city`, 0.01D)", "integer"),
    ],
)  # fmt: skip
def test_measures(text: str, sql: str, kind: str) -> None:
    found = parse_expression(text, COLUMNS, aggregates=True, streaming=True)
    assert (found.sql, found.type, found.aggregate) == (sql, kind, True)


def test_a_measure_of_one_column_says_so() -> None:
    def plain(text: str) -> tuple[str | None, str | None, bool]:
        found = parse_expression(text, COLUMNS, aggregates=True)
        return found.function, found.field, found.distinct

    assert plain("avg(temperature)") == ("avg", "temperature", False)
    assert plain("(COUNT(DISTINCT city))") == ("count", "city", True)
    assert plain("count(*)") == ("count", None, False)
    assert plain("avg(temperature) + 1") == (None, None, False)
    assert plain("avg(temperature + 1)") == (None, None, False)


@pytest.mark.parametrize(
    ("text", "streaming", "expected"),
    [
        ("count(distinct city)", True, "cannot be kept by a stream; use approx_count_distinct"),
        ("temperature", False, "is no aggregate of readings"),
        ("1", False, "is no aggregate of readings"),
        ("avg(avg(n))", False, "avg is an aggregate; it cannot hold another one"),
        ("count(max(n))", False, "count is an aggregate; it cannot hold another one"),
        ("sum(n) / temperature", False, "mixes fields of single readings with aggregates"),
        ("sum(*)", False, "* stands in count(*) only"),
        ("sum(distinct n)", False, "distinct stands in count(distinct ...) only"),
        ("avg(city)", False, "avg needs a number; 'city' is string"),
        ("count()", False, "count is called count(*), count(x) or count(distinct x, ...)"),
        ("count(n, k)", False, "count is called count(*), count(x) or count(distinct x, ...)"),
        ("percentile(n, 95)", False, "the share of percentile is a number from 0.0 to 1.0: 95"),
        ("percentile(n, k / 100)", False, "the share of percentile is a number from 0.0 to 1.0"),
        ("count_if(n)", False, "count_if needs a boolean; 'n' is integer"),
        ("count(*) filter (where ok)", False, "`filter (where ...)` is not read"),
        ("avrage(n)", False, "did you mean 'avg'?"),
    ],
)
def test_what_is_no_measure(text: str, streaming: bool, expected: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, COLUMNS, aggregates=True, streaming=streaming)
    assert expected in str(caught.value)


PIECES = st.sampled_from(
    [
        *COLUMNS,
        *"()+-*/%,.'\"`[]{}<>=!;:?@|&~^#\\ ",
        *("1", "0.5", "1e9", "null", "true", "and", "or", "not", "in", "is", "like", "between"),
        *("case", "when", "then", "end", "cast", "as", "select", "from", "count", "avg", "over"),
        *("distinct", "if", "round", "--", "/*", "*/", "{{", "}}", "é"),
    ]
)


@given(st.lists(PIECES, max_size=30).map(" ".join) | st.text(max_size=60), st.booleans())
def test_no_text_makes_the_reader_crash(text: str, aggregates: bool) -> None:
    try:
        found = parse_expression(text, COLUMNS, aggregates=aggregates)
    except ExpressionError:
        return
    assert found.sql
    assert found.type
