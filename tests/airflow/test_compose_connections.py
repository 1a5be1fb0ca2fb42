"""Airflow itself reads the connections of docker-compose.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import BaseHook

from compose_file import environment
from streamkeeper.settings import Settings
from streamkeeper_airflow.hooks.connections import settings_from_connections, sink_url
from streamkeeper_airflow.hooks.spark import submit_conf


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The connections and settings of the scheduler's container."""
    found = environment("airflow-scheduler")
    for name, value in found.items():
        if name.startswith(("AIRFLOW_CONN_", "STREAMKEEPER_")):
            monkeypatch.setenv(name, value)
    return found


def test_launches_get_the_addresses_that_commands_get(container: dict[str, str]) -> None:
    found = settings_from_connections()
    by_hand = Settings.from_environment(container)
    for name in ("store", "kafka", "lake", "cassandra", "streams", "files", "state", "jars"):
        assert getattr(found, name) == getattr(by_hand, name), name
    sinks = sink_url("postgres_default", BaseHook.get_connection("postgres_default"))
    assert by_hand.postgres == {"postgres_default": sinks}
    assert found.spark_master == "spark://spark-master:7077"
    assert found.jars == Path("/opt/streamkeeper/jars")


@pytest.mark.usefixtures("container")
def test_a_driver_leaves_cores_for_the_others() -> None:
    conf = submit_conf(settings_from_connections())
    assert conf["spark.driver.host"] == "airflow-scheduler"
    assert conf["spark.cores.max"] == "1"
    assert conf["spark.executor.memory"] == "768m"


@pytest.mark.usefixtures("container")
def test_mails_go_to_the_catcher() -> None:
    connection = BaseHook.get_connection("smtp_default")
    assert (connection.host, connection.port) == ("mail", 1025)
