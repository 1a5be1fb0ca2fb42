"""The Spark session of our applications."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import SparkSession

from streamkeeper.settings import Settings
from streamkeeper_io.lake import use_lake
from streamkeeper_io.spark_conf import session_conf, spark_conf

_STOP_S = 15.0


def start_session(
    settings: Settings, name: str, extra: Mapping[str, str] | None = None
) -> SparkSession:
    """Start the session, or return the one that runs.

    Under spark-submit its master and settings hold; what is missing there is added here.

    Parameters: settings; name, shown in Spark's UI; extra, more Spark properties.
    """
    builder = SparkSession.builder.appName(name)
    for key, value in (spark_conf(settings) | session_conf(settings) | dict(extra or {})).items():
        builder = builder.config(key, value)
    if settings.lake:
        use_lake(settings)
    active = SparkSession.getActiveSession()
    if active is None:
        builder = builder.master(settings.spark_master)
    return builder.getOrCreate()


@contextmanager
def running_session(
    settings: Settings, name: str, extra: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """Give a session as `start_session` starts it, and stop it.

    A JVM that hangs is waited for no longer than 15 seconds; `leave` ends the process then.
    """
    spark = start_session(settings, name, extra)
    try:
        yield spark
    finally:
        stopping = threading.Thread(target=spark.stop, daemon=True)
        stopping.start()
        stopping.join(_STOP_S)
