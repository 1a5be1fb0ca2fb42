"""The configuration in docker-compose.yaml, against what `make up` gives to the same programs."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from compose_file import ROOT, environment, properties, raw_file, services
from streamkeeper.settings import Settings
from streamkeeper_apps.dashboard.commands import HEALTH, PORT, add_dashboard_command
from streamkeeper_apps.local import postgres
from streamkeeper_apps.local.airflow import COMPONENTS, AirflowHome
from streamkeeper_apps.local.places import Places

TEMPLATES = ROOT / "include" / "streamkeeper_apps" / "local" / "templates"
AIRFLOW = sorted(name for name in raw_file()["services"] if name.startswith("airflow-"))
# What containers need otherwise than one machine: addresses, folders, secrets, and the password
# and the health page that a machine's loopback does without.
OWN_OPTIONS = {
    "CORE__DAGS_FOLDER",
    "CORE__PLUGINS_FOLDER",
    "CORE__FERNET_KEY",
    "CORE__EXECUTION_API_SERVER_URL",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS",
    "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    "DATABASE__SQL_ALCHEMY_CONN",
    "DATABASE__SQL_ALCHEMY_CONN_ASYNC",
    "API__HOST",
    "API__PORT",
    "API__BASE_URL",
    "API__SECRET_KEY",
    "API_AUTH__JWT_SECRET",
    "LOGGING__BASE_LOG_FOLDER",
    "SCHEDULER__ENABLE_HEALTH_CHECK",
}


def of_one_machine(tmp_path: Path) -> dict[str, str]:
    """The environment that `make up` gives to Airflow's components."""
    places = Places.at(tmp_path, environ={})
    settings = Settings(
        kafka="127.0.0.1:9092", cassandra="127.0.0.1:9042", lake="hdfs://127.0.0.1:9000"
    )
    home = AirflowHome(
        places,
        Path("/usr"),
        postgres.Postgres(places),
        lambda: settings,
        smtp_port=lambda: 1025,
        webhdfs_port=lambda: 9870,
    )
    return home.environment()


