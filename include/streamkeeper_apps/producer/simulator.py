"""What the simulator says: each message is a pure function of seed, entity, tick and field."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import FieldSpec, Spec
from streamkeeper.spec.producers import Faults, Simulator
from streamkeeper_apps.producer.columns import Block, Numbers, draw
from streamkeeper_apps.producer.episodes import Episodes
from streamkeeper_apps.producer.faults import (
    DUPLICATE,
    KINDS,
    LATE,
    MALFORMED,
    NONE,
    OUT_OF_RANGE,
    FaultPlan,
    HeldBack,
    beyond,
    malform,
    share_of,
    wrong_type,
)
from streamkeeper_apps.producer.generators import column
from streamkeeper_apps.producer.layout import Layout
from streamkeeper_apps.producer.messages import HOUR_US, Batch, Message

MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Simulation:
    """The endless sequence of a stream's simulated messages.

    Messages are numbered from 1970 on: number n is that of entity n % entities at tick
    n // entities. A tick is one `every`; its entities follow one another evenly within it.

    Parameters: spec, a declaration with `producer.simulator`; faults, instead of the declared ones.
    Raises StreamkeeperError when it has no simulator, or nothing that a fault needs.
    """

    def __init__(self, spec: Spec, faults: Faults | None = None) -> None:
        if spec.producer.simulator is None:
            raise StreamkeeperError(
                f"the stream {spec.name!r} declares no simulator; add producer.simulator to it"
            )
        self.declared: Simulator = spec.producer.simulator
        self.entities = self.declared.entities
        self._every = self.declared.every // MICROSECOND
        self._columns = {
            name: column(name, generator, spec.fields[name], self.declared)
            for name, generator in self.declared.fields.items()
        }
        self._episodes = Episodes(self.declared, spec.fields)
        self._layout = Layout(spec, self._columns)
        self._fields = spec.fields
        self._csv = spec.source.format == "csv"
        self._event_time = spec.event_time.field
        self._ranged = [n for n in self._columns if has_range(spec.fields[n])]
        self.faults = self.declared.faults if faults is None else faults
        interval = self._every / self.entities
        self.plan = FaultPlan(self.faults, self._draw, interval)
        if share_of(self.faults, "out_of_range") and not self._ranged:
            raise StreamkeeperError(
                f"no number that the simulator of {spec.name!r} makes has a range, so none can lie "
                "beyond it; declare a `range`, or leave out_of_range out"
            )

    @property
    def per_second(self) -> float:
        """Messages a second when live."""
        return self.entities * 1e6 / self._every

    def tick_of(self, number: int) -> int:
        """Return the tick of a message."""
        return number // self.entities

    def time_of(self, number: int) -> datetime:
        """Return the event time of a message, to the microsecond."""
        return _EPOCH + self.micros_of(number) * MICROSECOND

    def micros_of(self, number: int) -> int:
        """Return the event time of a message in µs since 1970."""
        tick, entity = divmod(number, self.entities)
        return tick * self._every + entity * self._every // self.entities

    def first_from(self, micros: int) -> int:
        """Return the number of the first message at or after an instant (µs since 1970)."""
        tick, rest = divmod(micros, self._every)
        return tick * self.entities + -(-rest * self.entities // self._every)

    def messages(self, first: int, count: int) -> list[Message]:
        """Return the messages numbered `first` to `first + count - 1`, without faults."""
        numbers = np.arange(first, first + count, dtype=np.int64)
        return self._written(self._made(self._block(numbers)))

    def batch(self, first: int, count: int, held: HeldBack) -> Batch:
        """Return what is sent in the places `first` to `first + count - 1`, with its faults."""
        numbers, places = held.order(first, count)
        return self._faulty(numbers, places.tolist(), first + count)

    def rest(self, position: int, held: HeldBack) -> Batch:
        """Return all that is still held back."""
        numbers = held.rest()
        return self._faulty(numbers, [position - 1] * len(numbers), position)

    def _block(self, numbers: NDArray[np.int64]) -> Block:
        ticks, entities = np.divmod(numbers, self.entities)
        times = ticks * self._every + entities * self._every // self.entities
        return Block(entities, ticks, times)

    def _made(self, block: Block) -> dict[str, Sequence[str]]:
        made = {name: make(block) for name, make in self._columns.items()}
        self._episodes.change(block, made)
        return made

    def _draw(self, purpose: str, numbers: NDArray[np.int64]) -> Numbers:
        ticks, entities = np.divmod(numbers, self.entities)
        return draw(self.declared.seed, purpose, entities, ticks)

    def _faulty(self, numbers: NDArray[np.int64], places: list[int], position: int) -> Batch:
        block = self._block(numbers)
        kinds = self.plan.kinds(numbers) if self.plan.any else None
        if kinds is not None and self.plan.late_us:
            late = np.where(kinds == LATE, self.plan.late_us, 0)
            block = block._replace(times=block.times - late)
        made = self._made(block)
        hours: list[int | None] = (block.times // HOUR_US).tolist()
        if kinds is None:
            return Batch(self._written(made), places, hours, position)
        ways = self.plan.ways(numbers)
        for i in np.flatnonzero(kinds == OUT_OF_RANGE).tolist():
            name = self._ranged[ways[i] % len(self._ranged)]
            made[name] = _replaced(made[name], i, self._beyond(name, ways[i] // 8))
        malformed = np.flatnonzero(kinds == MALFORMED).tolist()
        typed = [i for i in malformed if wrong_type(ways[i]) and self._event_time in made]
        for i in typed:
            times = made[self._event_time]
            made[self._event_time] = _replaced(times, i, str(wrong_type(ways[i])))
        messages = self._written(made)
        for i in set(malformed).difference(typed):
            key, value = messages[i]
            messages[i] = Message(key, malform(value, ways[i] // 6, self._csv))
        told = ["" if kind == NONE else KINDS[kind] for kind in kinds.tolist()]
        again = np.repeat(np.arange(len(told)), 1 + (kinds == DUPLICATE)).tolist()
        # The first of two is a message like any other; the second is the fault.
        faults = [t if t != "duplicate" else "" for t in told]
        named = [told[i] if n and again[n - 1] == i else faults[i] for n, i in enumerate(again)]
        return Batch(
            [messages[i] for i in again],
            [places[i] for i in again],
            [hours[i] for i in again],
            position,
            named,
        )

    def _beyond(self, name: str, way: int) -> str:
        field = self._fields[name]
        assert field.range is not None
        converted = field.conversion()
        if converted is None:
            return beyond(field, field.range, way)
        low, high = (
            None if v is None else (v * converted.divide - converted.add) / converted.multiply
            for v in field.range
        )
        return beyond(field, (low, high), way)

    def _written(self, made: dict[str, Sequence[str]]) -> list[Message]:
        columns = [made[name] for name in self._layout.names]
        values = [text.encode() for text in map(self._layout.write, zip(*columns, strict=True))]
        if self.declared.key is None:
            return [Message(None, value) for value in values]
        keys = map(_key, made[self.declared.key])
        return [Message(key, value) for key, value in zip(keys, values, strict=True)]


def has_range(field: FieldSpec) -> bool:
    """Tell whether a field has a limit that a number can lie beyond."""
    return field.range is not None and any(limit is not None for limit in field.range)


def _replaced(texts: Sequence[str], index: int, text: str) -> list[str]:
    """Return a column with one text replaced."""
    changed = texts if isinstance(texts, list) else list(texts)
    changed[index] = text
    return changed


@functools.lru_cache(maxsize=65536)
def _key(text: str) -> bytes:
    """Return a message's key: a text without its quotes, anything else as JSON writes it."""
    value = json.loads(text)
    return (value if isinstance(value, str) else text).encode()
