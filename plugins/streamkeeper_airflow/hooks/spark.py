"""The Spark provider's hook as a builder of commands for drivers that outlive their task."""

from __future__ import annotations

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk import BaseHook

from streamkeeper.settings import Settings
from streamkeeper_airflow.hooks.connections import SPARK, spark_properties
from streamkeeper_io.spark_conf import spark_conf


class SparkCommandHook(SparkSubmitHook):
    """Builds the command line that `submit` would run.

    A subclass because the provider's hook waits for the process that it starts; a stream's driver
    has its own session and outlives the task, so it is started by a launcher.
    """

    def command(self, application: str) -> list[str]:
        """Return spark-submit's command line for an application."""
        return self._build_spark_submit_command(application)


def submit_conf(settings: Settings) -> dict[str, str]:
    """Return the Spark properties of a submit: ours, then `conf` of the connection's extra.

    Secrets among them are not in it, for every user of the host can read a command line; they are
    `Settings.spark_secrets`, which the session adds.
    """
    extra = spark_properties(BaseHook.get_connection(SPARK), secret=False)
    return {"spark.driver.memory": "1g"} | spark_conf(settings) | extra
