"""Figures held against those of an independent computation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

Rows = Sequence[dict[str, Any]]


def same_rows(
    found: Rows, expected: Sequence[tuple[Any, ...]], columns: Sequence[str] | None = None
) -> None:
    """Hold rows against those that DuckDB computed, in their order.

    Parameters: columns, those that were computed; by default all but what names a write.
    """
    assert len(found) == len(expected) > 0
    chosen = columns or [name for name in found[0] if not name.startswith("_")]
    for row, wanted in zip(found, expected, strict=True):
        for name, right in zip(chosen, wanted, strict=True):
            same = pytest.approx(right, rel=1e-12, abs=1e-9) if isinstance(right, float) else right
            assert row[name] == same, (name, row, wanted)
