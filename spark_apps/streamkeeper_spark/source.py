"""Reading a topic as a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from streamkeeper.generations import Generation
from streamkeeper.settings import Settings
from streamkeeper_io.kafka import source_options

# A first batch over a long backlog is cut, so that rows appear and a retry repeats little.
MESSAGES_A_BATCH = 1_000_000
MESSAGES_A_TASK = 100_000
# Having read the last message of a span, Kafka's consumer asks for what follows, and the broker
# holds that request for so long if nothing does. Spark's next question, where the partition ends,
# waits behind it on the same connection: by default half a second for each partition and batch.
FETCH_WAIT_MS = 10


def read_topic(
    spark: SparkSession,
    settings: Settings,
    topic: str,
    start: Mapping[int, int] | str,
    options: Mapping[str, Any] | None = None,
    *,
    committed: bool = False,
) -> DataFrame:
    """Return a topic's messages as a stream.

    Parameters: start, the first offset of every partition, or `latest`; it counts only while the
    checkpoint is new. options: `max_messages` of a batch, `task_messages` of a task.
    committed: read messages of transactions once these are committed, and none of aborted ones.
    The stream fails when messages were deleted before they were read.
    """
    options = options or {}
    first = start if isinstance(start, str) else starting_offsets(topic, start)
    return (
        spark.readStream.format("kafka")
        .options(**source_options(settings))
        .option("subscribe", topic)
        .option("startingOffsets", first)
        .option("failOnDataLoss", "true")
        .option("kafka.isolation.level", "read_committed" if committed else "read_uncommitted")
        .option("maxOffsetsPerTrigger", options.get("max_messages", MESSAGES_A_BATCH))
        # Long spans are read by more tasks than the topic has partitions, so that no core idles.
        .option("maxRecordsPerPartition", options.get("task_messages", MESSAGES_A_TASK))
        .option("kafka.max.poll.records", 10_000)
        .option("kafka.fetch.max.wait.ms", FETCH_WAIT_MS)
        .option("kafka.max.partition.fetch.bytes", 8 * 2**20)
        .load()
    )


def starting_offsets(topic: str, start: Mapping[int, int]) -> str:
    """Return offsets by partition as Spark's Kafka source reads them."""
    return json.dumps({topic: {str(p): offset for p, offset in sorted(start.items())}})


def logged_offsets(log_entry: str, generation: Generation) -> dict[int, int]:
    """Return the end offsets of a batch from Spark's log of it (`offsets/<batch>`).

    The log has a version, the batch's metadata, and one line a source.
    Raises ValueError when it is not such a log of this topic.
    """
    lines = log_entry.splitlines()
    if len(lines) != 3 or lines[0] != "v1":
        raise ValueError(f"Spark's offset log has {len(lines)} lines and begins {lines[:1]}")
    by_topic = json.loads(lines[2])
    if list(by_topic) != [generation.topic]:
        raise ValueError(f"Spark's offset log is of {list(by_topic)}, not {generation.topic!r}")
    return {int(p): offset for p, offset in by_topic[generation.topic].items()}
