"""Files of closed hours: their footers, and reads that see one revision of an hour."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamkeeper.errors import LakeDisagreement
from streamkeeper.hours import Revision
from streamkeeper.names import closed_file, format_hour
from streamkeeper.spec.models import Spec
from streamkeeper_io.lake import ARROW_THREADS, arrow_filesystem, columns_there, unavailable

REVISION_KEY = "streamkeeper.revision"
"""Where a file's revision stands: in its footer, in the metadata of its first column."""
_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"
_LONGEST_WAIT_S = 20.0


@dataclass(frozen=True)
class Footer:
    """What the footer of a closed hour's file tells."""

    revision: int
    rows: int


def read_footer(lake: str, path: str) -> Footer | None:
    """Return a file's footer; None when the file is missing.

    Raises LakeDisagreement when a close did not write it, LakeUnavailable.
    """
    try:
        with arrow_filesystem(lake).open_input_file(path) as file:
            return _footer(pq.read_metadata(file), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(lake, error) from error


def column_mark(metadata: pq.FileMetaData, key: str) -> Any:
    """Return what the metadata of a file's columns, as Spark writes them, hold under a key."""
    schema = json.loads((metadata.metadata or {}).get(_SPARK_SCHEMA, b"{}"))
    found = (f["metadata"] for f in schema.get("fields", ()))
    return next((marks[key] for marks in found if key in marks), None)


def _footer(metadata: pq.FileMetaData, path: str) -> Footer:
    revision = column_mark(metadata, REVISION_KEY)
    if revision is not None:
        return Footer(revision, metadata.num_rows)
    raise LakeDisagreement(
        f"{path} carries no revision in its footer, so no close has written it; move it away and "
        "close the hour again"
    )


def read_closed(
    lake: str, path: str, columns: Sequence[str] | None = None
) -> tuple[Footer, pa.Table] | None:
    """Return a file's footer and rows, both of one revision; None when the file is missing.

    Parameters: columns, only these.
    Raises LakeDisagreement, LakeUnavailable.
    """
    try:
        # One open file stays one revision, even when another is moved over it meanwhile.
        with arrow_filesystem(lake).open_input_file(path) as file:
            parquet = pq.ParquetFile(file)
            wanted = columns_there(parquet, columns)
            rows = parquet.read(columns=wanted, use_threads=ARROW_THREADS)
            return _footer(parquet.metadata, path), rows
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(lake, error) from error


def read_head(lake: str, path: str, limit: int) -> tuple[Footer, pa.Table] | None:
    """Return a file's footer and its first rows, both of one revision; None when it is missing.

    Raises LakeDisagreement, LakeUnavailable.
    """
    try:
        with arrow_filesystem(lake).open_input_file(path) as file:
            parquet = pq.ParquetFile(file)
            first, lacking = [], limit
            # A batch ends with its row group, so the first one may have fewer rows.
            for batch in parquet.iter_batches(batch_size=limit, use_threads=ARROW_THREADS):
                first.append(batch.slice(0, lacking))
                lacking -= batch.num_rows
                if lacking <= 0:
                    break
            rows = pa.Table.from_batches(first, parquet.schema_arrow)
            return _footer(parquet.metadata, path), rows
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(lake, error) from error


def read_hour(
    lake: str,
    spec: Spec,
    latest: Callable[[], Revision],
    zones: Mapping[str, Sequence[str] | None],
) -> tuple[Revision, dict[str, pa.Table]]:
    """Return an hour's last revision and rows of its zones, all of that revision.

    A close moves files one by one; rows of another revision than the store's are read again.

    Parameters: latest, asks for the hour's last revision; zones, `curated` or a KPI's zone, with
    the columns to read, None for all. A zone without rows in that revision is left out.
    Raises LakeDisagreement when the revisions do not meet within 20 s: a close died before it had
    moved its files, and nobody has closed the hour again.
    """
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while True:
        revision = latest()
        seen: dict[str, int | None] = {}
        tables = {}
        for zone, columns in zones.items():
            if not revision.files.get(zone):
                continue
            found = read_again(lake, closed_file(spec, zone, revision.hour), columns)
            seen[zone] = found[0].revision if found else None
            if found:
                tables[zone] = found[1]
        if all(number == revision.revision for number in seen.values()):
            return revision, tables
        if time.monotonic() > deadline:
            raise _do_not_meet(spec, revision.hour, revision.revision, seen)
        time.sleep(0.2)


def read_again(
    lake: str, path: str, columns: Sequence[str] | None = None
) -> tuple[Footer, pa.Table] | None:
    """Return the same as `read_closed`, also while a close moves another file over this one."""
    try:
        return read_closed(lake, path, columns)
    except Exception:
        # The blocks of a file that another was moved over are soon gone; the new one can be read.
        return read_closed(lake, path, columns)


def _do_not_meet(
    spec: Spec, hour: datetime, revision: int, seen: Mapping[str, int | None]
) -> LakeDisagreement:
    found = ", ".join(f"{zone}: {n or 'no file'}" for zone, n in seen.items())
    return LakeDisagreement(
        f"{spec.name} {format_hour(hour)} is at revision {revision} in the store, but its files "
        f"are not ({found}); close the hour again, which finishes the moves"
    )
