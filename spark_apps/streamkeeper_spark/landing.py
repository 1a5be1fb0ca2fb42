"""Publishing a batch: one write into staging, counts from the files, one rename."""

from __future__ import annotations

import itertools
import json
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType, TimestampType

from streamkeeper.errors import Fenced, LakeDisagreement, StreamkeeperError
from streamkeeper.generations import Generation
from streamkeeper.launches import write_number
from streamkeeper.manifest import Manifest
from streamkeeper.names import (
    BATCH,
    GENERATION,
    HOUR,
    MANIFEST_FILE,
    OFFSET,
    TEMPORARY,
    TOPIC_ID,
    BatchName,
)
from streamkeeper.spans import size, span_between
from streamkeeper.spec.loader import spec_sha256
from streamkeeper.spec.models import Spec
from streamkeeper.spec.pieces import text_literal
from streamkeeper_io.lake import read_rows
from streamkeeper_spark.accounts import Account
from streamkeeper_spark.declared import FAILED_COLUMNS, check_failure, failed_check
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.source import logged_offsets

log = logging.getLogger(__name__)
ROWS_A_FILE = 100_000


class Draining(StreamkeeperError):
    """The driver drains: the batch before this one was the last; this one has written nothing."""


class WriteNumbers:
    """The numbers that order the writes of one launch; every query of it draws from them."""

    def __init__(self, epoch: int) -> None:
        self._epoch, self._counts = epoch, itertools.count()
        self._lock = threading.Lock()

    def draw(self) -> int:
        """Return the next number."""
        with self._lock:
            return write_number(self._epoch, next(self._counts))


def with_constants(rows: DataFrame, constants: Mapping[str, str]) -> DataFrame:
    """Return the rows with columns that are the same for all, given as SQL by name."""
    return rows.selectExpr("*", *(f"{value} AS {name}" for name, value in constants.items()))


def batch_number(batch: int) -> str:
    """Return the SQL of a batch's number with which Spark compiles no code anew for each batch.

    A number stands in the code that Spark generates; an array is handed to that code. Its one
    place is 0 by a computation, as Spark would put the number in its place for a constant.
    """
    return f"array({batch}L)[spark_partition_id() & 0]"


