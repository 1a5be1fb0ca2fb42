"""The command line: its answers, exit codes and texts, without servers."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamkeeper.errors import SettingsError
from streamkeeper.launches import Launch, Process
from streamkeeper_apps.cli import main
from streamkeeper_apps.control import age, how_it_ended, lives
from streamkeeper_apps.where import find_settings
from streamkeeper_io import processes

STREAMS = Path(__file__).parents[2] / "include" / "streams"
GOOD = (STREAMS / "temperature.yaml").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of declarations, and no settings of any checkout."""
    streams = tmp_path / "streams"
    streams.mkdir()
    # The nearest settings count: these, not those of the checkout that the tests' folder lies in.
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "settings.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(streams))
    for name in ("STORE", "KAFKA", "LAKE", "CASSANDRA"):
        monkeypatch.delenv(f"STREAMKEEPER_{name}", raising=False)
    return streams


def test_check_tells_what_is_declared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "temperature.yaml").write_text(GOOD, encoding="utf-8")
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("✓ temperature\n")
    assert "topic iot-temperature, 3 partitions -> /tmp/iot-data every 30s" in out
    assert "simulator: 20 entities, one message each 1s, from 3 hours back on" in out
    assert out.endswith("1 of 1 declaration can be used; 0 mistakes\n")


def test_check_tells_every_mistake_and_hides_no_good_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "temperature.yaml").write_text(GOOD, encoding="utf-8")
    (folder / "broken.yaml").write_text(GOOD.replace("json", "jsn").replace("[city]", "[town]"))
    (folder / "forgotten.yml").write_text("x")
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "✗ broken: " in out
    assert "source.format: 'jsn' is not one of the valid values; valid: json" in out
    assert "'town' no such field is declared" in out
    assert "✓ temperature" in out
    assert "forgotten.yml is not read; its name must end in .yaml" in out
    assert "1 of 2 declarations can be used" in out


def test_check_refuses_streams_that_write_one_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one.yaml").write_text(GOOD)
    (folder / "two.yaml").write_text(GOOD.replace("/tmp/iot-data", "/tmp/iot-data/two"))
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "one and two: lake.path /tmp/iot-data and /tmp/iot-data/two lie in one another" in out
    assert "one and two: both write the Cassandra table iot.temperature_city_30s" in out


def test_a_name_that_is_not_declared_shows_the_nearest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "temperature.yaml").write_text(GOOD, encoding="utf-8")
    assert main(["check", "temprature"]) == 1
    assert capsys.readouterr().err == (
        f"error: no stream 'temprature' is declared in {folder}; declared: temperature; "
        "did you mean 'temperature'?\n"
    )


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (["produce", "simulate", "temperature"], "STREAMKEEPER_KAFKA"),
        (["stream", "status"], "STREAMKEEPER_STORE"),
    ],
)
def test_a_missing_address_names_what_to_set(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], variable: str
) -> None:
    (folder / "temperature.yaml").write_text(GOOD, encoding="utf-8")
    assert main(command) == 1
    assert f"set {variable}, or start the local servers with `make up`" in capsys.readouterr().err


def test_kafka_away_is_told_with_its_address_and_exit_code_75(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "temperature.yaml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("STREAMKEEPER_KAFKA", "127.0.0.1:1")
    assert main(["produce", "simulate", "temperature", "--wait", "1"]) == 75
    told = capsys.readouterr()
    assert "Kafka at 127.0.0.1:1 does not answer within 1 s: " in told.err
    assert "Connection refused" in told.err
    assert "correct the connection kafka_default (STREAMKEEPER_KAFKA)" in told.err
    assert "Traceback" not in told.err + told.out


def test_a_file_that_is_not_there_is_told_before_kafka_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "temperature.yaml").write_text(
        GOOD.replace(
            "windows:",
            "  replay: {columns: {sensor_id: {column: a}, city: {column: b}, temperature: "
            "{column: c}, humidity: {column: d}, timestamp: {column: e}}}\nwindows:",
        )
    )
    assert main(["produce", "replay", "temperature", "away.csv"]) == 1
    assert "away.csv cannot be read: No such file or directory" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom streamkeeper_apps.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'yaml', 'sqlalchemy', 'confluent_kafka', 'numpy', 'rich', 'pyarrow'}"
        "\nprint(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
    assert "produce" in shown.stdout


def test_settings_come_from_the_checkout_and_variables_outrank_them(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "settings.json").write_text(
        json.dumps({"kafka": "file:1", "store": "file:2", "streams": "declared"})
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = find_settings(below, {"STREAMKEEPER_KAFKA": "env:1"})
    assert (found.kafka, found.store) == ("env:1", "file:2")
    assert found.streams == tmp_path / "declared"


@pytest.mark.parametrize("content", ["{", "[]", '{"kafak": "x"}'])
def test_settings_that_cannot_be_read_say_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "settings.json").write_text(content)
    with pytest.raises(SettingsError, match="`make up` writes it anew"):
        find_settings(tmp_path, {})


def launch(**changed: object) -> Launch:
    now = datetime.now(UTC)
    return Launch.model_validate(
        {"epoch": 7, "kind": "driver", "name": "x", "began_at": now} | changed
    )


def test_a_launch_lives_by_its_process_here_and_by_its_heartbeat_elsewhere() -> None:
    here = processes.identify(1) if Path("/proc/1").exists() else None
    assert here is not None
    old = datetime.now(UTC) - timedelta(minutes=1)
    elsewhere = here.model_copy(update={"host": "another"})
    gone = Process(host=here.host, boot_id=here.boot_id, pid=here.pid, start=here.start + 1)
    assert lives(launch(process=here, heartbeat_at=old))
    assert not lives(launch(process=gone))
    assert lives(launch(process=elsewhere))
    assert not lives(launch(process=elsewhere, began_at=old, heartbeat_at=old))
    assert not lives(launch(process=elsewhere, ended_at=old))
    assert not lives(None)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "drained"),
        (77, "fenced by a newer launch"),
        (137, "was killed by signal 9"),
        (1, "failed with exit code 1; its log: /l/log"),
        (None, "ended without an exit code"),
    ],
)
def test_how_a_launch_ended(code: int | None, text: str) -> None:
    assert how_it_ended(launch(exit_code=code, folder="/l")) == text


def test_ages() -> None:
    now = datetime.now(UTC)
    assert age(None) == "none yet"
    assert age(now - timedelta(seconds=100)) == "100 s ago"
    assert age(now - timedelta(minutes=3)) == "3 min ago"
    assert age(now - timedelta(days=3)) == "3 d ago"
