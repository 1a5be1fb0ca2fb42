"""The models of what fills a topic: simulators with faults, replays of files."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from streamkeeper.spec.values import Duration, Model, Scalar

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LogNormal(Model):
    """Numbers with a long tail: half are below `median`, 95 % below `p95`, none above `most`."""

    median: Positive
    p95: Positive
    most: Positive | None = None


class Generator(Model):
    """How the simulator makes one field: exactly one of the keys is given.

    entity: a pattern such as `sensor_{:02d}`, numbered through the simulated entities;
    assigned: one of these values, fixed for each entity; choice: one of these values, drawn anew,
    as often as `weights` tell; uniform: [low, high]; lognormal: a number with a long tail; ipv4: an
    address of these networks; constant: this value; event_time: the time of the reading.
    """

    entity: str | None = None
    assigned: tuple[Scalar, ...] | None = None
    choice: tuple[Scalar, ...] | None = None
    weights: tuple[Positive, ...] | None = None
    uniform: tuple[float, float] | None = None
    lognormal: LogNormal | None = None
    ipv4: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    constant: Scalar | None = None
    event_time: bool | None = None
    digits: Annotated[int, Field(ge=0, le=12)] = 2


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
    """Simulated entities that each send one message every `every`, starting `hours_back` ago."""

    entities: Annotated[int, Field(ge=1, le=1_000_000)]
    every: Duration = timedelta(seconds=1)
    seed: int = 0
    key: str | None = None
    hours_back: Annotated[int, Field(ge=0, le=8760)] = 0
    fields: dict[str, Generator]
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


class Producer(Model):
    """What fills the topic: a simulator that runs, a replay of files, or both."""

    simulator: Simulator | None = None
    replay: Replay | None = None
