"""Ports that stay, secrets that are made once, an environment that is marked."""

from __future__ import annotations

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamkeeper.errors import SettingsError
from streamkeeper_apps.local.airflow import is_loopback
from streamkeeper_apps.local.places import STACK_VARIABLE, Places, parse_ports
from streamkeeper_apps.local.postgres import unprivileged


def test_a_port_stays_the_same_across_starts(tmp_path: Path) -> None:
    first = Places.at(tmp_path, environ={}).ports.get("kafka")
    assert Places.at(tmp_path, environ={}).ports.get("kafka") == first


def test_two_names_never_get_one_port(tmp_path: Path) -> None:
    ports = Places.at(tmp_path, environ={}).ports
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ports.get, [f"server{n}" for n in range(50)]))
    assert len(set(found)) == 50


def test_a_wanted_port_replaces_the_chosen_one(tmp_path: Path) -> None:
    Places.at(tmp_path, environ={}).ports.get("kafka")
    again = Places.at(tmp_path, environ={"STREAMKEEPER_PORTS": "kafka=21234"})
    assert again.ports.get("kafka") == 21234


def test_a_customary_port_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        known = taken.getsockname()[1]
        ports = Places.at(tmp_path, prefer_known=True, environ={}).ports
        assert ports.get("kafka", known) != known
    assert ports.get("other", known) == known


@pytest.mark.parametrize("text", ["kafka", "kafka=", "kafka=x", "kafka=0", "kafka=70000"])
def test_malformed_ports_are_told(text: str) -> None:
    with pytest.raises(SettingsError, match="is not NAME=PORT; write kafka=9092"):
        parse_ports(text)


def test_two_askers_get_one_secret_that_only_the_owner_reads(tmp_path: Path) -> None:
    places = Places.at(tmp_path, environ={})
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: places.secret("postgres"), range(40)))
    assert len(found) == 1
    [file] = (tmp_path / "secrets").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Places.at(tmp_path, environ={}).secret("postgres") in found


def test_the_environment_is_marked_and_free_of_the_callers_airflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")
    places = Places.at(tmp_path, environ={})
    environment = places.environment()
    assert environment[STACK_VARIABLE] == places.stack_id
    assert not [name for name in environment if name.startswith("AIRFLOW")]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("my.host", False),
    ],
)
def test_only_loopback_goes_without_a_password(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_postgresql_never_runs_as_root() -> None:
    assert unprivileged(["postgres"], uid=1000) == ["postgres"]
    command = unprivileged(["postgres"], uid=0)
    assert command[-1] == "postgres"
    assert "--reuid=0" not in command
    assert any(part.startswith("--reuid=") for part in command)
