"""Settings from Airflow's connections, so that addresses are kept in one place."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from streamkeeper import connections
from streamkeeper.connections import (
    cassandra_options,
    kafka_options,
    lake_options,
    postgres_options,
    store_options,
)
from streamkeeper.connections.lake import lake_address
from streamkeeper.errors import SettingsError
from streamkeeper.redaction import is_secret
from streamkeeper.settings import Settings
from streamkeeper.statsd import StatsdTarget

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from streamkeeper.spec.models import Spec
    from streamkeeper_io.store import Store

STORE = connections.store.CONNECTION
KAFKA = connections.kafka.CONNECTION
LAKE = connections.lake.CONNECTION
CASSANDRA = connections.cassandra.CONNECTION
SPARK = "spark_default"
MAIL = "smtp_default"


def home() -> Path:
    """The folder that holds dags/, spark_apps/ and include/."""
    return Path(conf.get("core", "dags_folder")).resolve().parent


def folders() -> Settings:
    """Settings with the folders only, from the environment; relative ones lie below `home()`."""
    found = Settings.from_environment()
    base = home()
    return found.model_copy(
        update={name: base / getattr(found, name) for name in ("streams", "files", "state", "jars")}
    )


def settings_from_connections(specs: Iterable[Spec] = ()) -> Settings:
    """Return the settings of this Airflow.

    Parameters: specs, whose sinks name further connections.
    Raises SettingsError when a connection is missing, lacks an address, or has options that are
    unknown or contradict one another.
    """
    # Not at the top: DAG files are parsed often, and pyarrow is heavy.
    from streamkeeper_io.lake import use_lake

    kafka, lake, cassandra, spark = map(_connection, (KAFKA, LAKE, CASSANDRA, SPARK))
    found = folders().model_copy(
        update={
            "store": store_url(_connection(STORE)),
            "kafka": kafka_servers(kafka),
            "kafka_options": kafka_options(kafka.extra_dejson),
            "lake": lake_address(_host(lake, LAKE), lake.extra_dejson),
            "lake_options": lake_options(lake.extra_dejson),
            "postgres": {
                name: sink_url(name, _connection(name))
                for name in sorted({n for spec in specs for n in spec.postgres_connections()})
            },
            "cassandra": _address(cassandra, 9042),
            "cassandra_options": cassandra_options(
                cassandra.extra_dejson, cassandra.login or "", cassandra.password or ""
            ),
            "spark_master": _spark_master(spark),
            "spark_secrets": spark_properties(spark, secret=True),
            "statsd": statsd_settings(),
        }
    )
    for secret in found.secrets():
        _hide(secret)
    use_lake(found)
    return found


def statsd_settings() -> dict[str, str]:
    """Return where Airflow sends its own metrics over StatsD; empty when it sends none."""
    switches = ("statsd_on", "statsd_datadog_enabled")
    if not any(conf.getboolean("metrics", name, fallback=False) for name in switches):
        return {}
    return StatsdTarget(
        host=conf.get("metrics", "statsd_host", fallback="localhost"),
        port=conf.getint("metrics", "statsd_port", fallback=8125),
        prefix=conf.get("metrics", "statsd_prefix", fallback="airflow"),
        ipv6=conf.getboolean("metrics", "statsd_ipv6", fallback=False),
        allow=conf.get("metrics", "metrics_allow_list", fallback="") or "",
        block=conf.get("metrics", "metrics_block_list", fallback="") or "",
    ).dump()


@functools.lru_cache(maxsize=64)
def _hide(secret: str) -> None:
    """Let Airflow mask a secret in its logs; once a process, for each time is a message to it."""
    mask_secret(secret)


def store_from_connection() -> Store:
    """Return the store of the connection `streamkeeper_db`; one a process and address."""
    return _store(store_url(_connection(STORE)))


@functools.lru_cache(maxsize=4)
def _store(url: str) -> Store:
    from streamkeeper_io.store import Store

    return Store(url)


def store_url(connection: Connection) -> str:
    """Return SQLAlchemy's URL of a PostgreSQL connection; `/...` as host is a socket's folder.

    Raises SettingsError for unknown options.
    """
    return _url(connection, store_options(connection.extra_dejson), "streamkeeper")


def sink_url(name: str, connection: Connection) -> str:
    """Return the address of a sink's database; SettingsError when it does not tell which."""
    if not connection.schema:
        raise SettingsError(
            f"the connection {name!r} has no schema, the database's name; set it in Admin, "
            "Connections"
        )
    return _url(connection, postgres_options(connection.extra_dejson, name), connection.schema)


def _url(connection: Connection, options: dict[str, str], database: str) -> str:
    from sqlalchemy import URL

    host = connection.host or connection.extra_dejson.get("host") or ""
    socket = {"host": host} if host.startswith("/") else {}
    return URL.create(
        "postgresql+psycopg",
        username=connection.login or None,
        password=connection.password or None,
        host=None if socket else host or None,
        port=connection.port,
        database=connection.schema or database,
        query=socket | options,
    ).render_as_string(hide_password=False)


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a launched process: this one's without Airflow, plus settings."""
    # A child that inherits Airflow's variables would take part in this task's supervision.
    kept = {k: v for k, v in os.environ.items() if not k.lstrip("_").startswith("AIRFLOW")}
    return kept | spark_environment(settings)


def spark_environment(settings: Settings) -> dict[str, str]:
    """Return what spark-submit and Spark's Python processes need on top of the environment."""
    here = str(Path(sys.executable).parent)
    return settings.environment() | {
        "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)]),
        # Workers use another Python otherwise.
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def _connection(name: str) -> Connection:
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException:
        raise SettingsError(
            f"Airflow has no connection {name!r}; add it under Admin, Connections, "
            "or start the local servers with `make up`"
        ) from None


def kafka_servers(connection: Connection) -> str:
    """Return the bootstrap servers; SettingsError when there are none."""
    servers = connection.extra_dejson.get("bootstrap.servers")
    if not servers:
        raise SettingsError(
            f"the connection {KAFKA!r} has no bootstrap.servers in its extra; "
            'write {"bootstrap.servers": "host:9092"}'
        )
    return str(servers)


def spark_properties(connection: Connection, *, secret: bool) -> dict[str, str]:
    """Return `conf` of the Spark connection's extra: what is secret by its name, or the others."""
    found = connection.extra_dejson.get("conf", {})
    return {str(k): str(v) for k, v in found.items() if is_secret(str(k)) == secret}


def _address(connection: Connection, port: int) -> str:
    return ",".join(
        host if ":" in host else f"{host}:{connection.port or port}"
        for host in _host(connection, CASSANDRA).split(",")
    )


def _host(connection: Connection, name: str) -> str:
    if not connection.host:
        raise SettingsError(f"the connection {name!r} has no host; set it in Admin, Connections")
    return str(connection.host).split("://")[-1]


def _spark_master(connection: Connection) -> str:
    """Read the master as the Spark provider's hook does."""
    host = connection.host or ""
    if connection.conn_type != "spark" or (connection.port and "://" not in host):
        host = f"{connection.conn_type}://{host}"
    return f"{host}:{connection.port}" if connection.port else host
