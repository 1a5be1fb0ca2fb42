"""Files of periods: what their footers tell, and their rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from streamkeeper.errors import LakeDisagreement
from streamkeeper.periods import PERIOD_KEY, Covered
from streamkeeper_io.closed import column_mark
from streamkeeper_io.lake import ARROW_THREADS, arrow_filesystem, unavailable


def read_covered(lake: str, path: str) -> Covered | None:
    """Return what a period's file covers; None when the file is missing.

    Raises LakeDisagreement when no analysis wrote it, LakeUnavailable.
    """
    try:
        with arrow_filesystem(lake).open_input_file(path) as file:
            return _covered(pq.read_metadata(file), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(lake, error) from error


def read_period_rows(lake: str, path: str) -> tuple[Covered, pa.Table] | None:
    """Return what a period's file covers and its rows, of one analysis; None when it is missing.

    Raises LakeDisagreement, LakeUnavailable.
    """
    try:
        # One open file stays what it is, even when another is moved over it meanwhile.
        with arrow_filesystem(lake).open_input_file(path) as file:
            parquet = pq.ParquetFile(file)
            return _covered(parquet.metadata, path), parquet.read(use_threads=ARROW_THREADS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(lake, error) from error


def _covered(metadata: pq.FileMetaData, path: str) -> Covered:
    told = column_mark(metadata, PERIOD_KEY)
    if told is None:
        raise LakeDisagreement(
            f"{path} does not tell what it covers, so no analysis has written it; move it away and "
            "run the analysis again"
        )
    return Covered.model_validate_json(told)
