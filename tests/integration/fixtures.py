"""Real servers for the whole run: started once, in a folder and on ports of their own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from closes import close_session
from drivers import Drivers, running_drivers
from keeping import Airflow
from pyspark.sql import SparkSession

from streamkeeper.settings import Settings
from streamkeeper_apps.local.airflow_api import AirflowApi
from streamkeeper_apps.local.leftovers import stop_launches
from streamkeeper_apps.local.scratch import scratch_root
from streamkeeper_apps.local.stack import AIRFLOW_SERVERS, DATA_SERVERS, SCRATCH_FOLDER, LocalStack
from streamkeeper_io.store import Store

__all__ = ["airflow", "drivers", "settings", "spark", "stack", "store", "unused_address"]
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """Kafka, HDFS, Cassandra, PostgreSQL and the mail server, empty at the start of the run.

    What a killed run left behind is ended first.
    """
    root = scratch_root(CHECKOUT / ".local" / SCRATCH_FOLDER)
    servers = LocalStack(root, DATA_SERVERS, jars=CHECKOUT / ".local" / "jars")
    try:
        servers.up()
        yield servers
    finally:
        servers.down()


@pytest.fixture(scope="session")
def settings(stack: LocalStack) -> Settings:
    """The settings that lead to the run's servers."""
    return stack.settings()


@pytest.fixture(scope="session")
def store(settings: Settings) -> Iterator[Store]:
    """The run's store."""
    opened = Store(settings.store)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def spark(settings: Settings) -> Iterator[SparkSession]:
    """One session for a file's landings and closes, as a close has it."""
    with close_session(settings) as session:
        yield session


@pytest.fixture
def drivers(settings: Settings, store: Store, tmp_path: Path) -> Iterator[Drivers]:
    """A starter of drivers; whatever it started is gone afterwards."""
    with running_drivers(settings, tmp_path) as found:
        yield found


@pytest.fixture
def unused_address() -> str:
    """An address on loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="session")
def airflow(
    stack: LocalStack, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    """Airflow's four components; they and all that they launched are gone afterwards."""
    streams = tmp_path_factory.mktemp("streams")
    servers = LocalStack(
        stack.places.root, AIRFLOW_SERVERS, jars=stack.places.jars, streams=streams
    )
    try:
        servers.up()
        with AirflowApi(servers.airflow.url) as api:
            yield Airflow(api, servers, streams)
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(servers.stop, AIRFLOW_SERVERS))
        stop_launches(servers.places, 5, servers.told)
