"""The work of `airflow-init` in docker-compose.yaml, on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from compose_file import environment
from streamkeeper.settings import Settings
from streamkeeper_io.store import Store

PREPARE = Path(__file__).parents[2] / "docker" / "airflow" / "prepare.py"


@pytest.fixture
def names(settings: Settings) -> Iterator[dict[str, str]]:
    """Names of databases that are not there, by what they are for; dropped afterwards."""
    mark = uuid.uuid4().hex[:8]
    found = {kind: f"{kind}_{mark}" for kind in ("metadata", "store", "sinks")}
    yield found
    address = make_url(settings.store).set(drivername="postgresql", database="postgres")
    text = address.render_as_string(hide_password=False)
    with psycopg.connect(text, autocommit=True) as session:
        for name in found.values():
            drop = sql.SQL("drop database if exists {} with (force)")
            session.execute(drop.format(sql.Identifier(name)))


def url_of(settings: Settings, database: str) -> str:
    return make_url(settings.store).set(database=database).render_as_string(hide_password=False)


def connection(database: str) -> str:
    return json.dumps({"conn_type": "postgres", "schema": database})


def test_databases_tables_and_password_are_made_and_made_once(
    settings: Settings, names: dict[str, str], tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords.json"
    metadata = url_of(settings, names["metadata"])
    environ = {n: v for n, v in os.environ.items() if not n.startswith("AIRFLOW")}
    environ |= environment("airflow-init") | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": metadata,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW_ADMIN_PASSWORD": "of this test",
        "AIRFLOW_CONN_STREAMKEEPER_DB": connection(names["store"]),
        "AIRFLOW_CONN_POSTGRES_DEFAULT": connection(names["sinks"]),
        "STREAMKEEPER_STORE": url_of(settings, names["store"]),
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(PREPARE)], env=environ, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    store = Store(url_of(settings, names["store"]))
    assert store.holder("driver", "nobody") is None
    store.close()
    for kind, table in (("metadata", "dag_run"), ("sinks", None)):
        text = url_of(settings, names[kind]).replace("+psycopg", "")
        with psycopg.connect(text) as session:
            row = session.execute("select to_regclass('dag_run')::text").fetchone()
            assert row == (table,)
    assert json.loads(passwords.read_text()) == {"admin": "of this test"}
