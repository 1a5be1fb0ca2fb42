"""How a stream's messages are written: JSON with fields at their places, or one CSV record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from streamkeeper.spec.models import Spec

NULL = "null"
Texts = Sequence[str]
"""The values of one message's fields as JSON texts."""


class Layout:
    """Writes messages of the fields that a producer makes.

    `names` are the fields in the order in which their texts are wanted.

    Parameters: spec; made, the names of the fields.
    """

    def __init__(self, spec: Spec, made: Iterable[str]) -> None:
        made = list(made)
        self.write: Callable[[Texts], str]
        if spec.source.format == "csv":
            self.names = made
            self.write = _csv_writer(spec, made)
            return
        tree: dict[str, Any] = {}
        for name in made:
            *outer, last = spec.fields[name].keys(name)
            place = tree
            for key in outer:
                place = place.setdefault(key, {})
            place[last] = _Leaf(name)
        self.names = []
        template = _template(tree, self.names)
        # Written by `%` itself, called without a frame of Python: all are given tuples.
        self.write = template.__mod__

    def many(self, columns: Sequence[Texts]) -> list[bytes]:
        """Return many messages; columns, the texts of each field."""
        texts = list(map(self.write, zip(*columns, strict=True)))
        joined = "\n".join(texts)
        if joined.count("\n") >= len(texts):  # a line's end within a CSV record
            return [text.encode("utf-8", "surrogateescape") for text in texts]
        return joined.encode("utf-8", "surrogateescape").split(b"\n")


class _Leaf(str):
    """The name of the field that stands at a place."""


def _template(tree: dict[str, Any], names: list[str]) -> str:
    """Return a `%` template of an object; the fields' names are added in their order."""
    parts = []
    for key, below in tree.items():
        if isinstance(below, _Leaf):
            names.append(str(below))
            text = "%s"
        else:
            text = _template(below, names)
        parts.append(json.dumps(key, ensure_ascii=False).replace("%", "%%") + ":" + text)
    return "{" + ",".join(parts) + "}"


def _csv_writer(spec: Spec, made: Sequence[str]) -> Callable[[Texts], str]:
    """Return what writes a record; a declared column that is not made is missing."""
    declared = spec.source.csv
    delimiter, missing = declared.delimiter, next(iter(declared.missing), "")
    columns = {name: field.path or name for name, field in spec.fields.items()}
    by_column = {columns[name]: place for place, name in enumerate(made)}
    places = [by_column.get(column) for column in declared.columns or columns.values()]

    @lru_cache(maxsize=65536)
    def cell(text: str) -> str:
        if text == NULL:
            return missing
        value = json.loads(text)
        value = value if isinstance(value, str) else text
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, lineterminator="").writerow([value, ""])
        return out.getvalue()[: -len(delimiter)]

    def write(texts: Texts) -> str:
        return delimiter.join(missing if p is None else cell(texts[p]) for p in places)

    return write
