"""How often each value comes in a published batch, from its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc

from streamkeeper.manifest import Manifest
from streamkeeper.names import ERRORS
from streamkeeper_io.lake import read_rows, with_columns


def count_values(
    lake: str, manifest: Manifest, folder: str, columns: Sequence[str]
) -> dict[str, Counter[Any]]:
    """Return for each column how many valid rows of a batch have each value; null is one too.

    Parameters: folder, the batch's folder in the lake. Raises LakeUnavailable.
    """
    counts: dict[str, Counter[Any]] = {name: Counter() for name in columns}
    paths = [f"{folder}/{name}" for name in manifest.files]
    for landed in read_rows(lake, paths, [*columns, ERRORS]):
        valid = landed.filter(pc.is_null(landed[ERRORS]))
        for name, column in zip(columns, with_columns(valid, columns).columns, strict=True):
            values, numbers = pc.value_counts(column.combine_chunks()).flatten()
            for value, number in zip(values.to_pylist(), numbers.to_pylist(), strict=True):
                counts[name][value] += number
    return counts


def most_frequent(counts: Counter[Any], most: int) -> list[tuple[Any, int]]:
    """Return the most frequent values with their numbers; among equals by their texts."""
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:most]
