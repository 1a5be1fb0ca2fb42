"""Rows as CSV."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.csv_text import csv_line, csv_text
from streamkeeper_io.tables import python_rows


def test_every_kind_of_value_is_written_as_it_is() -> None:
    paris = timezone(timedelta(hours=1))
    row = [
        *(None, "", "a,b", 'say "x"', "two\nlines", " edge", "é", True, False, 7, 0.1, 1e300),
        *(Decimal("1.50"), datetime(2026, 11, 24, 14, 0, 0, 500_000, paris)),
        datetime(2026, 11, 24, 14),
    ]
    assert csv_text([f"c{n}" for n in range(len(row))], [row]) == (
        "c0,c1,c2,c3,c4,c5,c6,c7,c8,c9,c10,c11,c12,c13,c14\n"
        ',"","a,b","say ""x""","two\nlines"," edge",é,true,false,7,0.1,1e+300,1.50,'
        "2026-11-24T13:00:00.500000Z,2026-11-24T14:00:00Z\n"
    )
    assert csv_text(["a", "b,c"], []) == 'a,"b,c"\n'


def test_numbers_have_the_digits_of_their_own_kind() -> None:
    decimal = pa.decimal128(20, 8)
    rows = pa.table(
        {
            "single": pa.array([0.1, 1e-7, None], pa.float32()),
            "double": pa.array([0.1, 0.1 + 0.2, None]),
            "decimal": pa.array([Decimal("1E-8"), Decimal("2.50"), None], decimal),
        }
    )
    assert csv_text(rows.column_names, python_rows(rows)) == (
        "single,double,decimal\n0.1,0.1,0.00000001\n1e-07,0.30000000000000004,2.50000000\n,,\n"
    )


def test_a_line_tells_nothing_from_an_empty_text() -> None:
    assert csv_line(["a", None, "", "b,c"]) == 'a,,"","b,c"\n'


@given(st.lists(st.tuples(st.text(), st.text(), st.integers()), max_size=20))
def test_any_text_comes_back(rows: list[tuple[str, str, int]]) -> None:
    text = csv_text(["x", "y", "n"], rows)
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["x", "y", "n"], *([x, y, str(n)] for x, y, n in rows)]
