"""The two ways from a topic to files that are compared: our `land` query, and bare Spark."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from bench.servers import readings_stream
from streamkeeper.generations import Generation
from streamkeeper.manifest import Manifest
from streamkeeper.names import LAND
from streamkeeper.settings import Settings
from streamkeeper.spec.field_types import sql_type
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_spark import fence
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.landing import WriteNumbers
from streamkeeper_spark.queries import Launchpad, Query, start_land
from streamkeeper_spark.source import starting_offsets

EPOCH = 1
Follow = Callable[[Spec, Generation], Callable[[Manifest], None]]


class Contest:
    """Starts either way over the same topic, each run with a checkpoint and folders of its own.

    Parameters: options, of the launch: `trigger` or `every`, and those of `read_topic`; further,
    more keys of the declaration.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        topic: str,
        options: dict[str, Any],
        **further: Any,
    ) -> None:
        self._further = further
        self.spark, self.settings, self.topic, self.options = spark, settings, topic, options
        self.files = LakeFiles(spark, settings.lake)
        self._topic_id, self._start = kafka.begin_offsets(kafka.Admin(settings), topic)

    def ours(self, follow: Follow | None = None) -> tuple[Spec, Query]:
        """Start the `land` query of a new stream over the topic, exactly as the driver does.

        Parameters: follow, makes what is told of each published batch.
        """
        spec = readings_stream(self.settings, self.topic, **self._further)
        pad = Launchpad(
            spark=self.spark,
            settings=self.settings,
            files=self.files,
            epoch=EPOCH,
            folder=Path(),
            options=self.options,
            numbers=WriteNumbers(EPOCH),
            draining=threading.Event(),
        )
        generation = fence.begin_generation(
            self.files, spec, LAND, epoch=EPOCH, topic_id=self._topic_id, start=self._start
        )
        checkpoint = fence.take_over(self.files, spec, generation, EPOCH)
        told = [follow(spec, generation)] if follow is not None else []
        return spec, start_land(pad, spec, (generation, checkpoint), told)

    def parsed(self) -> DataFrame:
        """Return what bare Spark reads: Kafka -> from_json, the broker's time, derived columns."""
        spec = readings_stream(self.settings, self.topic, **self._further)
        fields = ", ".join(
            f"`{name}` {sql_type(field.type)}" for name, field in spec.fields.items()
        )
        messages = (
            self.spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", self.settings.kafka)
            .option("subscribe", self.topic)
            .option("startingOffsets", starting_offsets(self.topic, self._start))
            .load()
        )
        parsed = F.from_json(F.col("value").cast("string"), fields).alias("r")
        rows = messages.select(parsed, F.col("timestamp").alias("_timestamp"))
        rows = rows.select("r.*", "_timestamp")
        for name, expression in spec.derived_expressions().items():
            rows = rows.withColumn(name, F.expr(expression.sql))
        return rows

    def bare(self) -> tuple[str, StreamingQuery]:
        """Start `parsed` into Spark's own Parquet sink; return its folder too."""
        folder = f"/bench/bare-{secrets.token_hex(4)}"
        writer = self.parsed().writeStream.format("parquet")
        writer = writer.option("checkpointLocation", self.files.url(f"{folder}-checkpoint"))
        writer = writer.option("path", self.files.url(folder))
        if "every" in self.options:
            return folder, writer.trigger(processingTime=self.options["every"]).start()
        return folder, writer.trigger(availableNow=True).start()
