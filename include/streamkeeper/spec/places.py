"""Mistakes in where fields stand in a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamkeeper.spec import raw
from streamkeeper.spec.document import Problem

Keys = tuple[str, ...]


def place_problems(
    fields: Mapping[str, Mapping[str, Any]], *, csv: bool = False
) -> Iterator[Problem]:
    """Yield a mistake for each field that stands where another does, or within another.

    Keys that differ by case only are refused too: Spark tells them apart in no struct.

    Parameters: fields, the raw data of the declared fields by name; csv, the fields stand in
    columns, whose names may have points.
    """
    places: dict[Keys, str] = {}
    above: dict[Keys, tuple[str, Keys]] = {}
    for name, given in fields.items():
        keys = _keys(name, given.get("path"), csv)
        folded = tuple(key.lower() for key in keys)
        path = ("fields", name, "path") if "path" in given else ("fields", name)
        shown = ".".join(keys)
        outer = [folded[:length] for length in range(1, len(folded))]
        other = next((places[p] for p in (*outer, folded) if p in places), None)
        if other is None and folded in above:
            other = above[folded][0]
        if other is not None:
            yield Problem(path, f"stands where {other} does, or one within the other", shown)
            continue
        places[folded] = name
        for place in outer:
            first = above.setdefault(place, (name, keys[: len(place)]))[1]
            if first != keys[: len(place)]:
                yield Problem(path, f"differs from {'.'.join(first)} by case only", shown)
                break


def _keys(name: str, path: Any, csv: bool) -> Keys:
    if isinstance(path, str):
        return (path,) if csv else tuple(path.split("."))
    return tuple(raw.texts(path)) or (name,)
