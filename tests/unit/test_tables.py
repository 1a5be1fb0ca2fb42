"""Arrow's tables put together."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from streamkeeper_io.tables import put_together


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # Each raises an error of its own kind: of the type, the value, and what has no cast.
        (pa.array([7]), pa.array(["Fes"]), ["7", "Fes"]),
        (pa.array([2**53 + 1]), pa.array([0.5]), [str(2**53 + 1), "0.5"]),
        (pa.array([["a", "b"], None]), pa.array([7]), ["a; b", None, "7"]),
        (pa.array([b"\xff", None]), pa.array([7]), [r"\xff", None, "7"]),
    ],
    ids=["texts", "digits", "lists", "bytes"],
)
def test_a_column_of_types_that_do_not_meet_becomes_a_text(
    old: pa.Array, new: pa.Array, expected: list[Any]
) -> None:
    parts = [
        pa.table({"same": [1] * len(old), "x": old}),
        pa.table({"same": [2] * len(new), "x": new, "more": [3] * len(new)}),
    ]
    found = put_together(parts)
    assert found["x"].to_pylist() == expected
    assert found["same"].to_pylist() == [1] * len(old) + [2] * len(new)
    assert found["more"].to_pylist() == [None] * len(old) + [3] * len(new)


def test_types_that_meet_stay_numbers() -> None:
    found = put_together([pa.table({"x": [1]}), pa.table({"x": [0.5]})])
    assert found["x"].to_pylist() == [1.0, 0.5]
