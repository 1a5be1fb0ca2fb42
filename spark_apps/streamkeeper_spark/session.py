"""The Spark session of our applications."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import SparkSession

from streamkeeper.settings import Settings
from streamkeeper_io.lake import use_lake
from streamkeeper_io.spark_conf import session_conf, spark_conf


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
