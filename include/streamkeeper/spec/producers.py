"""The models of what fills a topic: simulators with faults, replays of files."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from streamkeeper.spec.values import Duration, Model, Name, Scalar, Text

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
TimeForm = Literal["iso8601", "epoch_s", "epoch_ms", "epoch_us"]
Digits = Annotated[int, Field(ge=0, le=12)]


class LogNormal(Model):
    """Numbers with a long tail: half are below `median`, 95 % below `p95`, none above `most`."""

    median: Positive
    p95: Positive
    most: Positive | None = None


class Cycle(Model):
    """A number that rises and falls with event time, such as a temperature over the day.

    It is highest, `mean + amplitude`, `peak` after each period's beginning (counted from 1970,
    UTC). Each entity lies off that by up to `spread`, always alike, each message by up to `noise`.
    """

    mean: Finite
    amplitude: Finite
    period: Duration = timedelta(days=1)
    peak: Duration = timedelta(0)
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Drain(Model):
    """A level that falls evenly from `full` to `empty` and is then full again, such as a battery.

    `lasts` is how long that takes on the average; entities differ from it by up to a quarter.
    """

    full: Finite = 100.0
    empty: Finite = 0.0
    lasts: Duration


class Drawn(Model):
    """How a value is drawn anew for each message: exactly one of the keys is given.

    choice: one of these values, as often as `weights` tell; uniform: [low, high]; lognormal: a
    number with a long tail; ipv4: an address of these networks; cycle and
    drain: numbers that follow event time; constant: this value.
    """

    choice: tuple[Scalar, ...] | None = None
    weights: tuple[Positive, ...] | None = None
    uniform: tuple[float, float] | None = None
    lognormal: LogNormal | None = None
    ipv4: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    cycle: Cycle | None = None
    drain: Drain | None = None
    constant: Scalar | None = None
    digits: Digits = 2


class Site(Model):
    """A place on the map, in degrees north and east."""

    name: Text
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]


class Instead(Model):
    """What a field holds during an episode: exactly one of the keys but `digits` is given.

    choice and uniform: drawn for each message; constant: this value; missing: null.
    """

    choice: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    uniform: tuple[float, float] | None = None
    constant: Scalar | None = None
    missing: Literal[True] | None = None
    digits: Digits = 2


class Episode(Model):
    """A time in which an entity's messages are other than usual, such as a failure.

    Each entity has one in every `every`, at a time of its own, for a time between the two `lasts`.
    """

    name: Name
    every: Duration
    lasts: tuple[Duration, Duration]
    fields: Annotated[dict[str, Instead], Field(min_length=1)]


class Generator(Drawn):
    """How the simulator makes one field: exactly one of the keys is given.

    entity: a pattern such as `sensor_{:02d}`, numbered through the simulated entities;
    assigned: one of these values, fixed for each entity; site: the name or a coordinate of the
    entity's site; event_time: the time of the reading, in the field's format or, entity by entity,
    in the forms that are `written`; by: drawn as `cases` tell for the value of this other field,
    which the entity keeps.
    """

    entity: str | None = None
    assigned: tuple[Scalar, ...] | None = None
    site: Literal["name", "latitude", "longitude"] | None = None
    event_time: bool | None = None
    written: Annotated[tuple[TimeForm, ...], Field(min_length=1)] | None = None
    by: str | None = None
    cases: dict[str, Drawn] | None = None


Share = Annotated[float, Field(ge=0, le=1)]


class TimedFault(Model):
    """A share of the messages, and the time by which they are late or held back."""

    share: Share
    by: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=366))]


class Faults(Model):
    """Mistakes that the simulator makes on purpose, each in a share of the messages.

    malformed: text that cannot be read; out_of_range: a number beyond its field's range; duplicate:
    the same message twice; late: the event time lies `by` earlier; out_of_order: sent up to `by`
    after its turn. A message has one fault at most.
    """

    malformed: Share = 0.0
    out_of_range: Share = 0.0
    duplicate: Share = 0.0
    late: TimedFault | None = None
    out_of_order: TimedFault | None = None


class Simulator(Model):
    """Simulated entities that each send one message every `every`, starting `hours_back` ago.

    Each belongs to one of `sites`, in turn, and lies within `scatter` metres of it. Of several
    `episodes` at a time the first in the list counts.
    """

    entities: Annotated[int, Field(ge=1, le=1_000_000)]
    every: Duration = timedelta(seconds=1)
    seed: int = 0
    key: str | None = None
    hours_back: Annotated[int, Field(ge=0, le=8760)] = 0
    sites: tuple[Site, ...] = ()
    scatter: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    fields: dict[str, Generator]
    episodes: tuple[Episode, ...] = ()
    faults: Faults = Faults()


class ReplayColumn(Model):
    """What fills a field: a CSV column, a JSON key or path, or a part of a log's line.

    A path is dotted or a list of keys; `format` is a strptime pattern for timestamps.
    """

    column: str | Annotated[tuple[str, ...], Field(min_length=1)]
    format: str | None = None
    zone: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """Read `field: column` as `field: {column: column}`."""
        return {"column": given} if isinstance(given, str | list | tuple) else given


class Replay(Model):
    """How the records of files become messages.

    `columns` maps a field to its place in a record, `constants` fills fields with one value, and a
    cell that equals one of `missing` is sent as null. JSON without `columns` is sent as it stands.
    """

    format: Literal["csv", "json_lines", "json_array", "apache_combined", "apache_common"] = "csv"
    columns: dict[str, ReplayColumn] = Field(default={})
    constants: dict[str, Scalar] = Field(default={})
    missing: tuple[str, ...] = ("",)
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    key: str | None = None


Some = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=7))]


class Folder(Model):
    """A watched folder: every file that lies in it becomes messages, once.

    path: relative to the folder of the project, or absolute; files: patterns of the names, below
    it (default: those that the format usually has); format: `json`, each file JSON lines, or one
    object, or one array of them; `json_lines`, always a line each; `csv`; header: whether the first
    line of a CSV file holds the columns' names; every: how often it is looked at; settle: a file
    is read once it looked the same for so long; give_up: one that is broken off counts as
    incomplete after so long.
    """

    path: Annotated[str, Field(min_length=1, max_length=1000)]
    files: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    format: Literal["json", "json_lines", "csv"] = "json"
    header: bool = True
    encoding: Literal["utf-8", "latin-1", "utf-16"] = "utf-8"
    every: Some = timedelta(seconds=2)
    settle: Some = timedelta(seconds=2)
    give_up: Some = timedelta(minutes=10)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, declared or usual."""
        return self.files or USUAL_FILES[self.format]


USUAL_FILES = {
    "json": ("*.json", "*.jsonl", "*.ndjson", "*.json.gz", "*.jsonl.gz", "*.ndjson.gz"),
    "json_lines": ("*.jsonl", "*.ndjson", "*.json", "*.jsonl.gz", "*.ndjson.gz", "*.json.gz"),
    "csv": ("*.csv", "*.csv.gz"),
}


class Producer(Model):
    """What fills the topic: a simulator that runs or a watched folder; and a replay of files."""

    simulator: Simulator | None = None
    folder: Folder | None = None
    replay: Replay | None = None
