"""`landing_checks`: as `landing`, with ten declared checks and one bad record in twenty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.landing import compare
from bench.rows import Row
from bench.servers import reading

# One record in 20 is bad, each in one of these ways.
BAD_EVERY = 20
BAD: tuple[Callable[[bytes], bytes], ...] = (
    lambda good: good[:-12],
    lambda good: good.replace(b'"temperature": ', b'"temperature": 9'),
    lambda good: good.replace(b'"sensor_id"', b'"sensor"'),
    lambda good: good.replace(b'"humidity": ', b'"humidity": "').replace(
        b', "timestamp"', b'", "timestamp"'
    ),
    lambda good: good.replace(b"Z", b""),
)
CHECKS: list[dict[str, Any]] = [
    {"name": "dry_when_hot", "expect": "humidity < 95 or temperature < 44"},
    {"name": "not_both_high", "expect": "temperature + humidity < 140"},
    {"name": "not_both_low", "expect": "temperature + humidity > 0"},
    {"name": "known_sensor", "expect": "sensor_id like 'sensor_%'"},
    {"name": "long_enough", "expect": "length(sensor_id) = 9"},
    {"name": "fes_is_dry", "expect": "city != 'Fes' or humidity <= 90"},
    {"name": "coast_is_mild", "expect": "city not in ('Agadir', 'Tanger') or temperature < 48"},
    {"name": "ratio", "expect": "humidity / temperature < 10"},
    {"name": "not_zero", "expect": "not (temperature = 0 and humidity = 0)"},
    {"name": "rounded", "expect": "abs(temperature - round(temperature, 2)) < 0.001"},
]


def mixed(number: int, seconds: float) -> bytes:
    """Return a reading; one in 20 is bad."""
    good = reading(number, seconds)
    if number % BAD_EVERY:
        return good
    return BAD[number // BAD_EVERY % len(BAD)](good)


def measure(short: bool) -> list[Row]:
    """Land 1,000,000 readings (20,000 when short)."""
    return compare("landing_checks", 0.6, short, mixed, BAD_EVERY, checks=CHECKS)
