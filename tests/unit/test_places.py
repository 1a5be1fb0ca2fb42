"""Fields that stand in one another's place."""

from __future__ import annotations

import time

import pytest

from streamkeeper.spec.places import place_problems


def told(fields: dict[str, object], *, csv: bool = False) -> list[str]:
    given = {name: {"type": "double", **({"path": p} if p else {})} for name, p in fields.items()}
    return [f"{'.'.join(map(str, p.path))}: {p.message}" for p in place_problems(given, csv=csv)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"a": "x.t", "b": "x.u", "t": None}, []),
        ({"a": "x.t", "b": ["x", "t"]}, ["fields.b.path: stands where a does"]),
        ({"t": None, "b": "t"}, ["fields.b.path: stands where t does"]),
        ({"a": "x", "b": "x.t"}, ["fields.b.path: stands where a does, or one within the other"]),
        ({"a": "x.t", "x": None}, ["fields.x: stands where a does, or one within the other"]),
        ({"a": "x.t", "b": "x.T"}, ["fields.b.path: stands where a does"]),
        ({"a": "x.t", "b": "X.u"}, ["fields.b.path: differs from x by case only"]),
        ({"a": ["x.t"], "b": "x.t"}, []),
    ],
)
def test_one_place_one_field(fields: dict[str, object], expected: list[str]) -> None:
    found = told(fields)
    assert len(found) == len(expected)
    for text, beginning in zip(found, expected, strict=True):
        assert text.startswith(beginning)


def test_points_in_the_names_of_columns_mean_nothing() -> None:
    assert told({"a": "x", "b": "x.t"}, csv=True) == []
    assert told({"a": "x.t", "b": "x.t"}, csv=True) != []


def test_many_fields_are_quick() -> None:
    began = time.perf_counter()
    assert told({f"f{n}": f"x.y{n}" for n in range(10_000)}) == []
    assert time.perf_counter() - began < 2
