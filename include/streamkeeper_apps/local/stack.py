"""A stack: the servers of one root folder, started side by side, ended together."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from streamkeeper.connections.postgres import CONNECTION as POSTGRES
from streamkeeper.errors import StreamkeeperError
from streamkeeper.settings import Settings
from streamkeeper_apps.local.airflow import (
    COMPONENTS,
    HOST_VARIABLE,
    AirflowDatabase,
    AirflowHome,
)
from streamkeeper_apps.local.cassandra import Cassandra
from streamkeeper_apps.local.dashboard import Dashboard
from streamkeeper_apps.local.hdfs import DataNode, NameNode
from streamkeeper_apps.local.java import find_java
from streamkeeper_apps.local.kafka import Kafka
from streamkeeper_apps.local.leftovers import end_belonging, stop_launches
from streamkeeper_apps.local.mail import Mail
from streamkeeper_apps.local.memory import pss_kib
from streamkeeper_apps.local.places import LOOPBACK, Places, write_private
from streamkeeper_apps.local.postgres import SINKS_DATABASE, STORE_DATABASE, Postgres
from streamkeeper_apps.local.progress import Silent, Told
from streamkeeper_apps.local.scratch import end_orphans
from streamkeeper_apps.local.server import Server, ServerFailed
from streamkeeper_apps.local.spark import SparkMaster, SparkWorker

DATA_SERVERS = ("kafka", "namenode", "datanode", "cassandra", "postgres", "mail")
PAGES = ("dashboard",)
SPARK_SERVERS = ("spark_master", "spark_worker")
AIRFLOW_SERVERS = tuple(component.name for component in COMPONENTS)
SETTINGS_FILE = "settings.json"
SCRATCH_FOLDER = "tests"
_LAUNCH_GRACE_S = 15


class ServerStatus(BaseModel):
    """One server as `status` shows it: memory in MiB is the share (PSS) of all its processes."""

    name: str
    state: str
    pid: int | None = None
    memory_mib: int = 0
    detail: str = ""


class LocalStack:
    """Real servers on loopback, in one root folder.

    Parameters: root, folder of all that they write; servers, the names of those wanted; jars, the
    folder of the locked jars (default: `jars` in the root); prefer_known, take the customary ports
    where they are free; streams, folder of the declarations; dags, folder of the DAG files; told,
    hears the progress.
    """

    def __init__(
        self,
        root: Path,
        servers: Sequence[str] = DATA_SERVERS,
        *,
        jars: Path | None = None,
        prefer_known: bool = False,
        streams: Path | None = None,
        dags: Path | None = None,
        told: Told | None = None,
    ) -> None:
        self.places = Places.at(root, jars, prefer_known=prefer_known)
        self.told = told or Silent()
        self._streams = streams or self.places.checkout / "include" / "streams"
        self._dags = dags or self.places.checkout / "dags"
        java = find_java(self.places.root / "cache" / "java")
        self.all = self._all_servers(java)
        unknown = set(servers) - set(self.all)
        if unknown:
            raise StreamkeeperError(
                f"unknown servers: {', '.join(sorted(unknown))}; valid: {', '.join(self.all)}"
            )
        self.wanted = [self.all[name] for name in self.all if name in servers]

    def _all_servers(self, java: Path) -> dict[str, Server]:
        places = self.places
        self.kafka, self.cassandra = Kafka(places, java), Cassandra(places, java)
        self.namenode, self.datanode = NameNode(places, java), DataNode(places, java)
        self.postgres, self.mail = Postgres(places), Mail(places)
        self.spark_master = SparkMaster(places, java)
        self.airflow = AirflowHome(
            places,
            java,
            self.postgres,
            self.settings,
            smtp_port=lambda: self.mail.port,
            webhdfs_port=lambda: self.namenode.http_port,
            host=os.environ.get(HOST_VARIABLE, LOOPBACK),
            dags=self._dags,
        )
        self.dashboard = Dashboard(places, self.settings)
        self.airflow_database = AirflowDatabase(self.airflow)
        found: list[Server] = [
            *(self.kafka, self.namenode, self.datanode, self.cassandra, self.postgres, self.mail),
            *(self.spark_master, SparkWorker(places, java)),
            *(component(self.airflow) for component in COMPONENTS),
            self.dashboard,
        ]
        return {server.name: server for server in found}

    # Addresses
    def settings(self) -> Settings:
        """The settings that lead every part of Streamkeeper to these servers."""
        root, on_spark = self.places.root, self.spark_master in self.wanted
        return Settings(
            streams=self._streams,
            state=root / "state",
            store=self.postgres.url(STORE_DATABASE),
            kafka=self.kafka.address,
            lake=self.namenode.address,
            cassandra=self.cassandra.address,
            postgres={POSTGRES: self.postgres.url(SINKS_DATABASE)},
            jars=self.places.jars,
            spark_master=self.spark_master.address if on_spark else "local[*]",
        )

    @property
    def settings_file(self) -> Path:
        """The settings as a file, readable by its owner only."""
        return self.places.root / SETTINGS_FILE

    # Start and end
    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the root's lock: one `up` or `down` at a time."""
        with (self.places.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def up(self) -> Settings:
        """Start what does not run, end what is stale, wait until all of it serves.

        Returns the settings, which are written to `settings.json` too. Raises ServerFailed with
        the end of the log of the first server that did not start.
        """
        with self._alone():
            end_orphans(self.places.root / SCRATCH_FOLDER)
            kept = self._keepable()
            failed = threading.Event()
            run_in_order(self._steps(), lambda step: self._bring_up(step, kept, failed), failed.set)
            settings = self.settings()
            text = json.dumps(settings.model_dump(mode="json"), indent=1)
            write_private(self.settings_file, text)
        return settings

    def _keepable(self) -> set[str]:
        with ThreadPoolExecutor(len(self.wanted) or 1) as pool:
            answers = pool.map(lambda server: server.keepable(), self.wanted)
            return {server.name for server, keep in zip(self.wanted, answers, strict=True) if keep}

    def _steps(self) -> list[Server | AirflowDatabase]:
        """The wanted servers, and Airflow's database before its components."""
        if any(server.name in AIRFLOW_SERVERS for server in self.wanted):
            return [*self.wanted, self.airflow_database]
        return list(self.wanted)

    def _bring_up(
        self, step: Server | AirflowDatabase, kept: set[str], failed: threading.Event
    ) -> None:
        self.told.begin(step.name)
        outcome = "runs" if step.name in kept else "ready"
        try:
            if failed.is_set():
                raise ServerFailed(f"{step.name} was not started: the start was given up")
            if isinstance(step, AirflowDatabase):
                outcome = "ready" if step.migrate(failed.is_set) else "runs"
            elif step.name in kept:
                step.completed()
            else:
                step.start()
                step.wait_ready(failed.is_set)
        except BaseException:
            outcome = "left out" if failed.is_set() else "failed"
            failed.set()
            raise
        finally:
            self.told.end(step.name, outcome)

    def down(self) -> None:
        """End all servers of the root, wanted or not, and all launches and their processes."""
        with self._alone():
            # Airflow first, for it would launch again what is ended after it; PostgreSQL last,
            # for the others still say their last words to it.
            self._bring_down([self.all[name] for name in AIRFLOW_SERVERS])
            stop_launches(self.places, _LAUNCH_GRACE_S, self.told)
            rest = [s for n, s in self.all.items() if n not in (*AIRFLOW_SERVERS, "postgres")]
            self._bring_down(rest)
            self._bring_down([self.postgres])
            end_belonging(self.places)
            end_orphans(self.places.root / SCRATCH_FOLDER)

    def end_now(self) -> None:
        """End everything by SIGKILL, without asking; what was committed is kept all the same."""
        end_belonging(self.places, grace_s=0)

    def _bring_down(self, servers: Sequence[Server]) -> None:
        def end(server: Server) -> None:
            if server.record() is not None:
                self.told.begin(server.name)
                server.stop()
                self.told.end(server.name, "ended")

        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(end, servers))

    # One server
    def start(self, name: str) -> None:
        """Start one server and wait until it serves."""
        self.all[name].start()
        self.all[name].wait_ready()

    def stop(self, name: str) -> None:
        """End one server; its data stay."""
        self.all[name].stop()

    def restart(self, name: str) -> None:
        """End one server and start it again with its data."""
        self.stop(name)
        self.start(name)

    def kill(self, name: str) -> None:
        """End one server by SIGKILL, as a crash would."""
        self.all[name].kill()

    def status(self) -> list[ServerStatus]:
        """Ask every server that was started."""
        started = [
            server for server in self.all.values() if server.record() or server in self.wanted
        ]
        with ThreadPoolExecutor(len(started) or 1) as pool:
            return list(pool.map(_status_of, started))


