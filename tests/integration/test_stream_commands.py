"""`streamkeeper stream ...` against a real driver and store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from drivers import Drivers, landed, send, wait_for
from readings import reading, temperature
from topics import declare

from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.cli import main
from streamkeeper_io.store import Store


@pytest.fixture
def spec(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """Declare a stream in a folder that commands read, with the settings of the run."""
    made = temperature(settings, windows=False)
    declare(made, tmp_path / "streams")
    given = settings.model_copy(update={"streams": tmp_path / "streams"})
    for name, value in (given.environment() | {"COLUMNS": "200"}).items():
        monkeypatch.setenv(name, value)
    return made


def test_status_restart_and_stop_of_a_running_driver(
    settings: Settings,
    store: Store,
    drivers: Drivers,
    spec: Spec,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["stream", "status", spec.name]) == 1
    assert "never launched" in capsys.readouterr().out

    first = drivers.start([spec])
    send(settings, spec.source.kafka.topic, [reading(n) for n in range(500)])
    wait_for(lambda: landed(settings, spec) == 500, "500 landed rows")
    query = f"{spec.name}/land"
    wait_for(lambda: first.progress("queries", query).get("rows") == 500, "a heartbeat of them")
    assert main(["stream", "status", spec.name]) == 0
    shown = capsys.readouterr().out
    assert "running" in shown
    assert "runs" in shown
    assert f"land: batch {first.progress('queries', query)['batch']}, 500 rows" in shown

    with ThreadPoolExecutor(1) as pool:
        restarting = pool.submit(main, ["stream", "restart", spec.name])
        assert first.exit_code() == EXIT_DRAINED
        second = drivers.start([spec])  # what the keeper does
        assert restarting.result(120) == 0
    shown = capsys.readouterr().out
    assert f"launch {first.launch.epoch} is asked to drain the batch in hand" in shown
    assert f"launch {first.launch.epoch} drained, after" in shown
    assert f"launch {second.launch.epoch} runs" in shown
    assert store.desired(spec.name) == "running"

    assert main(["stream", "stop", spec.name]) == 0
    assert f"launch {second.launch.epoch} drained, after" in capsys.readouterr().out
    assert store.desired(spec.name) == "stopped"
    assert second.exit_code() == EXIT_DRAINED
    assert second.row().stop_requested_by != ""
    assert main(["stream", "stop", spec.name]) == 0
    assert "no driver runs" in capsys.readouterr().out
    assert main(["stream", "status", spec.name]) == 0, "a stopped stream need not live"


def test_start_without_a_keeper_says_what_to_look_at(
    spec: Spec, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.set_desired(spec.name, "stopped", "a test")
    assert main(["stream", "start", spec.name, "--wait", "0"]) == 0
    assert store.desired(spec.name) == "running"
    assert main(["stream", "start", spec.name, "--wait", "1"]) == 1
    assert f"is the DAG keep__{spec.app} unpaused" in capsys.readouterr().out
    assert main(["stream", "stop", "temprature"]) == 1
    assert "no stream 'temprature' is declared" in capsys.readouterr().err


def test_a_store_that_is_away_is_exit_code_75(
    spec: Spec,
    unused_address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STREAMKEEPER_STORE", f"postgresql+psycopg://x@{unused_address}/x")
    assert main(["stream", "status", spec.name]) == 75
    told = capsys.readouterr().err
    assert told.startswith("error: the store at postgresql+psycopg://x@127.0.0.1:")
    assert "Traceback" not in told