def connections(environ: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {n: json.loads(t) for n, t in environ.items() if n.startswith("AIRFLOW_CONN_")}


def test_airflow_has_the_options_of_one_machine(tmp_path: Path) -> None:
    mine = {n: v for n, v in environment().items() if n.startswith("AIRFLOW__")}
    known = {n: v for n, v in of_one_machine(tmp_path).items() if n.startswith("AIRFLOW__")}
    assert set(mine) == set(known)
    own = {f"AIRFLOW__{name}" for name in OWN_OPTIONS}
    assert {n: v for n, v in mine.items() if n not in own} == {
        n: v for n, v in known.items() if n not in own
    }


def test_all_components_have_one_environment() -> None:
    others = {name: services()[name]["environment"] for name in AIRFLOW if name != "airflow-host"}
    others["airflow-init"].pop("AIRFLOW_ADMIN_PASSWORD")
    assert all(found == environment() for found in others.values())


def test_every_component_runs_as_on_one_machine() -> None:
    commands = {component.name: list(component.arguments) for component in COMPONENTS}
    assert {
        "airflow_api": services()["airflow-apiserver"]["command"],
        "airflow_scheduler": services()["airflow-scheduler"]["command"],
        "airflow_triggerer": services()["airflow-triggerer"]["command"],
        "airflow_dag_processor": services()["airflow-dag-processor"]["command"],
    } == commands


def test_connections_differ_from_those_of_one_machine_by_address_only(tmp_path: Path) -> None:
    address = {"host", "port", "password", "login", "schema"}
    mine, known = connections(environment()), connections(of_one_machine(tmp_path))
    assert set(known) == set(mine)
    for name, wanted in known.items():
        if name == "AIRFLOW_CONN_SPARK_DEFAULT":
            mine[name]["extra"].pop("conf")
        extra = wanted.get("extra", {})
        for changing in ("bootstrap.servers", "rpc_port"):
            assert (changing in extra) == (changing in mine[name].get("extra", {}))
            extra.pop(changing, None)
            mine[name].get("extra", {}).pop(changing, None)
        assert {n: v for n, v in mine[name].items() if n not in address} == {
            n: v for n, v in wanted.items() if n not in address
        }
        assert mine[name].get("schema") == wanted.get("schema")


def test_the_drivers_processes_are_seen_by_the_triggerer() -> None:
    seen = {
        name: (s.get("pid"), s.get("hostname"), s["user"])
        for name, s in services().items()
        if name in ("airflow-scheduler", "airflow-triggerer")
    }
    assert set(seen.values()) == {("service:airflow-host", "airflow-host", "50000:0")}
    assert services()["airflow-host"]["init"] is True
    conf = connections(environment())["AIRFLOW_CONN_SPARK_DEFAULT"]["extra"]["conf"]
    assert conf["spark.driver.host"] == "airflow-scheduler"
    assert all(isinstance(value, str) for value in conf.values())


def test_each_address_is_that_of_a_service() -> None:
    kafka, spark = environment("kafka"), services()["spark-master"]["command"]
    core = properties((ROOT / "docker" / "hdfs" / "core-site.xml").read_text())
    hdfs = properties((ROOT / "docker" / "hdfs" / "hdfs-site.xml").read_text())
    found = connections(environment())
    brokers = found["AIRFLOW_CONN_KAFKA_DEFAULT"]["extra"]["bootstrap.servers"]
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{brokers}"
    lake = found["AIRFLOW_CONN_WEBHDFS_DEFAULT"]
    assert core["fs.defaultFS"] == f"hdfs://{lake['host']}:{lake['extra']['rpc_port']}"
    assert hdfs["dfs.namenode.rpc-address"] == core["fs.defaultFS"].removeprefix("hdfs://")
    assert hdfs["dfs.namenode.http-address"] == f"0.0.0.0:{lake['port']}"
    master = found["AIRFLOW_CONN_SPARK_DEFAULT"]
    where = f"{master['host']}:{master['port']}"
    assert where == f"spark://{spark[spark.index('--host') + 1]}:{spark[spark.index('--port') + 1]}"
    assert services()["spark-worker"]["command"][-1] == where
    for connection in found.values():
        host = connection.get("host") or brokers.partition(":")[0]
        assert host.rpartition("//")[2] in services()
    settings = Settings.from_environment(environment())
    assert settings.kafka == brokers
    assert settings.lake == core["fs.defaultFS"]
    cassandra = found["AIRFLOW_CONN_CASSANDRA_DEFAULT"]
    assert settings.cassandra == f"{cassandra['host']}:{cassandra['port']}"
    store, metadata = (
        urlsplit(environment()[name])
        for name in ("STREAMKEEPER_STORE", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    )
    account = environment("postgres")
    for url in (store, metadata):
        assert (url.hostname, url.port) == ("postgres", 5432)
        assert (url.username, url.password) == (
            account["POSTGRES_USER"],
            account["POSTGRES_PASSWORD"],
        )
    assert store.path == f"/{postgres.STORE_DATABASE}"
    assert metadata.path == f"/{postgres.AIRFLOW_DATABASE}"


def test_settings_by_environment_are_known_to_the_code() -> None:
    mine = {n.removeprefix("STREAMKEEPER_") for n in environment() if n.startswith("STREAMKEEPER_")}
    assert mine <= {name.upper() for name in Settings.model_fields}


def test_the_dashboard_runs_as_on_one_machine_and_listens_to_its_port() -> None:
    service = services()["dashboard"]
    port = service["entrypoint"][service["entrypoint"].index("--port") + 1]
    assert service["ports"] == [f"127.0.0.1:{PORT}:{port}"]
    assert service["healthcheck"]["test"][-1] == f"http://localhost:{port}{HEALTH}"
    assert service["image"] == services()["airflow-scheduler"]["image"]
    mine = {n: v for n, v in service["environment"].items() if n.startswith("STREAMKEEPER_")}
    assert mine.items() <= environment().items()
    settings = Settings.from_environment(service["environment"])
    assert all((settings.store, settings.lake, settings.postgres))
    parser = argparse.ArgumentParser()
    add_dashboard_command(parser.add_subparsers())
    given = parser.parse_args(service["entrypoint"][1:])
    assert (given.port, given.address) == (PORT, "0.0.0.0")


# The servers' configuration
def test_kafka_is_configured_as_on_one_machine() -> None:
    template = properties((TEMPLATES / "kafka.properties").read_text())
    given = environment("kafka")
    names = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in template.items()}
    own = {"KAFKA_HEAP_OPTS", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"}
    assert set(names) == set(given) - own
    assert {n: given[n] for n, v in names.items() if "$" not in v} == {
        n: v for n, v in names.items() if "$" not in v
    }


@pytest.mark.parametrize("file", ["core-site.xml", "hdfs-site.xml"])
def test_hdfs_is_configured_as_on_one_machine(file: str) -> None:
    template = properties((TEMPLATES / file).read_text())
    given = properties((ROOT / "docker" / "hdfs" / file).read_text())
    assert set(given) == set(template)
    assert {n: given[n] for n, v in template.items() if "$" not in v} == {
        n: v for n, v in template.items() if "$" not in v
    }


def test_the_name_node_is_formatted_once(tmp_path: Path) -> None:
    names, calls = tmp_path / "name", tmp_path / "calls"
    fake = tmp_path / "bin" / "hdfs"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\n'
        f'[ "$2" = -format ] && mkdir -p {names}/current && touch {names}/current/VERSION\nexit 0\n'
    )
    fake.chmod(0o755)
    environ = {"PATH": f"{fake.parent}:/usr/bin:/bin", "HDFS_NAMES": str(names)}
    script = ["bash", str(ROOT / "docker" / "hdfs" / "start.sh")]
    for server in ("namenode", "namenode", "datanode"):
        subprocess.run([*script, server], env=environ, check=True)
    assert calls.read_text().splitlines() == [
        "namenode -format -nonInteractive -force",
        "namenode",
        "namenode",
        "datanode",
    ]
    wrong = subprocess.run(
        [*script, "secondary"], check=False, env=environ, capture_output=True, text=True
    )
    assert wrong.returncode == 64
    assert "'secondary' is not one of namenode, datanode" in wrong.stderr
    assert [services()[n]["command"] for n in ("namenode", "datanode")] == [
        ["namenode"],
        ["datanode"],
    ]
