"""Counts what has landed of each file, by the offsets that the ledger keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamkeeper import names
from streamkeeper.files import FileEntry
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_io.zones import LakeView

_ALL = 2**62


class Landed(NamedTuple):
    """How many records of a file have landed as valid rows, and how many in quarantine."""

    valid: int
    quarantined: int


def landed_by_file(
    settings: Settings, spec: Spec, entries: Iterable[FileEntry]
) -> tuple[dict[str, Landed], int]:
    """Return what has landed of each file's last reading, and how many batches lack their files.

    A record that was read again after a rewind counts once, as it landed last. What others sent
    between a file's records counts with it.

    Raises LakeUnavailable.
    """
    view = LakeView(settings, spec)
    places = _places(view)
    found = {}
    for entry in entries:
        offsets, valid = places.get((entry.topic_id, entry.partition), (_NONE, _NONE))
        if entry.first_offset is None or entry.last_offset is None:
            found[entry.path] = Landed(0, 0)
            continue
        begin, end = np.searchsorted(offsets, [entry.first_offset, entry.last_offset + 1])
        count = int(valid[begin:end].sum())
        found[entry.path] = Landed(count, int(end - begin) - count)
    return found, len(view.without_files)


_NONE: NDArray[np.int64] = np.array([], np.int64)
_COLUMNS = [*names.COORDINATES, names.ERRORS]


def _places(
    view: LakeView,
) -> dict[tuple[str, int | None], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the landed offsets in their order by topic id and partition, and which are valid."""
    rows = view.rows_of(view.backwards("raw"), "raw", _ALL, _COLUMNS, _slim)
    if rows is None:
        return {}
    made = {}
    for topic in pc.unique(rows[names.TOPIC_ID]).to_pylist():
        of_topic = rows.filter(pc.equal(rows[names.TOPIC_ID], topic))
        for partition in pc.unique(of_topic[names.PARTITION]).to_pylist():
            own = of_topic.filter(pc.equal(of_topic[names.PARTITION], partition))
            # The newest batch comes last; seen from behind, its row is the first of an offset.
            offsets = own[names.OFFSET].to_numpy()[::-1]
            valid = own["valid"].to_numpy()[::-1]
            kept, first = np.unique(offsets, return_index=True)
            made[topic, partition] = kept, valid[first].astype(np.int64)
    return made


def _slim(rows: pa.Table) -> pa.Table:
    """Keep of each row where it stood and whether it is valid."""
    return rows.select(names.COORDINATES).append_column("valid", pc.is_null(rows[names.ERRORS]))
