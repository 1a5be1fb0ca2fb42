"""What `show` tells of each zone: rows, columns, counts, and why there are none."""

from __future__ import annotations

import argparse
import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamkeeper.errors import StreamkeeperError
from streamkeeper.names import CURATED, ERRORS, VALUE, format_hour, kpi_zone
from streamkeeper.settings import Settings
from streamkeeper.showing import HourRange, meant_zone, why_not_closed
from streamkeeper.spec.models import Spec
from streamkeeper_apps.show_tables import Shown

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkeeper_io.zones import LakeView

_LAST_HOURS = 6
_WAIT_S = 3.0


def asked(settings: Settings, spec: Spec, options: argparse.Namespace) -> list[Shown]:
    """Return what was asked for.

    Raises StreamkeeperError for a name that the stream does not declare or that is of another zone,
    LakeUnavailable, KafkaUnavailable.
    """
    zone = meant_zone(options.zone, options.kpi, options.window, options.table)
    if zone == "topic":
        return [_of_topic(settings, spec, options)]
    if zone == "delta":
        from streamkeeper_apps import show_delta

        return show_delta.asked(settings, spec, options)
    parts = _parts(spec, zone, options)
    from streamkeeper_io.lake import reach_lake
    from streamkeeper_io.zones import LakeView

    reach_lake(settings.need("lake"), _WAIT_S)
    zones = Zones(LakeView(settings, spec), options.hours, options.limit)
    if options.count:
        return [zones.count(zone, part) for part in parts]
    if options.schema:
        return [zones.schema(zone, part) for part in parts]
    return [zones.rows(zone, part) for part in parts]


def _of_topic(settings: Settings, spec: Spec, options: argparse.Namespace) -> Shown:
    from streamkeeper_apps import show_topic

    if options.schema:
        return show_topic.topic_schema(spec)
    if options.count:
        return show_topic.topic_counts(settings, spec, options.hours)
    return show_topic.topic_messages(settings, spec, options.limit, options.hours)


