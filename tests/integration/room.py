"""A real room's minutes, one quantity a row, and numpy's and DuckDB's account of its hours.

The file of UCI's Occupancy Detection is read from `../shared/data/buildings` beside the checkout or
from the folder that STREAMKEEPER_TEST_DATA names; where it is absent, one of the same form is made.
"""

from __future__ import annotations

import csv
import io
import lzma
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np

from access_log import DATA
from streamkeeper.hours import HOUR

TYPES = {"Temperature": ("temperature", "°C"), "Humidity": ("humidity", "%"),
         "Light": ("light", "lx"), "CO2": ("CO2", "ppm")}  # fmt: skip
KEYS = ("room-1", "office", 1)
HISTORY, LEAST = 168 * HOUR, 24
BEGIN = datetime(2015, 2, 4, 17, 51, tzinfo=UTC)


class Mean(NamedTuple):
    """The account of one quantity in one hour."""

    mean: float
    least: float
    most: float
    readings: int


Means = dict[tuple[datetime, str], Mean]


def room_text() -> str:
    """Return the file: a row a minute, all quantities in it."""
    packed = DATA / "buildings" / "datatraining.txt.xz"
    if packed.is_file():
        return lzma.decompress(packed.read_bytes()).decode()
    return "".join(_made_lines())


def _made_lines() -> Iterator[str]:
    """Yield lines like the real ones: a number without title, seconds that slip, dark nights."""
    yield '"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"\n'
    dice = random.Random(1)
    for n in range(8143):
        at = BEGIN + timedelta(minutes=n, seconds=-(n % 2))
        day = 8 <= at.hour < 18
        light = dice.gauss(430, 30) if day else 0
        co2 = 450 + 400 * day * dice.random()
        numbers = (20 + day + dice.random(), 25 + dice.random() * 5, light, co2)
        cells = ",".join(f"{x:.4f}" for x in numbers)
        yield f'"{n + 1}","{at:%F %T}",{cells},0.004,{int(day)}\n'


def write_long(path: Path) -> int:
    """Write the file anew with one quantity a row; return how many rows it has."""
    header, *rows = csv.reader(io.StringIO(room_text()))
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("date", "type", "value", "unit"))
        for row in rows:
            # Each row begins with its number, for which there is no title.
            cells = dict(zip(header, row[1:], strict=True))
            for title, (kind, unit) in TYPES.items():
                out.writerow((cells["date"], kind, cells[title], unit))
                count += 1
    return count


def hourly_means(path: Path) -> Means:
    """Return DuckDB's account of each hour and quantity."""
    sql = f"""
        select date_trunc('hour', date::timestamp), type, avg(value::double), min(value::double),
            max(value::double), count(*)
        from read_csv('{path}', header = true) group by all
    """
    with duckdb.connect() as connection:
        rows = connection.execute(sql).fetchall()
    return {(hour.replace(tzinfo=UTC), kind): Mean(*told) for hour, kind, *told in rows}


def verdicts(means: Mapping[tuple[datetime, str], Mean]) -> dict[tuple[datetime, str], Any]:
    """Return the verdict on each mean by numpy: (median, mad, score, hours, anomalous, basis)."""
    by_type: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for (hour, kind), told in sorted(means.items()):
        by_type[kind].append((hour, told.mean))
    return {
        (hour, kind): verdict(
            [v for h, v in values if hour - HISTORY <= h < hour], value, least=LEAST
        )
        for kind, values in by_type.items()
        for hour, value in values
    }


def verdict(history: Sequence[float], value: float, *, least: int) -> tuple[Any, ...]:
    """Return the verdict on a value, written once more from the book."""
    if not history:
        return None, None, None, 0, None, "few_hours"
    middle = float(np.median(history))
    distances = np.abs(np.array(history) - middle)
    mad, mean = float(np.median(distances)), float(distances.mean())
    if len(history) < least:
        return middle, mad, None, len(history), None, "few_hours"
    if mad > 1e-9 * abs(middle):
        score, basis = 0.6745 * (value - middle) / mad, "mad"
    elif mean > 1e-9 * abs(middle):
        score, basis = (value - middle) / (mean * math.sqrt(math.pi / 2)), "mean_deviation"
    else:
        known = value == middle
        return (
            middle,
            mad,
            0.0 if known else None,
            len(history),
            False if known else None,
            ("no_spread"),
        )
    return middle, mad, score, len(history), abs(score) > 3.5, basis
