"""Delta tables of KPIs and anomalies: the rows of an hour are those of its last revision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from streamkeeper.hourly_tables import table_types
from streamkeeper.names import delta_hour_app_id
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import HOUR_COLUMN, REVISION_COLUMN, DeltaSink
from streamkeeper_io.delta import DeltaMark, DeltaShape, DeltaWriter, HourChange, replace_hours
from streamkeeper_io.delta_sinks import arrow_type
from streamkeeper_io.tables import instant_scalar


class HourRows(NamedTuple):
    """The rows of one revision of an hour."""

    hour: datetime
    revision: int
    rows: pa.Table


def hour_shape(spec: Spec, sink: DeltaSink) -> DeltaShape:
    """Return the table of a KPI or of anomalies: the hour, its columns, the revision."""
    columns = {HOUR_COLUMN: arrow_type("timestamp")}
    columns |= {name: arrow_type(kind) for name, kind in table_types(spec, sink.of).items()}
    columns |= {REVISION_COLUMN: pa.int64()}
    own = (HOUR_COLUMN, REVISION_COLUMN)
    anew = "hours that are closed from then on"
    return DeltaShape(pa.schema(list(columns.items())), sink.partition_by, own, anew)


class HourTable:
    """One table, which is made when it is missing.

    Parameters: lake, its address; spec; sink, of a KPI or of anomalies.
    """

    def __init__(self, lake: str, spec: Spec, sink: DeltaSink) -> None:
        self._stream, self._of = spec.name, sink.of
        about = f"{sink.of} of the closed hours of the stream {spec.name}"
        self._writer = DeltaWriter(lake, sink.path, hour_shape(spec, sink), about)

    def replace(self, hours: Sequence[HourRows]) -> int:
        """Put the rows of hours into the place of those that they had, all in one commit.

        An hour of which the table has this revision, or a later one, stays as it is: the log keeps
        the revision of each hour as the version of an application of its own.

        Returns how many rows were written. Raises LakeUnavailable, TableDiffers.
        """
        changes = [HourChange(self._mark(one), one.hour, _told(one)) for one in hours]
        new = set(replace_hours(self._writer, HOUR_COLUMN, changes)) if changes else ()
        return sum(one.rows.num_rows for one in changes if one.mark in new)

    def _mark(self, one: HourRows) -> DeltaMark:
        return DeltaMark(delta_hour_app_id(self._stream, self._of, one.hour), one.revision)


def _told(one: HourRows) -> pa.Table:
    """Return the rows of an hour with the columns that tell it."""
    count = one.rows.num_rows
    hour = pa.repeat(instant_scalar(one.hour), count)
    revision = pa.repeat(pa.scalar(one.revision, pa.int64()), count)
    return one.rows.append_column(HOUR_COLUMN, hour).append_column(REVISION_COLUMN, revision)