def _parts(spec: Spec, zone: str, options: argparse.Namespace) -> list[str]:
    """Return the names of the KPIs or windows that are meant; one empty name for other zones."""
    if zone not in ("kpis", "windows"):
        return [""]
    kind, wanted = ("KPI", options.kpi) if zone == "kpis" else ("window", options.window)
    names = list(spec.analytics()) if kind == "KPI" else [w.name for w in spec.windows]
    if not names:
        raise StreamkeeperError(f"{spec.name} declares no {kind}")
    if wanted is not None and wanted not in names:
        nearest = difflib.get_close_matches(wanted, names, n=1)
        text = f"{spec.name} declares no {kind} {wanted!r}; declared: {', '.join(names)}"
        raise StreamkeeperError(text + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
    if wanted is None and len(names) > 1 and options.format != "table":
        raise StreamkeeperError(
            f"{options.format} has room for one table: add --{kind.lower()} with one of "
            f"{', '.join(names)}"
        )
    return [wanted] if wanted else names


@dataclass(frozen=True)
class Zones:
    """A stream's zones in the lake.

    Parameters: view, what the stream holds; hours, only these; limit, so many rows at most.
    """

    view: LakeView
    hours: HourRange | None
    limit: int

    def rows(self, zone: str, part: str) -> Shown:
        """Return rows of a zone; part, the KPI or window."""
        if zone == "curated":
            return self._closed(CURATED, "curated")
        if zone == "kpis":
            return self._closed(kpi_zone(part), part)
        title, found = self._landed(zone, part)
        lacking = self._without_files(zone, part)
        if found is None:
            return Shown(title, self._columns(zone), (), note=self._nothing() + lacking)
        return shown_table(title + lacking, found)

    def _without_files(self, zone: str, part: str) -> str:
        """Tell how many of the batches that were looked into lack a file."""
        folder = self.view.folder(f"windows/{part}" if zone == "windows" else "raw")
        batches = [b for b in self.view.without_files if b.startswith(f"{folder}/")]
        return f"; {len(batches):,} batches without their files" if batches else ""

    def _columns(self, zone: str) -> Sequence[str]:
        """Return the columns of a zone without rows, as a program expects them; none if unsure."""
        if zone == "quarantine":
            from streamkeeper_io.zones import QUARANTINE_COLUMNS

            return QUARANTINE_COLUMNS
        return self.view.columns() if zone in ("rows", "raw") else ()

    def _landed(self, zone: str, part: str) -> tuple[str, pa.Table | None]:
        view, limit, hours = self.view, self.limit, self.hours
        of = f" {hours}" if hours else ""
        if zone == "raw":
            return f"{self._name} raw{of}: the rows that landed last", view.landed(limit, hours)
        if zone == "quarantine":
            title = f"{self._name} quarantine{', arrived in' if hours else ''}{of}"
            return f"{title}: the last records", view.quarantined(limit, hours)
        if zone == "windows":
            title = f"{self._name} {part}{of}: live windows, newest first"
            return title, view.live_windows(part, limit, hours)
        from streamkeeper_io.rows_once import RowsOnce

        return f"{self._name}{of}: the last rows", RowsOnce(view).newest(limit, hours)

    def schema(self, zone: str, part: str) -> Shown:
        """Return the columns of a zone with their types, as its newest file has them."""
        one = Zones(self.view, self.hours, 1)
        if zone in ("curated", "kpis"):
            where = CURATED if zone == "curated" else kpi_zone(part)
            hour = max(one.closed_hours(where), default=None)
            closed = None if hour is None else self.view.closed(where, hour, 1)
            if hour is None or closed is None:
                return self._not_there(where, part or zone)
            title, found = f"{self._name} {part or zone} {format_hour(hour)}", closed[1]
        else:
            title, landed = one._landed(zone, part)
            if landed is None:
                return Shown(title, (), (), note=self._nothing())
            title, found = title.partition(":")[0], landed
        rows = [(field.name, str(field.type)) for field in found.schema]
        return Shown(f"{title}: columns", ("column", "type"), rows)

    # Closed hours
    def closed_hours(self, zone: str) -> list[datetime]:
        """Return the closed hours of a zone that are meant."""
        return [h for h in self.view.closed_hours(zone) if self.hours is None or h in self.hours]

    def _closed(self, zone: str, what: str) -> Shown:
        hours = self.closed_hours(zone)
        if self.hours is None:
            hours = hours[-1:]
        found, told, lacking = [], [], self.limit
        for hour in hours:
            closed = self.view.closed(zone, hour, lacking) if lacking > 0 else None
            if closed is None:
                continue
            footer, rows = closed
            told.append(f"{format_hour(hour)}, revision {footer.revision}, {footer.rows:,} rows")
            found.append(_with_hour(hour, rows) if self._several(zone) else rows)
            lacking -= rows.num_rows
        if not told:
            return self._not_there(zone, what)
        from streamkeeper_io.tables import put_together

        more = f" (and {len(hours) - len(told)} more hours)" if len(hours) > len(told) else ""
        if self.hours and len(hours) < len(self.hours.hours):
            more += f"; {len(hours)} of these {len(self.hours.hours)} hours are closed"
        shown = "; ".join(told) if len(told) < 4 else f"{told[0]}; ...; {told[-1]}"
        return shown_table(f"{self._name} {what} {shown}{more}", put_together(found))

    def _several(self, zone: str) -> bool:
        return zone != CURATED and self.hours is not None and len(self.hours.hours) > 1

    def _not_there(self, zone: str, what: str) -> Shown:
        """Tell why a zone has no file of the hours, and where their rows are."""
        closed = self.view.closed_hours(zone)
        if self.hours is None:
            return Shown(f"{self._name} {what}", (), (), note=f"no hour is closed{self._open()}")
        single = self.hours.first if len(self.hours.hours) == 1 else None
        last = ", ".join(map(format_hour, closed[-_LAST_HOURS:])) or "none"
        note = f"no hour of these is closed (last closed: {last})"
        if single is not None:
            grace, now = self.view.spec.hours.grace, datetime.now(UTC)
            revision = self.view.revision(single)
            if revision is not None and zone not in revision.files:
                note = f"closed at revision {revision.revision}, {revision.state}, without rows"
            else:
                why = why_not_closed(single, now, grace, self._name)
                note = f"{why} (last closed: {last})"
        return Shown(f"{self._name} {what} {self.hours}", (), (), note=note + self._open())

    def _open(self) -> str:
        """Tell how many rows of the hours have landed, and how to see them."""
        found = self.view.landed_by_hour()
        rows = sum(n for hour, n in found.items() if self.hours is None or hour in self.hours)
        if not rows:
            return "; nothing of it has landed" if self.hours else "; nothing has landed yet"
        see = f"streamkeeper show {self._name}" + (f" --hour {self.hours}" if self.hours else "")
        return f"; {rows:,} rows have landed: {see}"

    def _nothing(self) -> str:
        """Tell that there are no rows, and whether anything has landed at all."""
        from streamkeeper_io.lake import published_batches

        if published_batches(self.view.lake, self.view.folder("raw")):
            return "no rows"
        return (
            f"nothing has landed yet below {self.view.folder('raw')}; "
            f"`streamkeeper stream status {self._name}` tells whether its driver runs"
        )

    # Counts
    def count(self, zone: str, part: str) -> Shown:
        """Return the counts of a zone; part, the KPI or window."""
        if zone == "quarantine":
            return self._count_quarantine()
        if zone == "raw":
            return self._count_raw()
        if zone == "windows":
            found = self.view.landed_by_hour(f"windows/{part}")
            rows = [(format_hour(h), n) for h, n in found.items() if self._meant(h)]
            title = f"{self._name} {part}: {sum(n for _, n in rows):,} rows written"
            return Shown(title, ("hour", "rows"), rows, note=self._nothing_if(rows))
        if zone == "rows":
            return self._count_rows()
        where = CURATED if zone == "curated" else kpi_zone(part)
        chosen = {h: c for h, c in self.view.closed_counts(where).items() if self._meant(h)}
        if not chosen:
            return self._not_there(where, part or zone)
        lines = [(format_hour(h), c.rows, c.revision, _state(c.state)) for h, c in chosen.items()]
        total = sum(count.rows for count in chosen.values())
        title = f"{self._name} {part or zone}: {total:,} rows in {len(chosen)} hours"
        return Shown(title, ("hour", "rows", "revision", "state"), lines)

    def _count_raw(self) -> Shown:
        manifests = self.view.manifests("raw", self.hours)
        hours: dict[datetime, int] = {}
        for manifest in manifests:
            for hour, n in manifest.hours.items():
                if self._meant(hour):
                    hours[hour] = hours.get(hour, 0) + n
        rows = [(format_hour(hour), n) for hour, n in sorted(hours.items())]
        title = f"{self._name} raw: {sum(hours.values()):,} valid rows"
        if self.hours is None:
            # A record that failed a check has no sure event hour.
            title += f", {sum(m.quarantined for m in manifests):,} quarantined records"
            title += f", in {len(manifests):,} batches"
            corrected = Counter[str]()
            for manifest in manifests:
                corrected.update(manifest.corrected_by_kind)
            told = ", ".join(f"{kind} {n:,}" for kind, n in sorted(corrected.items()))
            title += f"; corrected: {told}" if told else ""
        return Shown(title, ("hour", "valid"), rows, note=self._nothing_if(rows))

    def _count_quarantine(self) -> Shown:
        if self.hours is not None:
            raise StreamkeeperError(
                "quarantined records are counted by rule, for they have no sure event hour; leave "
                "out --hour, or show them: --zone quarantine --hour ..."
            )
        total, rules = self.view.quarantined_by_rule()
        title = f"{self._name} quarantine: {total:,} records"
        return Shown(title, ("rule", "records"), list(rules.items()), note="none of any rule")

    def _count_rows(self) -> Shown:
        from streamkeeper_io.rows_once import RowsOnce

        found = {h: c for h, c in RowsOnce(self.view).counts().items() if self._meant(h)}
        rows: list[Sequence[Any]] = []
        for hour, (closed, since) in found.items():
            merged, number, state = (
                (closed.rows, closed.revision, _state(closed.state))
                if closed
                else (0, None, "not closed")
            )
            rows.append((format_hour(hour), merged + since, merged, since, number, state))
        title = f"{self._name}: {sum(row[1] for row in rows):,} rows in {len(rows)} hours"
        columns = ("hour", "rows", "closed", "landed since", "revision", "state")
        return Shown(title, columns, rows, note=self._nothing_if(rows))

    def _nothing_if(self, rows: Sequence[Any]) -> str:
        return "" if rows else self._nothing()

    def _meant(self, hour: datetime) -> bool:
        return self.hours is None or hour in self.hours

    @property
    def _name(self) -> str:
        return self.view.spec.name


def _state(state: str | None) -> str:
    return state or "not told"


def _with_hour(hour: datetime, rows: pa.Table) -> pa.Table:
    import pyarrow as pa

    return rows.add_column(0, "hour", pa.array([format_hour(hour)] * rows.num_rows, pa.string()))


def shown_table(title: str, rows: pa.Table) -> Shown:
    """Return Arrow's rows as a table to show."""
    from streamkeeper_io.tables import python_rows

    return Shown(title, rows.column_names, list(python_rows(rows)), frozenset({ERRORS, VALUE}))
