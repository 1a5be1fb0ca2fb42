"""The rows of closed hours: read what landed, keep one row a coordinate, write a file an hour."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from streamkeeper import names
from streamkeeper.closing import CLOSE_COLUMN as CLOSE
from streamkeeper.generations import Counted
from streamkeeper.manifest import Manifest
from streamkeeper.names import parse_hour
from streamkeeper.spec.models import Spec
from streamkeeper_io.closed import REVISION_KEY
from streamkeeper_spark.checks import valid_rows
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.schema import landed_schema

HOUR_FORMAT = "yyyy-MM-dd'T'HH"
_MOST_PARTITIONS = 64


def curated_schema(spec: Spec) -> T.StructType:
    """Return the columns of a curated row: those of a landed one without its errors and bytes."""
    left_out = (names.ERRORS, names.VALUE)
    return T.StructType([f for f in landed_schema(spec).fields if f.name not in left_out])


def batch_files(spec: Spec, manifests: Iterable[Manifest]) -> list[str]:
    """Return the paths of the Parquet files of published raw batches."""
    raw = names.raw_path(spec)
    return [
        f"{raw}/{names.BatchName(m.generation, m.batch).folder}/{file}"
        for m in manifests
        for file in m.files
    ]


def read_landed(spark: SparkSession, files: LakeFiles, spec: Spec, paths: list[str]) -> DataFrame:
    """Return landed rows, valid and quarantined; none of a path more than once."""
    return _read(spark, files, landed_schema(spec), paths)


def read_curated(spark: SparkSession, files: LakeFiles, spec: Spec, paths: list[str]) -> DataFrame:
    """Return the rows of curated files."""
    return _read(spark, files, curated_schema(spec), paths)


def _read(
    spark: SparkSession, files: LakeFiles, schema: T.StructType, paths: list[str]
) -> DataFrame:
    if not paths:
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).parquet(*[files.url(p) for p in dict.fromkeys(paths)])


def merge(
    landed: DataFrame,
    curated: DataFrame,
    spec: Spec,
    hours: Sequence[datetime],
    counted: Counted,
) -> DataFrame:
    """Return the valid rows of hours, one a coordinate, sorted, with `_close` naming their hour.

    Each hour is whole in one partition. A row that a newer generation has read again is dropped,
    whatever that one made of it. Of rows with the same coordinates the one of the newest generation
    and batch stays.

    Parameters: landed and curated, what is new and what the hours held before; counted, which
    batches count.
    """
    columns = [f"`{f.name}`" for f in curated_schema(spec).fields]
    rows = valid_rows(landed).select(*columns).unionByName(curated.select(*columns))
    rows = without_replaced(rows.where(F.col(names.HOUR).isin(list(hours))), counted)
    # The partitions are by the column that names the folders: a sort by it then needs no other.
    rows = rows.withColumn(CLOSE, F.date_format(names.HOUR, HOUR_FORMAT))
    rows = rows.repartition(min(2 * len(hours), _MOST_PARTITIONS), CLOSE)
    ids = F.array(*[F.lit(g.generation) for g in counted.counting])
    rank = F.array_position(ids, F.col(names.GENERATION))
    newest = Window.partitionBy(CLOSE, *names.COORDINATES).orderBy(
        rank.desc(), F.col(names.BATCH).desc()
    )
    rows = rows.withColumn("_newest", F.row_number().over(newest)).where("_newest = 1")
    order = (CLOSE, names.EVENT_TIME, names.PARTITION, names.OFFSET, names.TOPIC_ID)
    return rows.sortWithinPartitions(*order).select(CLOSE, *columns)


def without_replaced(rows: DataFrame, counted: Counted) -> DataFrame:
    """Return landed rows without those whose coordinates lie in a newer generation's spans."""
    for generation in counted.counting[:-1]:
        replaced = counted.replaced(generation.generation)
        spans = [
            (F.col(names.PARTITION) == partition) & F.col(names.OFFSET).between(first, end - 1)
            for partition, pieces in replaced.items()
            for first, end in pieces
        ]
        if spans:
            mine = (F.col(names.GENERATION) == generation.generation) & (
                F.col(names.TOPIC_ID) == generation.topic_id
            )
            rows = rows.where(~(mine & functools.reduce(operator.or_, spans)))
    return rows


def write_hours(rows: DataFrame, url: str, revision: int) -> None:
    """Write a file an hour below a new folder, its revision in the footer.

    Parameters: rows, with `_close`, each hour whole in one partition, sorted by `_close` first.
    """
    first, *others = [name for name in rows.columns if name != CLOSE]
    marked = F.col(f"`{first}`").alias(first, metadata={REVISION_KEY: revision})
    named = rows.select(CLOSE, marked, *[f"`{name}`" for name in others])
    # Sorted rows need one open file at a time. Several would let Spark keep no order.
    writer = named.write.option("maxRecordsPerFile", 0).partitionBy(CLOSE)
    writer.parquet(url)


def write_emptied(rows: DataFrame, url: str, revision: int) -> None:
    """Write one file without rows into a new folder, its revision in the footer.

    Parameters: rows, of the zone that has none left; only their columns count.
    """
    first, *others = [f"`{name}`" for name in rows.columns if name != CLOSE]
    marked = F.col(first).alias(first.strip("`"), metadata={REVISION_KEY: revision})
    rows.limit(0).select(marked, *others).coalesce(1).write.parquet(url)


def read_staged(spark: SparkSession, url: str, spec: Spec) -> DataFrame:
    """Return curated rows that `write_hours` wrote, with `_close`."""
    schema = T.StructType([*curated_schema(spec).fields, T.StructField(CLOSE, T.StringType())])
    return spark.read.schema(schema).parquet(url)


def quarantined_by_hour(
    landed: DataFrame, hours: Sequence[datetime]
) -> dict[datetime, Counter[str]]:
    """Count quarantined records by arrival hour; one counts once for each rule that it broke.

    The key `""` holds the records. A malformed record has no event time, so its arrival counts.
    """
    arrived = F.date_trunc("hour", F.col(names.TIMESTAMP))
    first, end = min(hours), max(hours) + timedelta(hours=1)
    bad = landed.where(
        F.col(names.ERRORS).isNotNull()
        & F.col(names.TIMESTAMP).between(F.lit(first), F.lit(end))
        & arrived.isin(list(hours))
    )
    # As `rule_of` reads a finding; once a record, however often it broke the rule.
    rules = F.transform(names.ERRORS, lambda finding: F.substring_index(finding, ":", 2))
    rule = F.explode(F.array_distinct(F.array_append(rules, ""))).alias("rule")
    found = bad.select(F.date_format(arrived, HOUR_FORMAT).alias("hour"), rule)
    counts: dict[datetime, Counter[str]] = {hour: Counter() for hour in hours}
    for row in found.groupBy("hour", "rule").count().collect():
        counts[parse_hour(row["hour"])][row["rule"]] = row["count"]
    return counts
