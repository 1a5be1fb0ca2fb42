"""Delta tables in the lake: opened, compared, written and committed without a JVM.

The log's commits are made by delta-rs, whose rename on HDFS refuses a version that is there. Data
files are written here; docs/decisions/0020 tells why.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from streamkeeper.errors import LakeUnavailable, TableDiffers
from streamkeeper.hours import HOUR
from streamkeeper_io.delta_files import DeltaFile, DeltaFiles
from streamkeeper_io.lake import lake_options, reach_lake, unavailable
from streamkeeper_io.tables import instant_scalar, within_instants

log = logging.getLogger(__name__)
_WAIT_S = 3.0
_TRIES = 10
_LONGEST = 400
# What data files of our own keep to. A table that asks for more would be written wrongly.
_FEATURES = frozenset({"appendOnly", "invariants"})
_READER, _WRITER, _BY_FEATURES = 1, 2, 7
_BOUND_BY_METADATA = ("delta.invariants", "delta.generationExpression")
# Some writers cut the bounds of times to milliseconds.
_CUT = pa.scalar(1000, pa.duration("us"))


class DeltaMark(NamedTuple):
    """What a commit is of: Delta's transaction identifier, whose version only goes up."""

    app_id: str
    version: int


class HourChange(NamedTuple):
    """The rows of one hour: all of them, as of a revision.

    mark: of an application of this hour, with the revision as its version.
    """

    mark: DeltaMark
    hour: datetime
    rows: pa.Table


class Plan(NamedTuple):
    """What a commit adds, and which files it takes away."""

    rows: Iterable[pa.Table]
    removed: Sequence[DeltaFile] = ()


@dataclass(frozen=True)
class DeltaShape:
    """The columns of a table and those that its files are parted by.

    `own`: columns that a table which others made does not have; without them it is not ours.
    `anew`: what is written into a table that is made anew.
    """

    columns: pa.Schema
    partition_by: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    anew: str = "all landed batches"


def open_delta(lake: str, path: str) -> DeltaTable | None:
    """Return a table at its last version; None if there is none.

    Raises LakeUnavailable, TableDiffers for one that is newer than what can be read.
    """
    reach_lake(lake, _WAIT_S)
    try:
        with _errors(lake, path):
            return DeltaTable(_url(lake, path), storage_options=lake_options(lake))
    except TableNotFoundError:
        return None


def delta_version(table: DeltaTable, app_id: str) -> int:
    """Return the version of the last commit of an application; -1 if there is none."""
    found = table.transaction_version(app_id)
    return -1 if found is None else int(found)


def live_files(table: DeltaTable) -> pa.Table:
    """Return the files of a table, a row each, with the bounds of their columns."""
    return pa.table(table.get_add_actions(flatten=True))


