"""The pages without a browser: a lake that is a folder, and what is missing or wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from local_lake import NOON, declared_stream, publish, row
from streamkeeper.dashboard_questions import Means
from streamkeeper.dashboards import Span, Variable
from streamkeeper.manifest import Manifest
from streamkeeper_apps.dashboard import commands, live, parts
from streamkeeper_apps.dashboard.parts import escaped
from streamkeeper_apps.where import find_settings
from streamkeeper_io.lake_readings import LakeReadings

APP = Path(commands.__file__).with_name("app.py")


def page() -> AppTest:
    return AppTest.from_file(str(APP), default_timeout=60).run()


def texts(found: AppTest) -> str:
    parts = [*found.error, *found.warning, *found.info, *found.caption, *found.markdown]
    return "\n".join(part.value for part in parts).replace("\\", "")


def test_figures_of_a_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = declared_stream(tmp_path, monkeypatch)
    # Two periods up to the newest reading, the later one has twice as many.
    rows = [row(n, "Fes", temperature=float(n)) for n in range(0, 900, 10)]
    rows += [row(n, "Rabat", temperature=float(n)) for n in range(900, 1800, 5)]
    rows = [r | {"at": r["_event_time"], "_hour": NOON} for r in rows]
    publish(spec, rows[:100], batch=0)
    publish(spec, rows[100:], batch=1, span=(1, 2))
    monkeypatch.setattr(
        live.LakeReadings, "newest", lambda _: NOON + timedelta(seconds=1795), raising=True
    )
    found = page()
    assert not found.exception
    tiles = {m.label.replace("\\", ""): (m.value, m.delta) for m in found.metric}
    assert tiles == {
        "readings": ("180", "+90"),
        "different city": ("1", "±0"),
        "mean temperature": ("1,348", "+902"),
    }
    assert "from the lake" in texts(found)


def test_kinds_are_kept_apart_in_both_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names are texts of the data, whatever stands in them."""
    allowed = ["PM2.5", "state"]
    fields = {
        "what": {"type": "string", "allowed": allowed},
        "value": {"type": "double"},
        "sensor": {"type": "string"},
        "latitude": {"type": "double"},
        "longitude": {"type": "double"},
        "at": {"type": "timestamp"},
    }
    spec = declared_stream(
        tmp_path,
        monkeypatch,
        fields=fields,
        windows=[],
        kpis=[],
        alerts=[{"name": "dusty", "field": "value", "above": 100, "where": "what = 'PM2.5'"}],
        dashboard={"kinds": "what", "by": "sensor"},
    )
    rows = [
        row(n, None, what=allowed[n % 2], value=float(n), sensor=f"s{n // 2 % 3}", at=None)
        | {"latitude": 33.0 + n % 3, "longitude": -7.0}
        for n in range(300)
    ]
    rows = [r | {"at": r["_event_time"]} for r in rows]
    publish(spec, rows, batch=0, schema=None)
    monkeypatch.setattr(live.LakeReadings, "newest", lambda _: rows[-1]["at"], raising=True)
    found = page()
    assert not found.exception
    assert not found.error
    tiles = {m.label.replace("\\", ""): m.value for m in found.metric}
    assert tiles == {
        "readings": "300",
        "different sensor": "3",
        "beyond a limit": "99",  # 102, 104 ... 298
        "mean PM2.5": "149",
        "mean state": "150",
    }
    (drawn,) = (c for c in charts_of(found) if "latitude" in c)
    assert "beyond a limit" in drawn
    found.radio[0].set_value("trend").run()
    assert not found.exception
    assert not found.error
    assert "no reading has two of them" in texts(found)


def charts_of(found: AppTest) -> list[str]:
    return [element.proto.spec for element in found.get("vega_lite_chart")]


def test_a_lake_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared_stream(tmp_path, monkeypatch)
    monkeypatch.setenv("STREAMKEEPER_LAKE", "hdfs://127.0.0.1:9")
    found = page()
    assert not found.exception
    told = "\n".join(w.value for w in found.warning).replace("\\", "")
    assert "The rows: away." in told
    assert "hdfs://127.0.0.1:9 does not answer" in told
    assert "start HDFS" in told


def test_a_lake_that_nobody_has_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared_stream(tmp_path, monkeypatch)
    monkeypatch.setenv("STREAMKEEPER_LAKE", "")
    told = "\n".join(e.value for e in page().error).replace("\\", "")
    assert "set STREAMKEEPER_LAKE, or start the local servers" in told


def test_no_stream_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared_stream(tmp_path, monkeypatch)
    (tmp_path / "readings.yaml").unlink()
    assert "streamkeeper new NAME" in texts(page())


def test_a_fault_of_its_own_is_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    declared_stream(tmp_path, monkeypatch)

    def fail(*_: object) -> None:
        raise ValueError("of the test")

    monkeypatch.setattr(parts, "open_readings", fail)
    found = page()
    assert not found.exception
    (told,) = (e.value for e in found.error)
    assert "a fault of the dashboard" in told
    assert "of the test" not in told
    assert "of the test" in caplog.text


def test_texts_of_data_are_shown_as_they_are() -> None:
    assert escaped("a_b *c* $x$ :smile: <b>") == r"a\_b \*c\* \$x\$ \:smile\: \<b\>"


def test_batches_outside_of_a_time_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = declared_stream(tmp_path, monkeypatch)
    for batch in range(3):
        rows = [row(600 * batch + n, "Fes") for n in range(10)]
        publish(spec, rows, batch=batch, span=(batch, batch + 1))
        file = next((tmp_path / "lake" / "raw").glob(f"*-{batch}/_manifest.json"))
        told = Manifest.model_validate_json(file.read_text())
        times = {"first_event": rows[0]["_event_time"], "last_event": rows[-1]["_event_time"]}
        file.write_text(told.model_copy(update=times).model_dump_json())
        if batch == 0:
            # Whoever reads it fails.
            (file.parent / "part-0.parquet").write_text("no Parquet")
    lake = LakeReadings(find_settings(), spec)
    assert lake.newest() == NOON + timedelta(seconds=1209)
    span = Span(NOON + timedelta(seconds=605), NOON + timedelta(seconds=1205))
    question = Means((Variable("temperature", "temperature"),), by="city")
    for expected in (False, True):
        if expected:
            lake.expect(span, [question])
        (found,) = lake.answer(span, [question])
        assert [(g.key, g.rows) for g in found] == [("Fes", 10)]
    half = Span(span.begin, span.begin + timedelta(seconds=300))
    ((group,),) = lake.answer(half, [question])
    assert group.rows == 5