@dataclass
class Publisher:
    """Publishes the batches of one query under one folder of the lake.

    zone: `raw` or `windows/<window>`; folder: where its batches are published; checkpoint: of this
    launch; account: counts the rows of the written files, of which it gets `columns`; published:
    called with each batch's manifest, those found already there included; stateful: every batch
    must be computed, or its state would be missing in the next; complete: makes the rows to write
    of those that the query gives, and of the SQL of the columns that are the same in a batch.
    """

    spec: Spec
    zone: str
    folder: str
    generation: Generation
    checkpoint: str
    epoch: int
    files: LakeFiles
    numbers: WriteNumbers
    draining: threading.Event
    columns: list[str]
    account: Callable[[Iterable[pa.Table]], Account]
    published: Callable[[Manifest], None]
    stateful: bool = False
    complete: Callable[[DataFrame, Mapping[str, str]], DataFrame] = with_constants
    _cleared: bool = False
    _attempts: itertools.count[int] = field(default_factory=itertools.count)

    def prepare(self) -> None:
        """Create the zone's folder."""
        self.files.make_folder(f"{self.folder}/{TEMPORARY}")

    def _clear(self) -> None:
        """Remove what older launches left unpublished.

        Only once this launch's first batch is published. An older launch that is frozen, not dead,
        has that very batch in hand. Were a part of its files deleted before, it could wake, write
        the others and publish them as the whole; now its rename finds the place taken.
        """
        staging = f"{self.folder}/{TEMPORARY}"
        for name in self.files.names(staging):
            epoch = name.partition("-")[0]
            if epoch.isdigit() and int(epoch) < self.epoch:
                self.files.delete(f"{staging}/{name}")
        self._cleared = True

    def publish(self, rows: DataFrame, batch: int) -> None:
        """Publish one batch; after the first one, clear away what older launches left.

        Raises Draining, Fenced, CheckFailed, LakeDisagreement, LakeUnavailable.
        """
        self._publish(rows, batch)
        if not self._cleared:
            self._clear()

    def _publish(self, rows: DataFrame, batch: int) -> None:
        """Publish one batch, unless it is published already."""
        span = self.span_of(batch)
        if not span:
            # A batch without messages only moves the watermark; in update mode it has no rows.
            self._compute(rows)
            return
        if self.draining.is_set():
            raise Draining(f"{self.spec.name}: batch {batch} waits for the next launch")
        name = BatchName(self.generation.generation, batch)
        if self.files.exists(f"{self.folder}/{name.folder}"):
            manifest = self._same(name, span)
            self._compute(rows)
            self.published(manifest)
            return
        staging = f"{self.folder}/{TEMPORARY}/{self.epoch}-{batch}-{next(self._attempts)}"
        self._write(rows, batch, staging, size(span))
        manifest = self._describe(name, span, staging)
        self._refuse_failed(manifest, staging)
        self.files.write(f"{staging}/{MANIFEST_FILE}", manifest.model_dump_json())
        self.published(self._rename(staging, name, manifest))

    def _compute(self, rows: DataFrame) -> None:
        if self.stateful:
            rows.write.format("noop").mode("overwrite").save()

    def span_of(self, batch: int) -> dict[int, tuple[int, int]]:
        """Return what a batch covers: from the end of the one before to Spark's log of this one.

        Raises Fenced when the checkpoint was taken over.
        """
        if batch == 0:
            self._refuse_new_checkpoint()
        start = self._logged(batch - 1) if batch else dict(self.generation.start)
        return span_between(start, self._logged(batch))

    def _refuse_new_checkpoint(self) -> None:
        """Raise Fenced when this is not the generation's checkpoint.

        A launch that was frozen before its query started makes its checkpoint anew when it wakes,
        under an id of Spark's own, and begins again with batch 0.
        """
        found = json.loads(self._read("metadata"))["id"]
        if found != self.generation.generation:
            raise Fenced(
                f"{self.spec.name}: {self.checkpoint} was made anew as {found}; a newer launch "
                "took the generation over"
            )

    def _logged(self, batch: int) -> dict[int, int]:
        return logged_offsets(self._read(f"offsets/{batch}"), self.generation)

    def _read(self, name: str) -> str:
        try:
            return self.files.read(f"{self.checkpoint}/{name}")
        except FileNotFoundError:
            raise Fenced(
                f"{self.spec.name}: {name} is not in {self.checkpoint}; a newer launch took it over"
            ) from None

    def _write(self, rows: DataFrame, batch: int, staging: str, messages: int) -> None:
        generation = text_literal(self.generation.generation)
        named = self.complete(rows, {GENERATION: generation, BATCH: batch_number(batch)})
        few = math.ceil(messages / ROWS_A_FILE)
        # Small batches make one file; a large one keeps its tasks side by side.
        if few < self.spec.source.kafka.partitions:
            named = named.coalesce(few)
        named.write.options(**_file_options(named.schema)).parquet(self.files.url(staging))

    def _describe(
        self, name: BatchName, span: dict[int, tuple[int, int]], staging: str
    ) -> Manifest:
        written = [n for n in self.files.names(staging) if n.endswith(".parquet")]
        paths = [f"{staging}/{n}" for n in written]
        account = self.account(read_rows(self.files.lake, paths, self.columns))
        self._refuse_gaps(name, account.read, span)
        return Manifest(
            stream=self.spec.name,
            zone=self.zone,
            generation=name.generation,
            batch=name.batch,
            epoch=self.epoch,
            write_number=self.numbers.draw(),
            topic=self.generation.topic,
            topic_id=self.generation.topic_id,
            span=span,
            files=tuple(written),
            spec_sha256=spec_sha256(self.spec),
            written_at=datetime.now(UTC),
            **account.dump(),
        )

    def _refuse_gaps(self, name: BatchName, read: int, span: dict[int, tuple[int, int]]) -> None:
        """Raise LakeDisagreement when offsets of a plain topic held no message."""
        plain = self.zone == "raw" and self.spec.source.kafka.kind == "plain"
        if plain and read != size(span):
            raise LakeDisagreement(
                f"{self.spec.name}: batch {name.batch} read {read} messages at {size(span)} "
                f"offsets ({_tell(span)}) of {self.generation.topic!r}; nothing was published. A "
                "topic whose messages are sent in transactions, or that is compacted, is declared "
                "by source.kafka.kind: transactional or compacted"
            )

    def _refuse_failed(self, manifest: Manifest, staging: str) -> None:
        """Raise CheckFailed when a record broke a check that ends the stream."""
        check = failed_check(self.spec, manifest)
        if check is None:
            return
        paths = [f"{staging}/{name}" for name in manifest.files]
        error = check_failure(check, manifest, read_rows(self.files.lake, paths, FAILED_COLUMNS))
        self.files.delete(staging)
        raise error

    def _rename(self, staging: str, name: BatchName, manifest: Manifest) -> Manifest:
        try:
            self.files.rename(staging, f"{self.folder}/{name.folder}")
        except FileExistsError:
            # An older launch that had this batch in hand was faster.
            self.files.delete(staging)
            return self._same(name, manifest.span)
        except FileNotFoundError:
            raise Fenced(
                f"{self.spec.name}: {staging} is gone; a newer launch cleared it away"
            ) from None
        return manifest

    def _same(self, name: BatchName, span: dict[int, tuple[int, int]]) -> Manifest:
        """Return the published manifest of a batch that covers the same span.

        Raises LakeDisagreement when it covers another.
        """
        folder = f"{self.folder}/{name.folder}"
        found = Manifest.model_validate_json(self.files.read(f"{folder}/{MANIFEST_FILE}"))
        if found.span != span:
            raise LakeDisagreement(
                f"{self.spec.name}: {folder} covers {_tell(found.span)}, but the checkpoint "
                f"{self.checkpoint} says {_tell(span)}; nothing was changed. Reset the stream, or "
                "restore the checkpoint that belongs to this lake"
            )
        log.info("%s: batch %d was published before", self.spec.name, name.batch)
        return found


def _file_options(schema: StructType) -> dict[str, str]:
    """Return the options that spare work at which no reader looks.

    Those are dictionaries where hardly any value comes twice, the bounds of texts that are the same
    in the whole file, and sizes by page.
    """
    unlike = [f.name for f in schema if isinstance(f.dataType, TimestampType) and f.name != HOUR]
    options = {f"parquet.enable.dictionary#{name}": "false" for name in [OFFSET, *unlike]}
    for name in (TOPIC_ID, GENERATION):
        options[f"parquet.column.statistics.enabled#{name}"] = "false"
    return options | {"parquet.size.statistics.enabled": "false"}


def _tell(span: dict[int, tuple[int, int]]) -> str:
    pieces = [f"{p}: {first}..{end - 1}" for p, (first, end) in sorted(span.items())]
    return "partition " + ", ".join(pieces) if pieces else "nothing"
