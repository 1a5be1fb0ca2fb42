"""What `show --zone delta` tells of a stream's Delta tables: rows, columns, counts."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streamkeeper.errors import StreamkeeperError
from streamkeeper.names import format_hour
from streamkeeper.settings import Settings
from streamkeeper.showing import HourRange
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import HOUR_COLUMN
from streamkeeper_apps.show_tables import Shown
from streamkeeper_apps.show_zones import shown_table


def asked(settings: Settings, spec: Spec, options: argparse.Namespace) -> list[Shown]:
    """Return what was asked for of the tables that are meant.

    Raises StreamkeeperError for a table that is not declared, LakeUnavailable, TableDiffers.
    """
    tables = _meant(list(spec.delta_tables()), spec, options)
    return [_of_table(settings, spec, path, options) for path in tables]


def _meant(paths: list[str], spec: Spec, options: argparse.Namespace) -> list[str]:
    if not paths:
        raise StreamkeeperError(f"{spec.name} declares no Delta table")
    wanted = options.table
    found = [p for p in paths if wanted in (None, p, p.rpartition("/")[2])]
    if not found:
        nearest = difflib.get_close_matches(wanted, paths, n=1)
        text = f"{spec.name} declares no Delta table {wanted!r}; declared: {', '.join(paths)}"
        raise StreamkeeperError(text + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
    if len(found) > 1 and options.format != "table":
        told = ", ".join(found)
        raise StreamkeeperError(
            f"{options.format} has room for one table: add --table with one of {told}"
        )
    return found


def _of_table(settings: Settings, spec: Spec, path: str, options: argparse.Namespace) -> Shown:
    from streamkeeper_io.delta_views import DeltaView, open_view
    from streamkeeper_io.lake import use_lake

    time = HOUR_COLUMN if spec.delta_tables()[path].of_hours else spec.event_time.field
    view: DeltaView | None = open_view(use_lake(settings), path, time)
    title = f"{spec.name} {path}"
    if view is None:
        note = (
            f"there is no such table yet; `streamkeeper stream status {spec.name}` tells whether "
            "its driver runs"
        )
        return Shown(title, (), (), note=note)
    about = Table(title, view, options.hours, options.limit)
    if options.schema:
        return about.schema()
    return about.count() if options.count else about.rows()


@dataclass(frozen=True)
class Table:
    """One Delta table.

    Parameters: title; view, what it holds; hours, only these; limit, so many rows at most.
    """

    title: str
    view: Any
    hours: HourRange | None
    limit: int

    def schema(self) -> Shown:
        """Return the table's columns, as its log tells them."""
        by = ", ".join(self.view.partition_by) or "nothing"
        title = f"{self.title} version {self.view.version}: columns, partitioned by {by}"
        return Shown(title, ("column", "type"), list(self.view.columns.items()))

    def rows(self) -> Shown:
        """Return the rows that were written last."""
        of = f" {self.hours}" if self.hours else ""
        title = f"{self.title} version {self.view.version}{of}: the rows that were written last"
        found = self.view.newest(self.limit, self.hours)
        if found is None:
            return Shown(title, list(self.view.columns), ())
        return shown_table(title, found)

    def count(self) -> Shown:
        """Return the rows of each hour."""
        counts: dict[datetime, int] = self.view.count_by_hour(self.hours)
        rows: list[Sequence[Any]] = [(format_hour(hour), n) for hour, n in counts.items()]
        title = (
            f"{self.title} version {self.view.version}: {sum(counts.values()):,} rows in "
            f"{len(counts):,} hours"
        )
        if self.hours is None:
            title += f", {self.view.files:,} files, {self.view.mib:,.1f} MiB"
        return Shown(title, ("hour", "rows"), rows)