def chosen_files(table: DeltaTable, files: pa.Table) -> list[DeltaFile]:
    """Return rows of `live_files` as files."""
    partition = table.metadata().partition_columns
    values = [files[f"partition.{name}"].to_pylist() for name in partition]
    told = (files[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
    return [
        DeltaFile(path, {n: v[i] for n, v in zip(partition, values, strict=True)}, size, rows or 0)
        for i, (path, size, rows) in enumerate(zip(*told, strict=True))
    ]


def may_hold(files: pa.Table, column: str, first: Any, end: Any) -> pa.ChunkedArray:
    """Return which files may have values of a column from `first` up to, not including, `end`.

    A file without bounds may have any.
    """
    if f"min.{column}" not in files.column_names:
        return pa.chunked_array([pa.array([True] * files.num_rows)])
    least, most = files[f"min.{column}"], files[f"max.{column}"]
    if isinstance(first, datetime):
        begin, after = instant_scalar(first), instant_scalar(end)
        least, most = least.cast(begin.type), pc.add(most.cast(begin.type), _CUT)
    else:
        begin, after = pa.scalar(first), pa.scalar(end)
    inside = pc.and_(pc.less(least, after), pc.greater_equal(most, begin))
    return pc.fill_null(inside, True)


class DeltaWriter:
    """Writes into one table, which it makes when it is missing.

    Parameters: lake, its address; path, the table's folder; shape, as declared.
    """

    def __init__(self, lake: str, path: str, shape: DeltaShape, description: str = "") -> None:
        self._lake, self._path, self._shape = lake, path, shape
        self._description = description
        self.files = DeltaFiles(lake, path, shape.columns, shape.partition_by)

    def table(self) -> DeltaTable:
        """Return the table as it is, made if it was missing; raises as `write` does."""
        with _errors(self._lake, self._path):
            return self._opened()

    def write(self, mark: DeltaMark, plan: Callable[[DeltaTable], Plan]) -> bool:
        """Commit one change exactly once; tell whether it was not there.

        Parameters: mark, whose version is higher than that of each change before it; plan, tells
        what to write, given the table as it is. Raises LakeUnavailable, TableDiffers.
        """
        return bool(self.write_marks([mark], lambda table, _: plan(table)))

    def write_marks(
        self,
        marks: Sequence[DeltaMark],
        plan: Callable[[DeltaTable, Sequence[DeltaMark]], Plan],
    ) -> Sequence[DeltaMark]:
        """Commit changes together, each exactly once; return the marks of those not there yet.

        Another writer's commit in between makes the plan be asked for again: a version of the log
        is a compare-and-set.

        Parameters: marks, of an application each; plan, tells what to write of the changes that
        are not there yet, given the table as it is. Raises LakeUnavailable, TableDiffers.
        """
        reach_lake(self._lake, _WAIT_S)
        with _errors(self._lake, self._path):
            for _ in range(_TRIES):
                table = self._opened()
                new = [m for m in marks if m.version > delta_version(table, m.app_id)]
                if not new:
                    return []
                planned = plan(table, new)
                added = self.files.write(planned.rows)
                removed = [file.removal(data_change=True) for file in planned.removed]
                try:
                    self._commit(table, [*added, *removed], new)
                except CommitFailedError as error:
                    # The files stay: the commit may have gone through and its answer been lost.
                    log.info("%s: another writer was faster: %s", self._path, error)
                    continue
                return new
        raise LakeUnavailable(
            f"the Delta table {self._path} was changed by other writers {_TRIES} times in a row "
            "while a batch was written; it is tried again"
        )

    def _commit(
        self,
        table: DeltaTable,
        actions: list[AddAction | RemoveAction],
        marks: Sequence[DeltaMark],
    ) -> None:
        """Make the next version of the log, if nobody else has."""
        properties = CommitProperties(
            max_commit_retries=0, app_transactions=[Transaction(*mark) for mark in marks]
        )
        table.create_write_transaction(
            actions,
            "append",
            table.schema(),
            list(self._shape.partition_by),
            commit_properties=properties,
        )

    def _opened(self) -> DeltaTable:
        """Open the table anew each time: it may have been changed, or be another one."""
        table = open_delta(self._lake, self._path)
        table = self._made() if table is None else table
        self._fit(table)
        return table

    def _made(self) -> DeltaTable:
        try:
            DeltaTable.create(
                _url(self._lake, self._path),
                schema=Schema.from_arrow(self._shape.columns),
                partition_by=list(self._shape.partition_by),
                description=self._description or None,
                storage_options=lake_options(self._lake),
            )
        except DeltaError as error:
            log.info("%s: another writer made it: %s", self._path, error)
        found = open_delta(self._lake, self._path)
        if found is None:
            raise unavailable(self._lake, FileNotFoundError(f"{self._path}/_delta_log"))
        return found

    def _fit(self, table: DeltaTable) -> None:
        """Add the columns that were declared since; raise TableDiffers for other differences."""
        differences = list(self._differences(table))
        if differences:
            raise TableDiffers(
                f"the Delta table {self._path} is not as declared: {'; '.join(differences)}. It "
                "was left as it is: give the sink another `path`, or move the table away, and "
                f"{self._shape.anew} are written into a new one"
            )
        there = {field.name for field in table.schema().fields}
        lacking = [f for f in Schema.from_arrow(self._shape.columns).fields if f.name not in there]
        if lacking:
            told = ", ".join(f"{f.name} {type_name(f)}" for f in lacking)
            log.warning("%s: columns that were declared since are added: %s", self._path, told)
            table.alter.add_columns(lacking)
            table.update_incremental()

    def _differences(self, table: DeltaTable) -> Iterator[str]:
        yield from _beyond(table)
        there = {field.name: field for field in table.schema().fields}
        lacking = [name for name in self._shape.own if name not in there]
        if lacking:
            yield f"it lacks {', '.join(lacking)}, so another program made it"
        declared = {f.name: f for f in Schema.from_arrow(self._shape.columns).fields}
        for name, field in declared.items():
            if name in there and there[name].type != field.type:
                found, wanted = type_name(there[name]), type_name(field)
                yield f"the column {name} is {found}, declared is {wanted}"
        for name, field in there.items():
            if not field.nullable and name not in declared:
                yield f"the column {name} may not be null and is not declared"
            if any(key in field.metadata for key in _BOUND_BY_METADATA):
                yield f"the column {name} has an invariant or is generated"
        found_by = tuple(table.metadata().partition_columns)
        if found_by != self._shape.partition_by:
            yield f"it is partitioned by {_listed(found_by)}, declared is " + _listed(
                self._shape.partition_by
            )


def replace_hours(
    writer: DeltaWriter, column: str, changes: Sequence[HourChange]
) -> Sequence[DeltaMark]:
    """Put rows into the place of all rows of their hours, in one commit.

    Parameters: column, the timestamp column that tells the hour of a row.
    Returns the marks of the changes that were not there. Raises LakeUnavailable, TableDiffers.
    """
    by_mark = {change.mark: change for change in changes}

    def plan(table: DeltaTable, lacking: Sequence[DeltaMark]) -> Plan:
        new = [by_mark[mark] for mark in lacking]
        files = live_files(table)
        maybe = (may_hold(files, column, one.hour, one.hour + HOUR) for one in new)
        kept: list[pa.Table] = []
        removed: list[DeltaFile] = []
        for file in chosen_files(table, files.filter(reduce(pc.or_, maybe))):
            there = writer.files.read(file)
            each = (within_instants(there[column], one.hour, one.hour + HOUR) for one in new)
            inside = pc.fill_null(reduce(pc.or_, each), False)
            if pc.any(inside).as_py():
                removed.append(file)
                kept.append(there.filter(pc.invert(inside)))
        return Plan([*(one.rows for one in new), *kept], removed)

    return writer.write_marks(list(by_mark), plan)


def type_name(field: Field) -> str:
    """Return the type of a table's column as Delta names it."""
    kind: Any = field.type
    if kind.type == "array":
        return f"array<{kind.element_type.type}>"
    return str(kind.type)


def delta_columns(table: DeltaTable) -> Mapping[str, str]:
    """Return the types of a table's columns by name."""
    return {field.name: type_name(field) for field in table.schema().fields}


def _beyond(table: DeltaTable) -> Iterator[str]:
    """Yield what a table asks of its writers that our files do not keep to."""
    protocol = table.protocol()
    features = {*(protocol.writer_features or ()), *(protocol.reader_features or ())}
    if unknown := sorted(features - _FEATURES):
        yield f"it has the table features {', '.join(unknown)}, with which nothing is written here"
    plain = protocol.min_reader_version <= _READER and protocol.min_writer_version <= _WRITER
    if not plain and protocol.min_writer_version != _BY_FEATURES:
        yield (
            f"its protocol is reader {protocol.min_reader_version}, writer "
            f"{protocol.min_writer_version}; written are tables of reader {_READER}, writer "
            f"{_WRITER}"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _url(lake: str, path: str) -> str:
    return f"{lake.rstrip('/')}{path}"


@contextmanager
def _errors(lake: str, path: str) -> Iterator[None]:
    """Turn delta-rs's errors into ours."""
    try:
        yield
    except TableNotFoundError:
        raise
    except CommitFailedError as error:
        raise LakeUnavailable(
            f"the Delta table {path} was changed by another writer meanwhile: {error}; it is "
            "tried again"
        ) from error
    except DeltaError as error:
        if "Unsupported" in str(error):
            raise TableDiffers(
                f"the Delta table {path} is newer than what delta-rs reads: {_told(error)}. It "
                "was left as it is: give the sink another `path`, or move the table away"
            ) from error
        raise unavailable(lake, OSError(_told(error))) from error
    except OSError as error:
        raise unavailable(lake, OSError(_told(error))) from error


def _told(error: Exception) -> str:
    """Return what delta-rs tells in one line, without colours and a server's stack."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).replace("\u21b3", "")
    lines = [line.strip() for line in plain.splitlines()]
    return ": ".join(line for line in lines if line and not line.startswith("at "))[:_LONGEST]
