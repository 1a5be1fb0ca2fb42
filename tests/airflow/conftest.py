"""Airflow's libraries on a home of their own, without servers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Airflow reads its configuration when it is imported, which is while these tests are collected.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="streamkeeper-airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Airflow the connections that `make up` would make."""
    for name, text in {
        "streamkeeper_db": '{"conn_type": "postgres", "host": "/run/pg dir", "login": "keeper",'
        ' "password": "p@ss/word", "schema": "streamkeeper"}',
        "kafka_default": '{"conn_type": "kafka", "extra": {"bootstrap.servers": "k:9092"}}',
        "webhdfs_default": '{"conn_type": "webhdfs", "host": "nn", "port": 9870,'
        ' "extra": {"rpc_port": 9000}}',
        "cassandra_default": '{"conn_type": "cassandra", "host": "c1,c2", "port": 9142}',
        "spark_default": '{"conn_type": "spark", "host": "local[*]",'
        ' "extra": {"conf": {"spark.driver.memory": "3g"}}}',
        "smtp_default": '{"conn_type": "smtp", "host": "localhost", "port": 8026}',
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", text)
