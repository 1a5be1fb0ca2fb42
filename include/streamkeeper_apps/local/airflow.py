"""Airflow's four components, with LocalExecutor and their metadata in PostgreSQL."""

from __future__ import annotations

import base64
import ipaddress
import json
import math
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import httpx

from streamkeeper.settings import Settings
from streamkeeper_apps.local.places import CHECKOUT, LOOPBACK, Places, write_private
from streamkeeper_apps.local.postgres import AIRFLOW_DATABASE, SINKS_DATABASE, Postgres
from streamkeeper_apps.local.server import Server, ServerFailed, digest_of_code

ADMIN = "admin"
HOST_VARIABLE = "STREAMKEEPER_AIRFLOW_HOST"
_HEALTH_EVERY_S = 0.9


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a host's address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


class AirflowHome:
    """What the four components share: configuration and connections, all by environment.

    Parameters: places; java, Java's home; postgres, holds the metadata; settings, asked for the
    servers' addresses; smtp_port and webhdfs_port; host, the address to bind the UI to: anything
    but loopback asks for a password; dags, the folder of the DAG files.
    """

    def __init__(
        self,
        places: Places,
        java: Path,
        postgres: Postgres,
        settings: Callable[[], Settings],
        *,
        smtp_port: Callable[[], int],
        webhdfs_port: Callable[[], int],
        host: str = LOOPBACK,
        dags: Path = CHECKOUT / "dags",
    ) -> None:
        self.places, self.java, self.postgres = places, java, postgres
        self.settings, self.host, self.dags = settings, host, dags
        self._smtp_port, self._webhdfs_port = smtp_port, webhdfs_port
        self._asking, self._asked_at = threading.Lock(), -math.inf
        self._health: dict[str, Any] = {}

    @property
    def folder(self) -> Path:
        """AIRFLOW_HOME."""
        return self.places.root / "airflow"

    @property
    def port(self) -> int:
        """The port of UI and API."""
        return self.places.ports.get("airflow", 8080)

    @property
    def url(self) -> str:
        """The address of UI and API for this machine."""
        host = LOOPBACK if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"

    @property
    def asks_password(self) -> bool:
        """Whether UI and API ask for a password."""
        return not is_loopback(self.host)

    @property
    def password(self) -> str:
        """The password of `admin`, asked for unless the UI is bound to loopback."""
        return self.places.secret("airflow-admin")

    def command(self, *arguments: str) -> list[str]:
        """The command line of Airflow's own command."""
        return [sys.executable, "-m", "airflow", *arguments]

    def environment(self) -> dict[str, str]:
        """The environment of every component, and so of the tasks that they start."""
        settings = self.settings()
        return {
            "AIRFLOW_HOME": str(self.folder),
            **{f"AIRFLOW__{name}": value for name, value in self._options().items()},
            **{
                f"AIRFLOW_CONN_{name.upper()}": json.dumps(value)
                for name, value in self._connections(settings).items()
            },
            "STREAMKEEPER_STREAMS": str(settings.streams),
            "STREAMKEEPER_STATE": str(settings.state),
            "STREAMKEEPER_JARS": str(settings.jars),
            "JAVA_HOME": str(self.java),
            "PATH": f"{Path(sys.executable).parent}:{self.java / 'bin'}:{os.environ['PATH']}",
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str(self.places.root / "tmp" / "spark"),
        }

    def _options(self) -> dict[str, str]:
        metadata = self.postgres.url(AIRFLOW_DATABASE)
        return {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__PLUGINS_FOLDER": str(self.places.checkout / "plugins"),
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DEFAULT_TIMEZONE": "utc",
            "CORE__FERNET_KEY": self.places.secret("airflow-fernet", _fernet_key),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(not self.asks_password),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
            "DATABASE__SQL_ALCHEMY_CONN": metadata,
            "DATABASE__SQL_ALCHEMY_CONN_ASYNC": metadata,
            "API__HOST": self.host,
            "API__PORT": str(self.port),
            "API__BASE_URL": self.url,
            "API__WORKERS": "1",
            "API__SECRET_KEY": self.places.secret("airflow-api"),
            "API_AUTH__JWT_SECRET": self.places.secret(
                "airflow-jwt", lambda: secrets.token_hex(32)
            ),
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
            "LOGGING__BASE_LOG_FOLDER": str(self.places.root / "logs" / "airflow_tasks"),
            "LOGGING__COLORED_CONSOLE_LOG": "False",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def _connections(self, settings: Settings) -> dict[str, dict[str, Any]]:
        cassandra_host, _, cassandra_port = settings.cassandra.partition(":")
        lake_host, _, lake_port = settings.lake.removeprefix("hdfs://").partition(":")
        return {
            "spark_default": _spark_connection(settings.spark_master),
            "kafka_default": {
                "conn_type": "kafka",
                "extra": {"bootstrap.servers": settings.kafka},
            },
            "cassandra_default": {
                "conn_type": "cassandra",
                "host": cassandra_host,
                "port": int(cassandra_port),
            },
            "webhdfs_default": {
                "conn_type": "webhdfs",
                "host": lake_host,
                "port": self._webhdfs_port(),
                "extra": {"rpc_port": int(lake_port)},
            },
            "smtp_default": {
                "conn_type": "smtp",
                "host": LOOPBACK,
                "port": self._smtp_port(),
                "extra": {
                    "disable_ssl": True,
                    "disable_tls": True,
                    "from_email": "streamkeeper@localhost",
                },
            },
            "streamkeeper_db": {"conn_type": "postgres", **self.postgres.parts()},
            "postgres_default": {
                "conn_type": "postgres",
                **self.postgres.parts(),
                "schema": SINKS_DATABASE,
            },
        }

    @property
    def _passwords_file(self) -> Path:
        return self.places.root / "secrets" / "airflow-passwords.json"

    def write_passwords(self) -> None:
        """Write the password file that Airflow reads, so that it makes and prints none."""
        text = json.dumps({ADMIN: self.password}) + "\n"
        if not self._passwords_file.exists() or self._passwords_file.read_text() != text:
            write_private(self._passwords_file, text)

    def health(self) -> dict[str, Any]:
        """Airflow's own account of its components; raises httpx.HTTPError when it gives none.

        Four components ask while they start; one answer a second serves them all.
        """
        with self._asking:
            if time.monotonic() - self._asked_at > _HEALTH_EVERY_S:
                address = f"{self.url}/api/v2/monitor/health"
                answer = httpx.get(address, timeout=5, trust_env=False).raise_for_status()
                self._health, self._asked_at = answer.json(), time.monotonic()
            return self._health


def _spark_connection(master: str) -> dict[str, Any]:
    extra = {"deploy-mode": "client", "spark-binary": "spark-submit"}
    host, colon, port = master.rpartition(":")
    if colon and port.isdigit():
        return {"conn_type": "spark", "host": host, "port": int(port), "extra": extra}
    return {"conn_type": "spark", "host": master, "extra": extra}


class AirflowDatabase:
    """Not a server: brings Airflow's metadata to the installed version before the components."""

    name: ClassVar[str] = "airflow_db"
    needs: ClassVar[tuple[str, ...]] = ("postgres",)

    def __init__(self, home: AirflowHome) -> None:
        self.home = home

    def migrate(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Migrate unless the database is at this version; return whether it had to.

        Parameters: given_up, asked now and then; True ends the migration with ServerFailed.
        """
        stamp_file = self.home.places.root / "run" / "airflow_db.version"
        revision = self.home.postgres.airflow_revision()
        stamp = f"{version('apache-airflow-core')} {revision}"
        if revision and stamp_file.exists() and stamp_file.read_text() == stamp:
            return False
        log = self.home.places.log_folder(self.name) / "log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._run(log, given_up):
            end = log.read_text(errors="replace")[-2000:]
            raise ServerFailed(
                f"Airflow's database could not be migrated; the end of {log}:\n{end}"
            )
        revision = self.home.postgres.airflow_revision()
        write_private(stamp_file, f"{version('apache-airflow-core')} {revision}")
        return True

    def _run(self, log: Path, given_up: Callable[[], bool]) -> int:
        with log.open("ab") as output:
            migration = subprocess.Popen(
                self.home.command("db", "migrate"),
                env=self.home.places.environment() | self.home.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while True:
            with suppress(subprocess.TimeoutExpired):
                return migration.wait(timeout=0.5)
            if given_up():
                # One transaction: PostgreSQL undoes what it had begun.
                migration.kill()
                migration.wait()
                raise ServerFailed("Airflow's database was not migrated: the start was given up")


class AirflowComponent(Server):
    """One of the four; the API server's health page tells about the others."""

    needs: ClassVar[tuple[str, ...]] = ("airflow_db",)
    arguments: ClassVar[tuple[str, ...]]
    health_key: ClassVar[str]
    timeout_s: ClassVar[float] = 180
    grace_s: ClassVar[float] = 15

    def __init__(self, home: AirflowHome) -> None:
        super().__init__(home.places)
        self.home = home

    def argv(self) -> list[str]:
        return self.home.command(*self.arguments)

    def env(self) -> dict[str, str]:
        return self.home.environment()

    def fingerprint(self) -> str:
        """The code that a component keeps in memory once it has imported it."""
        checkout = self.home.places.checkout
        return digest_of_code(checkout / "plugins", checkout / "include")

    def prepare(self) -> None:
        self.home.folder.mkdir(exist_ok=True)
        self.home.write_passwords()

    def check(self) -> str | None:
        try:
            health = self.home.health()
        except httpx.HTTPError as error:
            return f"{self.home.url} does not answer ({type(error).__name__})"
        told = health.get(self.health_key) or {}
        if told.get("status") != "healthy":
            return f"Airflow tells of {self.health_key}: {told.get('status')}"
        return self._stale(told)

    def _stale(self, told: dict[str, Any]) -> str | None:
        """A heartbeat may still be that of the process before this one."""
        beat = told.get(f"latest_{self.health_key}_heartbeat")
        record = self.record()
        if beat is None or record is None:
            return None
        if datetime.fromisoformat(beat).astimezone(UTC) < record.started_at:
            return f"the last heartbeat of {self.health_key} is older than its process"
        return None


class ApiServer(AirflowComponent):
    """UI and API."""

    name: ClassVar[str] = "airflow_api"
    health_key: ClassVar[str] = "metadatabase"
    arguments: ClassVar[tuple[str, ...]] = ("api-server",)


class Scheduler(AirflowComponent):
    """The scheduler, which runs the tasks too; logs are read from the shared folder."""

    name: ClassVar[str] = "airflow_scheduler"
    health_key: ClassVar[str] = "scheduler"
    arguments: ClassVar[tuple[str, ...]] = ("scheduler", "--skip-serve-logs")


class Triggerer(AirflowComponent):
    """The triggerer."""

    name: ClassVar[str] = "airflow_triggerer"
    health_key: ClassVar[str] = "triggerer"
    arguments: ClassVar[tuple[str, ...]] = ("triggerer", "--skip-serve-logs")


class DagProcessor(AirflowComponent):
    """The DAG processor."""

    name: ClassVar[str] = "airflow_dag_processor"
    health_key: ClassVar[str] = "dag_processor"
    arguments: ClassVar[tuple[str, ...]] = ("dag-processor",)


COMPONENTS = (ApiServer, Scheduler, Triggerer, DagProcessor)
