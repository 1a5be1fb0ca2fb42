"""Reading the lake without a JVM: hdfs-native below pyarrow."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from hdfs_native import Client
from hdfs_native.fsspec import HdfsFileSystem

from streamkeeper.errors import LakeUnavailable
from streamkeeper.manifest import Manifest
from streamkeeper.names import MANIFEST_FILE, BatchName, parse_batch_folder
from streamkeeper.settings import Settings

_LISTING_PAGE = 1000
# Arrow's pool lets go of a Python file after the read has returned. In a process that ends just
# then it aborts it: "terminate called without an active exception" (apache/arrow issue 33975).
ARROW_THREADS = False


_options: dict[str, dict[str, str]] = {}


def use_lake(settings: Settings) -> str:
    """Return the lake's address; its clients in this process are given the settings' options.

    SettingsError when no address is set.
    """
    lake = settings.need("lake")
    if settings.lake_options != _options.get(lake, {}):
        _options[lake] = settings.lake_options
        arrow_filesystem.cache_clear()
        hdfs_client.cache_clear()
    return lake


def lake_options(lake: str) -> dict[str, str]:
    """Return the options that a lake's clients in this process are given."""
    return dict(_options.get(lake, {}))


@lru_cache(maxsize=8)
def arrow_filesystem(lake: str) -> pafs.FileSystem:
    """Return the lake as pyarrow's file system; paths in it are absolute, without scheme.

    Parameters: lake, `hdfs://host:port`, or `file:///` for tests without servers.
    """
    parts = urlsplit(lake)
    if parts.scheme == "file":
        return pafs.LocalFileSystem()
    filesystem = HdfsFileSystem(parts.hostname, parts.port, **_options.get(lake, {}))
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))


@lru_cache(maxsize=8)
def hdfs_client(lake: str) -> Client:
    """Return hdfs-native's own client, whose renames refuse an existing target."""
    return Client(lake, _options.get(lake, {}))


def unavailable(lake: str, error: Exception) -> LakeUnavailable:
    """Return the error for a lake that does not answer, with the next step."""
    return LakeUnavailable(
        f"the lake at {lake} does not answer: {error}; start HDFS (`make up`) or correct the "
        "connection webhdfs_default (STREAMKEEPER_LAKE)"
    )


def reach_lake(lake: str, timeout_s: float) -> None:
    """Return once the NameNode's port takes a connection.

    hdfs-native goes on trying for minutes; whoever waits for an answer asks this first. A name of
    several NameNodes, which has no port, is left to hdfs-native.

    Parameters: lake, its address. Raises LakeUnavailable.
    """
    parts = urlsplit(lake)
    if parts.scheme == "file" or parts.hostname is None or parts.port is None:
        return
    try:
        socket.create_connection((parts.hostname, parts.port), timeout_s).close()
    except OSError as error:
        raise unavailable(lake, error) from error


def folder_names(lake: str, folder: str) -> list[str]:
    """Return the sorted names in a folder; none if it is missing.

    Raises LakeUnavailable.
    """
    selector = pafs.FileSelector(folder, allow_not_found=True)
    filesystem = arrow_filesystem(lake)
    try:
        try:
            found = filesystem.get_file_info(selector)
        except NotADirectoryError:
            # It was made between pyarrow's two questions: is it a folder, and is it there at all.
            found = filesystem.get_file_info(selector)
    except OSError as error:
        raise unavailable(lake, error) from error
    return sorted(info.base_name for info in found)


def published_batches(lake: str, zone_folder: str) -> list[BatchName]:
    """Return the published batches of a zone's folder, sorted by generation id and batch.

    With a batch, every batch of its generation that was published before it is returned too.
    """
    found = _batches_in(lake, zone_folder)
    # The NameNode lists a large folder in pages; a batch published meanwhile may sort into a page
    # that was read already, and a later one into a page that was not.
    return found if len(found) < _LISTING_PAGE else settled(found, _batches_in(lake, zone_folder))


def settled(first: list[BatchName], second: list[BatchName]) -> list[BatchName]:
    """Return the batches of which no earlier one can be missing.

    Parameters: first and second, two listings of one folder, in their order of time. What the
    first one saw was published before the second began, and so was all that came before it.
    """
    ends: dict[str, int] = {}
    for name in first:
        ends[name.generation] = max(name.batch, ends.get(name.generation, name.batch))
    return sorted(name for name in second if name.batch <= ends.get(name.generation, -1))


def _batches_in(lake: str, zone_folder: str) -> list[BatchName]:
    names = [parse_batch_folder(name) for name in folder_names(lake, zone_folder)]
    return sorted(name for name in names if name is not None)


def read_text(lake: str, path: str) -> str:
    """Return a small text file; FileNotFoundError if it is missing, LakeUnavailable."""
    try:
        with arrow_filesystem(lake).open_input_stream(path) as stream:
            return bytes(stream.read()).decode()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unavailable(lake, error) from error


def read_manifest(lake: str, zone_folder: str, batch: BatchName) -> Manifest:
    """Return the manifest of a published batch."""
    text = read_text(lake, f"{zone_folder}/{batch.folder}/{MANIFEST_FILE}")
    return Manifest.model_validate_json(text)


def read_rows(lake: str, paths: list[str], columns: list[str] | None = None) -> list[pa.Table]:
    """Return the rows of Parquet files, one table a file.

    Parameters: columns, only these; a column that a file lacks is left out.
    Raises LakeUnavailable, FileNotFoundError.
    """
    filesystem = arrow_filesystem(lake)
    try:
        return [_read(filesystem, path, columns) for path in paths]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unavailable(lake, error) from error


def _read(filesystem: pafs.FileSystem, path: str, columns: list[str] | None) -> pa.Table:
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        return file.read(columns=columns_there(file, columns), use_threads=ARROW_THREADS)


def columns_there(file: pq.ParquetFile, columns: Sequence[str] | None) -> list[str] | None:
    """Return those of some columns that a file has; None, which is all, for None."""
    return None if columns is None else [c for c in columns if c in file.schema_arrow.names]


def with_columns(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return these columns; one that the declaration had not yet when the rows landed is null."""
    for name in columns:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(rows.num_rows))
    return rows.select(list(columns))


def read_last(
    lake: str,
    path: str,
    columns: list[str] | None,
    keep: Callable[[pa.Table], pa.Table],
    limit: int,
) -> pa.Table | None:
    """Return the last rows of a Parquet file that are kept, reading no more of it than needed.

    Parameters: columns, only these, None for all; one that the file lacks is left out; keep,
    filters rows. None when no row is kept. Raises LakeUnavailable, FileNotFoundError.
    """
    kept: list[pa.Table] = []
    try:
        with arrow_filesystem(lake).open_input_file(path) as source:
            file = pq.ParquetFile(source)
            wanted = columns_there(file, columns)
            for group in reversed(range(file.num_row_groups)):
                rows = file.read_row_group(group, columns=wanted, use_threads=ARROW_THREADS)
                kept.insert(0, keep(rows))
                if sum(rows.num_rows for rows in kept) >= limit:
                    break
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unavailable(lake, error) from error
    found = sum(rows.num_rows for rows in kept)
    return pa.concat_tables(kept).slice(max(0, found - limit)) if found else None
