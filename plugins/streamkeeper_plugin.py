"""The one file that Airflow's plugin loader loads by name; the package beside it is installed."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from streamkeeper_airflow import marks


class StreamkeeperPlugin(AirflowPlugin):
    """Hears of marks, so that they drain launches at once."""

    name = "streamkeeper"
    listeners = [marks]  # noqa: RUF012 - Airflow reads the attribute so
