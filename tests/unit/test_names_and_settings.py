"""Names, durations, write numbers and settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.errors import SettingsError
from streamkeeper.launches import Launch, Process, write_number
from streamkeeper.names import (
    BatchName,
    format_hour,
    hour_folder,
    hour_of,
    parse_batch_folder,
    parse_hour,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.durations import format_duration, parse_duration


@given(st.uuids(), st.integers(0, 10**12))
def test_batch_folders_are_read_back(generation: object, batch: int) -> None:
    name = BatchName(str(generation), batch)
    assert parse_batch_folder(name.folder) == name


@pytest.mark.parametrize("folder", ["_tmp", "batch=x-1", "batch=-", "batch=" + "a" * 36, ""])
def test_other_folders_are_no_batches(folder: str) -> None:
    assert parse_batch_folder(folder) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_hours_are_read_back(instant: datetime) -> None:
    hour = hour_of(instant)
    assert parse_hour(format_hour(hour)) == hour
    assert timedelta(0) <= instant - hour < timedelta(hours=1)


def test_hours_are_utc() -> None:
    local = datetime(2026, 11, 24, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert hour_of(local) == datetime(2026, 11, 23, 20, tzinfo=UTC)
    assert hour_folder(hour_of(local)) == "dt=2026-11-23/hour=20"
    with pytest.raises(ValueError, match="'yesterday' is not an hour; write it as 2026-11-24T14"):
        parse_hour("yesterday")


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "min", "h", "d"]))
def test_durations_are_read_back(count: int, unit: str) -> None:
    length = parse_duration(f"{count}{unit}")
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1.5h", "1 fortnight", 30, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="a whole number and a unit"):
        parse_duration(text)


def test_write_numbers_order_all_launches() -> None:
    assert write_number(2, 0) > write_number(1, 10**9 - 1)
    with pytest.raises(ValueError, match="outside"):
        write_number(1, 10**9)


def test_a_launch_survives_json() -> None:
    launch = Launch(
        epoch=3,
        kind="driver",
        name="temperature",
        process=Process(host="h", boot_id="b", pid=4, start=5),
        began_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert Launch.model_validate_json(launch.model_dump_json()) == launch


def test_settings_travel_by_the_environment() -> None:
    first = Settings(store="postgresql+psycopg://x", kafka="127.0.0.1:9092")
    assert Settings.from_environment(first.environment()) == first
    assert Settings.from_environment({}) == Settings()


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"'kafka' is empty; set STREAMKEEPER_KAFKA, or start"):
        Settings().need("kafka")
