"""Make what Airflow's containers need before they start; run by each `docker compose up`.

The databases that the environment names, the store's and Airflow's tables at this version, and the
file with the password of `admin`. What is there already stays.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from streamkeeper_apps.local.airflow import ADMIN
from streamkeeper_apps.local.places import write_private
from streamkeeper_io.store import Store

_METADATA = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_PASSWORDS_FILE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
_PASSWORD = "AIRFLOW_ADMIN_PASSWORD"


def databases(environ: Mapping[str, str]) -> set[str]:
    """Return the databases that Airflow and its PostgreSQL connections name."""
    found = {make_url(environ[_METADATA]).database or ""}
    for name, text in environ.items():
        if name.startswith("AIRFLOW_CONN_"):
            connection = json.loads(text)
            if connection["conn_type"] == "postgres":
                found.add(connection["schema"])
    return found


def make_databases(environ: Mapping[str, str]) -> None:
    """Make the databases that are missing, by the account of Airflow's metadata."""
    url = make_url(environ[_METADATA]).set(drivername="postgresql", database="postgres")
    address = url.render_as_string(hide_password=False)
    with psycopg.connect(address, connect_timeout=10, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("select datname from pg_database")}
        for name in sorted(databases(environ) - there):
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def write_passwords(environ: Mapping[str, str]) -> None:
    """Write the file that the API server reads, so that it makes and prints no password."""
    write_private(Path(environ[_PASSWORDS_FILE]), json.dumps({ADMIN: environ[_PASSWORD]}) + "\n")


def main() -> None:
    """Do all of it; an error ends the container, and the components do not start."""
    make_databases(os.environ)
    store = Store(os.environ["STREAMKEEPER_STORE"])
    store.migrate()
    store.close()
    subprocess.run(["airflow", "db", "migrate"], check=True)
    write_passwords(os.environ)


if __name__ == "__main__":
    main()
