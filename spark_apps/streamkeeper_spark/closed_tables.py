"""KPIs and anomalies of closed hours in Delta tables: each hour's rows are those of a revision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from streamkeeper.errors import LakeDisagreement
from streamkeeper.hours import Revision
from streamkeeper.names import closed_file, kpi_zone
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_io.closed import read_again
from streamkeeper_io.delta_hours import HourRows, HourTable

_AT_ONCE = 8
# One commit each: data files and the log cost about a second on HDFS, however few rows they have.
_HOURS_A_COMMIT = 200


@dataclass(frozen=True)
class ClosedTables:
    """Writes hours that are visible in the lake into the tables of the stream's sinks.

    Parameters: spec; lake, the address of files and tables.
    """

    spec: Spec
    lake: str

    def write(self, revisions: Sequence[Revision]) -> int:
        """Put the rows of each revision into the place of what its hour had before.

        Parameters: revisions, with their files moved. One that a later revision has followed, in
        the lake or in a table, changes nothing there.
        Returns how many rows were written. Raises LakeUnavailable, TableDiffers, LakeDisagreement;
        repeating is harmless.
        """
        written = 0
        for sink in self.spec.delta_tables().values():
            if sink.of_hours:
                written += self._write(sink, revisions)
        return written

    def _write(self, sink: DeltaSink, revisions: Sequence[Revision]) -> int:
        held = [r for r in revisions if kpi_zone(sink.of) in r.files]
        table, written = HourTable(self.lake, self.spec, sink), 0
        for first in range(0, len(held), _HOURS_A_COMMIT):
            some = held[first : first + _HOURS_A_COMMIT]
            written += table.replace(list(self._rows(sink, some)))
        return written

    def _rows(self, sink: DeltaSink, revisions: Iterable[Revision]) -> Iterator[HourRows]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for revision, rows in pool.map(lambda r: (r, self._visible(sink, r)), revisions):
                if rows is not None:
                    yield HourRows(revision.hour, revision.revision, rows)

    def _visible(self, sink: DeltaSink, revision: Revision) -> pa.Table | None:
        """Return the rows of a revision; None if those of a later one have taken their place.

        The close that moved these writes them before it ends, or its next one does.
        """
        path = closed_file(self.spec, kpi_zone(sink.of), revision.hour)
        found = read_again(self.lake, path)
        if found is None or found[0].revision < revision.revision:
            there = f"at revision {found[0].revision}" if found else "missing"
            raise LakeDisagreement(
                f"{self.spec.name}: {path} is {there}, committed is revision {revision.revision}; "
                "restore the file from a backup"
            )
        return found[1] if found[0].revision == revision.revision else None
