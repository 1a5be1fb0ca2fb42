"""What a batch's files hold, counted from the files themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamkeeper import names
from streamkeeper.spec.models import Spec
from streamkeeper_spark.checks import rule_of

RAW_COLUMNS = [names.ERRORS, names.HOUR, names.EVENT_TIME]
WINDOW_COLUMNS = ["window_start"]


def raw_columns(spec: Spec) -> list[str]:
    """Return the columns by which landed rows are counted."""
    marks = [names.WARNINGS] if spec.warns else []
    marks += [names.CORRECTED] if spec.corrections() else []
    return [*RAW_COLUMNS, *marks]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Account:
    """Rows of a batch: read = valid + quarantined; hours and events are of valid rows."""

    read: int = 0
    quarantined: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    corrected: Counter[str] = field(default_factory=Counter)
    hours: Counter[datetime] = field(default_factory=Counter)
    first_event: datetime | None = None
    last_event: datetime | None = None

    @property
    def valid(self) -> int:
        """Rows that no check has failed."""
        return self.read - self.quarantined

    def dump(self) -> dict[str, Any]:
        """Return the manifest's fields of it."""
        return {
            "read": self.read,
            "valid": self.valid,
            "quarantined": self.quarantined,
            "quarantined_by_rule": dict(sorted(self.by_rule.items())),
            "warned_by_rule": dict(sorted(self.warned.items())),
            "corrected_by_kind": dict(sorted(self.corrected.items())),
            "hours": dict(sorted(self.hours.items())),
            "first_event": self.first_event,
            "last_event": self.last_event,
        }


def account_of_raw(tables: Iterable[pa.Table]) -> Account:
    """Count landed rows; a quarantined row counts once for each rule that it broke."""
    account = Account()
    for table in tables:
        errors = table[names.ERRORS]
        bad = table.filter(pc.is_valid(errors))
        good = table.filter(pc.is_null(errors)) if bad.num_rows else table
        account.read += table.num_rows
        account.quarantined += bad.num_rows
        for findings in bad[names.ERRORS].to_pylist():
            account.by_rule.update({rule_of(finding) for finding in findings})
        _add_marks(account.warned, good, names.WARNINGS)
        _add_marks(account.corrected, good, names.CORRECTED)
        _add_times(account, good[names.HOUR], good[names.EVENT_TIME])
    return account


def account_of_windows(tables: Iterable[pa.Table]) -> Account:
    """Count window rows by the hour of their start."""
    account = Account()
    for table in tables:
        account.read += table.num_rows
        starts = table["window_start"]
        _add_times(account, pc.floor_temporal(starts, unit="hour"), starts)
    return account


def _add_marks(counts: Counter[str], rows: pa.Table, column: str) -> None:
    """Count the texts in a column of lists, where there is one."""
    if column not in rows.column_names:
        return
    for entry in pc.value_counts(pc.list_flatten(rows[column])):
        counts[entry["values"].as_py()] += entry["counts"].as_py()


def _add_times(account: Account, hours: pa.ChunkedArray, events: pa.ChunkedArray) -> None:
    if len(events) == 0:
        return
    for entry in pc.value_counts(_micros(hours)):
        account.hours[_instant(entry["values"].as_py())] += entry["counts"].as_py()
    ends = pc.min_max(_micros(events))
    first, last = _instant(ends["min"].as_py()), _instant(ends["max"].as_py())
    account.first_event = min(filter(None, (account.first_event, first)))
    account.last_event = max(filter(None, (account.last_event, last)))


def _micros(times: pa.ChunkedArray) -> pa.ChunkedArray:
    return times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
