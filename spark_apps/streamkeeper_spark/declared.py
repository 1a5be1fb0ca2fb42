"""What declared checks make of a batch: rows that end the stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamkeeper import names
from streamkeeper.errors import CheckFailed
from streamkeeper.manifest import Manifest
from streamkeeper.spec.models import Check, Spec

FAILED_COLUMNS = [names.ERRORS, names.PARTITION, names.OFFSET, names.VALUE]
_LONGEST_VALUE = 500


def failed_check(spec: Spec, manifest: Manifest) -> Check | None:
    """Return the first check with `on_fail: fail` that a record of the batch broke."""
    broken = manifest.quarantined_by_rule
    return next((c for c in spec.checks if c.on_fail == "fail" and c.rule in broken), None)


def check_failure(check: Check, manifest: Manifest, tables: Iterable[pa.Table]) -> CheckFailed:
    """Return the error that names the check, the first record that broke it, and what to do.

    Parameters: tables, the batch's rows with the columns of `FAILED_COLUMNS`.
    """
    number = manifest.quarantined_by_rule[check.rule]
    first = min(
        (row for table in tables for row in _broken(table, check.rule)),
        key=lambda row: (row[names.PARTITION], row[names.OFFSET]),
    )
    value = (first[names.VALUE] or b"").decode("utf-8", "backslashreplace")
    if len(value) > _LONGEST_VALUE:
        value = value[: _LONGEST_VALUE - 3] + "..."
    records = "record" if number == 1 else "records"
    return CheckFailed(
        f"{manifest.stream}: {number} {records} broke the check {check.name} (expected "
        f"{check.expect}), which ends the stream; the first is partition {first[names.PARTITION]} "
        f"offset {first[names.OFFSET]} of {manifest.topic}: {value}\n"
        f"Batch {manifest.batch} is not published. Correct the sender or the check (on_fail), then "
        "start the stream again: it reads the batch anew"
    )


def _broken(table: pa.Table, rule: str) -> Iterator[dict[str, Any]]:
    bad = table.filter(pc.is_valid(table[names.ERRORS]))
    for row in bad.to_pylist():
        if any(finding.startswith(f"{rule}: ") for finding in row[names.ERRORS]):
            yield row