def _status_of(server: Server) -> ServerStatus:
    if not server.alive():
        state = "down" if server.record() is None else "dead"
        return ServerStatus(name=server.name, state=state)
    members = server.members()
    memory = sum(pss_kib(member.pid) for member in members) >> 10
    main = server.main_process()
    wrong = server.check()
    return ServerStatus(
        name=server.name,
        state="serves" if wrong is None else "unwell",
        pid=main.pid if main else None,
        memory_mib=memory,
        detail=wrong or "",
    )


class Ordered(Protocol):
    """Something with a name that comes after others."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of those that come before it."""


Step = TypeVar("Step", bound=Ordered)


def run_in_order(
    steps: Sequence[Step], work: Callable[[Step], None], give_up: Callable[[], None]
) -> None:
    """Do something for each step side by side, each after those that it needs.

    Parameters: steps; work, done in a thread for each; give_up, called when the caller is
    interrupted, so that the threads come to an end.
    Raises the first error that happened; steps that need the failed one are left out.
    """
    if not steps:
        return
    errors: list[BaseException] = []
    done: dict[str, Future[None]] = {step.name: Future() for step in steps}

    def one(step: Step) -> None:
        own = done[step.name]
        try:
            for name in step.needs:
                if name in done:
                    done[name].result()
            work(step)
        except BaseException as error:
            errors.append(error)
            own.set_exception(error)
        else:
            own.set_result(None)

    # As many threads as steps: one that waits for another never keeps it from running.
    with ThreadPoolExecutor(len(steps)) as pool:
        try:
            list(pool.map(one, steps))
        except BaseException:
            give_up()
            raise
    if errors:
        raise errors[0]
