"""The Spark settings that every submit of ours carries, for drivers and closes alike."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streamkeeper.redaction import SECRET_NAMES
from streamkeeper.settings import Settings

# The checks of one record make a method of more than 8,000 bytes, which the JVM would leave to its
# interpreter.
_JAVA = "-Duser.timezone=UTC -XX:-DontCompileHugeMethods"
_LOG_SETTINGS = Path(__file__).parent / "log4j2.properties"


def spark_conf(settings: Settings) -> dict[str, str]:
    """Return the configuration of a Spark application.

    Parameters: settings, of which `jars` (its folder `spark`), `lake` are used.
    Returns Spark's property names and values, for `spark-submit --conf` or a session's builder.
    """
    jars = sorted(str(p.resolve()) for p in (settings.jars / "spark").glob("*.jar"))
    java = f"-Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()} {_JAVA}"
    conf = {
        "spark.driver.extraJavaOptions": java,
        "spark.executor.extraJavaOptions": _JAVA,
        "spark.pyspark.python": os.environ.get("PYSPARK_PYTHON", sys.executable),
        "spark.ui.showConsoleProgress": "false",
        # Times: UTC everywhere, microseconds in files, and old years written as they are.
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.compression.codec": "snappy",
        # A second copy of a task would write a second file.
        "spark.speculation": "false",
        # Files go into a folder of the attempt's own, which is published by one rename; so a
        # task's files may appear there at once.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        "spark.sql.maxConcurrentOutputFileWriters": "64",
        "spark.sql.shuffle.partitions": "2",
        # HDFS clients wait 400 ms when a block report is a moment late.
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "10",
        "spark.sql.streaming.metricsEnabled": "true",
        # What Spark keeps of past batches for its pages lives in the driver's heap, and a plan of
        # ours is a long text. Of 1,000 each, the default, it would be most of a heap of 1 GiB.
        "spark.ui.retainedJobs": "100",
        "spark.ui.retainedStages": "100",
        "spark.sql.ui.retainedExecutions": "50",
        "spark.scheduler.mode": "FAIR",
        # What Spark hides in its pages and plans: by the options' names.
        "spark.redaction.regex": SECRET_NAMES,
    }
    if jars:
        conf["spark.jars"] = ",".join(jars)
    if settings.lake:
        conf["spark.hadoop.fs.defaultFS"] = settings.lake
    return conf


def session_conf(settings: Settings) -> dict[str, str]:
    """Return what a session adds to the submit's properties, as it may not be in a command line.

    Hadoop's options of the lake, and those properties of Spark that are secrets.
    """
    hadoop = {f"spark.hadoop.{name}": value for name, value in settings.lake_options.items()}
    return hadoop | settings.spark_secrets
