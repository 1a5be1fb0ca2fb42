"""Settings from Airflow's connections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from streamkeeper.errors import SettingsError
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.statsd import StatsdTarget
from streamkeeper_airflow.hooks.connections import (
    child_environment,
    settings_from_connections,
    spark_environment,
    store_from_connection,
)
from streamkeeper_airflow.hooks.kafka import TopicHook
from streamkeeper_airflow.hooks.spark import SparkCommandHook, submit_conf
from streamkeeper_airflow.operators.hours import CloseHoursOperator
from streamkeeper_io.lake import hdfs_client

ROOT = Path(__file__).parents[2]
DECLARATION = ROOT / "include" / "streams" / "temperature.yaml"


@pytest.mark.usefixtures("connections")
def test_settings_come_from_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMKEEPER_STATE", "/var/lib/keeper")
    found = settings_from_connections()
    assert found.kafka == "k:9092"
    assert found.lake == "hdfs://nn:9000"
    assert found.cassandra == "c1:9142,c2:9142"
    assert found.spark_master == "local[*]"
    assert found.state == Path("/var/lib/keeper")
    assert found.streams == ROOT / "include" / "streams"
    assert found.store.startswith("postgresql+psycopg://keeper:p%40ss%2Fword@/streamkeeper?host=")


@pytest.mark.usefixtures("connections")
def test_a_child_gets_the_settings_and_nothing_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "keep__x")
    found = settings_from_connections()
    child = child_environment(found)
    assert not [name for name in child if "AIRFLOW" in name]
    assert Settings.from_environment(child) == found


@pytest.mark.usefixtures("connections")
def test_metrics_go_where_airflows_own_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_from_connections().statsd == {}
    for name, value in {
        "statsd_on": "True", "statsd_host": "stats.plant", "statsd_port": "9125",
        "statsd_prefix": "plant", "metrics_block_list": "scheduler,pool",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name.upper()}", value)
    found = settings_from_connections()
    expected = StatsdTarget("stats.plant", 9125, "plant", block="scheduler,pool")
    assert StatsdTarget.read(found.statsd) == expected
    assert Settings.from_environment(child_environment(found)) == found


@pytest.mark.usefixtures("connections")
def test_a_missing_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka"}')
    with pytest.raises(SettingsError, match=r"kafka_default.*bootstrap.servers"):
        settings_from_connections()


@pytest.mark.usefixtures("connections")
def test_one_store_a_process() -> None:
    assert store_from_connection() is store_from_connection()
    assert "p@ss" not in repr(store_from_connection())


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("host", ["local[2]", "spark://master:7077"])
def test_the_spark_providers_hook_builds_the_command(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    text = f'{{"conn_type": "spark", "host": "{host}", "extra": {{"conf": {{"spark.x": 1}}}}}}'
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", text)
    settings = settings_from_connections()
    assert settings.spark_master == host
    hook = SparkCommandHook(
        conf=submit_conf(settings), name="n", application_args=["--launch", "x"]
    )
    command = hook.command("/apps/stream.py")
    assert command[:3] == ["spark-submit", "--master", host]
    assert command[-3:] == ["/apps/stream.py", "--launch", "x"]
    assert "spark.x=1" in command
    assert "spark.driver.memory=1g" in command


@pytest.mark.usefixtures("connections")
def test_the_connection_overrides_our_spark_settings() -> None:
    assert submit_conf(settings_from_connections())["spark.driver.memory"] == "3g"


def secure_connections(monkeypatch: pytest.MonkeyPatch, master: str = "local[*]") -> None:
    """Give Airflow connections with accounts, TLS and other options."""
    connections: dict[str, dict[str, Any]] = {
        "streamkeeper_db": {
            **{"conn_type": "postgres", "host": "db", "login": "keeper", "password": "mark/store"},
            "extra": {"sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        },
        "kafka_default": {
            "conn_type": "kafka",
            "extra": {
                **{"bootstrap.servers": "k:9093", "group.id": "x", "security.protocol": "SASL_SSL"},
                **{"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "keeper"},
                "sasl.password": "mark/kafka",
            },
        },
        "cassandra_default": {
            **{"conn_type": "cassandra", "host": "c", "login": "keeper", "password": "mark/cass"},
            "extra": {"ssl_options": {"ca_certs": "/ca.pem"}, "local_dc": "dc1"},
        },
        "webhdfs_default": {
            **{"conn_type": "webhdfs", "host": "lake", "port": 9870},
            "extra": {"use_ssl": True, "hadoop": {"dfs.nameservices": "lake"}},
        },
        "spark_default": {
            **{"conn_type": "spark", "host": master},
            "extra": {"conf": {"spark.a": "b", "spark.authenticate.secret": "mark/spark"}},
        },
    }
    for name, fields in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def test_accounts_and_options_come_from_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    secure_connections(monkeypatch)
    found = settings_from_connections()
    assert found.store == (
        "postgresql+psycopg://keeper:mark%2Fstore@db/streamkeeper"
        "?sslmode=verify-full&sslrootcert=%2Fca.pem"
    )
    assert found.kafka == "k:9093"
    assert found.kafka_options == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "keeper",
        "sasl.password": "mark/kafka",
    }
    assert found.cassandra_options == {
        "local_dc": "dc1",
        "username": "keeper",
        "password": "mark/cass",
        "ssl_options": {"ca_certs": "/ca.pem"},
    }
    assert (found.lake, found.lake_options) == ("hdfs://lake", {"dfs.nameservices": "lake"})
    assert Settings.from_environment(child_environment(found)) == found
    admin = TopicHook().get_conn
    assert admin.where == "k:9093"
    hdfs_client.cache_clear()


@pytest.mark.parametrize(
    ("name", "extra", "told"),
    [
        ("kafka_default", {"bootstrap.servers": "k:1", "ssl.ca.file": "x"}, "'ssl.ca.file'; valid"),
        ("cassandra_default", {"ssl_context": "x"}, "unknown option 'ssl_context'"),
        ("streamkeeper_db", {"sslmode": "on"}, "sslmode is 'on'; valid: disable"),
        ("webhdfs_default", {"hadoop": {"a": "b"}}, "'a' is no option of Hadoop's"),
    ],
)
def test_a_wrong_option_is_told_with_its_connection(
    monkeypatch: pytest.MonkeyPatch, name: str, extra: dict[str, Any], told: str
) -> None:
    secure_connections(monkeypatch)
    fields = {"conn_type": "generic", "host": "h", "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
    with pytest.raises(SettingsError, match=f"'{name}'.*{told}"):
        settings_from_connections()


@pytest.mark.parametrize("master", ["local[*]", "yarn"])
def test_no_secret_is_in_a_command_or_a_rendered_field(
    monkeypatch: pytest.MonkeyPatch, master: str
) -> None:
    secure_connections(monkeypatch, master)
    settings = settings_from_connections()
    with DAG("secrets"):
        task = CloseHoursOperator(task_id="close", spec=load_spec(DECLARATION), wait_task_id="wait")
    # What its execute reads before it submits.
    task.conf, task._environment = submit_conf(settings), spark_environment(settings)
    hook = task._get_hook()
    shown = [*hook._build_spark_submit_command(task.application)]
    shown += [str(getattr(task, name)) for name in task.template_fields]
    drivers = SparkCommandHook(conf=submit_conf(settings), name="n", application_args=[])
    shown += drivers.command("/apps/stream.py")
    assert "spark.a=b" in shown
    told = " ".join(shown)
    assert not [s for s in ("mark/", "STREAMKEEPER_") if s in told]
    # The process gets them all the same.
    assert Settings.from_environment(hook._env).secrets() == settings.secrets()
    assert len(settings.secrets()) == 4


@pytest.mark.usefixtures("connections")
def test_a_sinks_database_comes_from_the_connection_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = load_spec(DECLARATION).dump()
    sink = {"kind": "postgresql", "of": "raw", "table": "t"}
    data["sinks"] = [sink, {**sink, "table": "u", "connection": "plant_db"}]
    spec = Spec.model_validate(data)
    plain = {"conn_type": "postgres", "host": "db", "login": "keeper", "password": "mark/sink"}
    full = {**plain, "schema": "plant", "extra": {"sslmode": "require"}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", json.dumps(full))
    monkeypatch.setenv("AIRFLOW_CONN_PLANT_DB", json.dumps(full | {"extra": {"sslmod": "x"}}))
    with pytest.raises(SettingsError, match=r"'plant_db'.*'sslmod'; valid.*'sslmode'"):
        settings_from_connections([spec])
    monkeypatch.setenv("AIRFLOW_CONN_PLANT_DB", json.dumps(plain))
    with pytest.raises(SettingsError, match="'plant_db' has no schema, the database's name"):
        settings_from_connections([spec])
    monkeypatch.setenv("AIRFLOW_CONN_PLANT_DB", json.dumps(full | {"port": 5433}))
    found = settings_from_connections([spec])
    assert found.postgres == {
        "plant_db": "postgresql+psycopg://keeper:mark%2Fsink@db:5433/plant?sslmode=require",
        "postgres_default": "postgresql+psycopg://keeper:mark%2Fsink@db/plant?sslmode=require",
    }
    assert "mark/sink" in found.secrets()
    assert Settings.from_environment(child_environment(found)) == found
    assert settings_from_connections().postgres == {}
