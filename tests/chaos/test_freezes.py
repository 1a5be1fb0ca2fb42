"""A driver frozen before, within and after each write and each commit; another takes over."""

from __future__ import annotations

import pytest
from drivers import Drivers
from freezes import Relay

from streamkeeper.settings import Settings

POINTS = {
    "written": [
        "begin:before",
        "land.batch:before:2",
        "land.write:before",
        "land.write:within",
        "land.write:after",
        "land.manifest:before",
        "land.manifest:after",
    ],
    "published": [
        "land.rename:before",
        "land.rename:after",
        "land.batch:after",
        "land.batch:committing",
        "land.batch:committed",
        "land.batch:planning",
        "land.batch:planned",
    ],
    "windows": [
        "begin:after",
        "window.batch:before:2",
        "window.write:before",
        "window.write:within",
        "window.write:after",
        "window.rename:before",
        "window.rename:after",
        "window.batch:committing",
        "window.batch:committed",
        "window.batch:planned",
    ],
    "sinks": [
        "sink:before",
        "raw_sink:before",
        "raw_sink:after",
        "sink.request:before",
        "sink.request:after:2",
        "sink:after",
        "mark:before",
        "mark:after",
        "take:before",
        "take:after",
    ],
    "tables": [
        "delta_sink.make:within",
        "delta_sink:before",
        "delta_sink.file:before:3",
        "delta_sink.commit:before",
        "delta_sink.commit:within",
        "delta_sink.commit:after",
        "delta_sink.mark:before",
        "delta_sink.mark:after",
        "postgres_sink:before",
        "postgres_sink.copy:before",
        "postgres_sink.move_mark:before",
        "postgres_sink:after",
    ],
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("group", POINTS)
def test_frozen_drivers_change_nothing(drivers: Drivers, settings: Settings, group: str) -> None:
    Relay(drivers, settings).go_through(POINTS[group])


def test_a_driver_woken_before_the_new_one_has_published(
    drivers: Drivers, settings: Settings
) -> None:
    Relay(drivers, settings).wake_early("land.write:within", "land.batch:before")
