"""Builds the report of a closed hour from the lake: mail, Markdown file and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hdfs_native import WriteOptions

from streamkeeper.hours import Revision
from streamkeeper.names import (
    CURATED,
    EVENT_TIME,
    alert_zone,
    format_hour,
    hour_folder,
    kpi_zone,
    report_path,
)
from streamkeeper.report_text import markdown, subject
from streamkeeper.reports import (
    COUNT_COLUMN,
    WORST_SHOWN,
    Broken,
    HourReport,
    broken_by_readings,
    hour_report,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Alert, Spec
from streamkeeper.texts import Language
from streamkeeper_io.closed import read_hour
from streamkeeper_io.lake import hdfs_client, unavailable, use_lake
from streamkeeper_io.report_html import mail_html
from streamkeeper_io.report_picture import course_columns, course_window, draw_hour
from streamkeeper_io.store import Store

REPORT_FILE = "report.md"


@dataclass(frozen=True)
class BuiltReport:
    """A report ready to be mailed.

    `html` names its pictures as `cid:<file name>`; `pictures` holds them as PNG by file name;
    `revision` is the one that it tells, the hour's last.
    """

    subject: str
    markdown: str
    html: str
    pictures: dict[str, bytes]
    revision: Revision


def build_report(settings: Settings, store: Store, spec: Spec, revision: Revision) -> BuiltReport:
    """Build the report of an hour and keep its Markdown and picture in the lake.

    Parameters: revision, of the hour to tell; if a later one is committed, that one is told.
    Raises LakeDisagreement, LakeUnavailable, StoreUnavailable.
    """
    lake, hour = use_lake(settings), revision.hour
    zones: dict[str, Sequence[str] | None] = {kpi_zone(n): None for n in spec.analytics()}
    zones |= {alert_zone(alert.name): None for alert in spec.alerts if alert.where is not None}
    zones[CURATED] = _curated_columns(spec)
    told, tables = read_hour(lake, spec, lambda: store.revision(spec.name, hour) or revision, zones)
    curated = tables.get(CURATED)
    kpis = {n: _rows(tables.get(kpi_zone(n))) for n in spec.analytics()}
    broken = [] if curated is None else broken_conditions(spec, curated, tables)
    report = hour_report(spec, told, kpis, broken)
    built = render(spec, report, kpis, curated, told)
    _keep(lake, spec, built)
    return built


def render(
    spec: Spec,
    report: HourReport,
    kpis: Mapping[str, Sequence[Mapping[str, Any]]],
    curated: pa.Table | None,
    revision: Revision,
) -> BuiltReport:
    """Draw the picture and write the texts of a report."""
    name = f"{spec.name}-{format_hour(report.hour)}.png"
    png = draw_hour(spec, report.hour, kpis, curated)
    text = markdown(report, name if png else None)
    language = Language(report.language)
    html = mail_html(
        text,
        subject=subject(report),
        footer=language.text("footer", stream=spec.name),
        language=language.name,
        alarm=bool(report.broken),
    )
    return BuiltReport(subject(report), text, html, {name: png} if png else {}, revision)


def _curated_columns(spec: Spec) -> list[str]:
    columns: list[str] = []
    if any(alert.field for alert in spec.alerts):
        columns += spec.columns()
    window = course_window(spec)
    if window:
        columns += course_columns(window)
    return list(dict.fromkeys((EVENT_TIME, *columns)))


def _rows(table: pa.Table | None) -> list[dict[str, Any]]:
    return [] if table is None else table.to_pylist()


def broken_conditions(
    spec: Spec, curated: pa.Table, tables: Mapping[str, pa.Table]
) -> list[Broken]:
    """Return the conditions that readings of an hour broke.

    Parameters: curated, the hour's rows; tables, the rows of alerts with a `where`, by their zone.
    """
    found = []
    for alert in spec.alerts:
        if alert.where is not None:
            rows = _rows(tables.get(alert_zone(alert.name)))
            found.append(broken_by_readings(spec, alert, *_counted(rows)))
        elif alert.field is not None:
            found.append(broken_by_readings(spec, alert, *breaking_readings(spec, alert, curated)))
    return [broken for broken in found if broken is not None]


def _counted(rows: list[dict[str, Any]]) -> tuple[int, list[dict[str, Any]]]:
    """Return what an alert's zone tells: how many readings broke it, and the worst of them."""
    counts = [row.pop(COUNT_COLUMN) for row in rows]
    return max(counts, default=0), rows


def breaking_readings(
    spec: Spec, alert: Alert, curated: pa.Table
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many readings broke a condition on a field, and the worst of them.

    Among equal values the earliest comes first.
    """
    field = str(alert.field)
    if field not in curated.column_names:
        return 0, []
    over = alert.above is not None
    test = pc.greater if over else pc.less
    values = curated[field]
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    breaking = curated.filter(test(values, alert.above if over else alert.below))
    order = [(field, "descending" if over else "ascending"), (EVENT_TIME, "ascending")]
    worst = breaking.take(pc.select_k_unstable(breaking, WORST_SHOWN, order))
    shown = [name for name in spec.columns() if name in curated.column_names]
    return breaking.num_rows, worst.select(shown).to_pylist()


def _keep(lake: str, spec: Spec, built: BuiltReport) -> None:
    """Write the report's files into the lake, each in one step, the text last."""
    folder = f"{report_path(spec)}/{hour_folder(built.revision.hour)}"
    contents = {**built.pictures, REPORT_FILE: built.markdown.encode()}
    client = hdfs_client(lake)
    try:
        client.mkdirs(folder, create_parent=True)
        for name, content in contents.items():
            aside = f"{folder}/_{built.revision.revision}-{name}"
            with client.create(aside, WriteOptions(overwrite=True)) as file:
                file.write(content)
            client.rename(aside, f"{folder}/{name}", overwrite=True)
    except OSError as error:
        raise unavailable(lake, error) from error
