"""The simulator's messages: pure, numbered, spread evenly, as declared."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from streamkeeper.errors import StreamkeeperError
from streamkeeper.launches import Launch
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.columns import draw
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.messages import Batch, Counts
from streamkeeper_apps.producer.pacing import Before, Simulating, begin_at, micros, stood_at
from streamkeeper_apps.producer.simulator import Simulation

STREAMS = Path(__file__).parents[2] / "include" / "streams"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def declare(fields: dict[str, tuple[str, dict[str, Any]]], **simulator: Any) -> Spec:
    """Return a stream of fields: name -> (type, generator)."""
    all_fields = {"at": ("timestamp", {"event_time": True})} | fields
    return Spec.model_validate(
        {
            "name": "made",
            "description": "x",
            "app": "made",
            "source": {"kafka": {"topic": "made"}},
            "fields": {name: {"type": kind} for name, (kind, _) in all_fields.items()},
            "event_time": {"field": "at"},
            "lake": {"path": "/made"},
            "producer": {
                "simulator": {"entities": 3, "every": "1s"}
                | simulator
                | {"fields": {name: made for name, (_, made) in all_fields.items()}}
            },
        }
    )


def values(simulation: Simulation, first: int, count: int) -> list[dict[str, Any]]:
    return [json.loads(m.value) for m in simulation.messages(first, count)]


@given(st.integers(0, 10**15), st.integers(1, 10_000), st.integers(1, 86_400_000))
def test_the_first_message_from_an_instant_is_the_first(
    instant: int, entities: int, every_ms: int
) -> None:
    simulation = Simulation(declare({}, entities=entities, every=f"{every_ms}ms"))
    number = simulation.first_from(instant)
    assert simulation.micros_of(number) >= instant
    assert number == 0 or simulation.micros_of(number - 1) < instant


@settings(max_examples=30)
@given(st.integers(0, 10**10), st.integers(0, 500), st.integers(1, 50))
def test_any_message_can_be_made_again_without_those_before_it(
    first: int, offset: int, count: int
) -> None:
    simulation = Simulation(load_spec(STREAMS / "temperature.yaml"))
    together = simulation.messages(first, offset + count)
    assert simulation.messages(first + offset, count) == together[offset:]


def test_a_reading_does_not_depend_on_how_many_entities_there_are() -> None:
    few, many = (
        Simulation(declare({"t": ("double", {"uniform": [0, 1], "digits": 12})}, entities=n))
        for n in (2, 50)
    )
    tick = 1_000_000_000
    assert values(few, tick * 2 + 1, 1)[0]["t"] == values(many, tick * 50 + 1, 1)[0]["t"]


def test_seed_entity_tick_and_field_all_matter() -> None:
    entities, ticks = np.arange(100), np.zeros(100, dtype=np.int64)
    seen = [
        draw(1, "a", entities, ticks),
        draw(2, "a", entities, ticks),
        draw(1, "b", entities, ticks),
        draw(1, "a", entities, ticks + 1),
    ]
    assert len(np.unique(np.concatenate(seen))) == 400


def test_draws_are_spread_evenly() -> None:
    simulation = Simulation(
        declare(
            {
                "t": ("double", {"uniform": [15, 45]}),
                "n": ("integer", {"uniform": [1, 6]}),
                "c": ("string", {"choice": ["x", "y"]}),
            },
            entities=20,
        )
    )
    made = values(simulation, 10**9, 20_000)
    temperatures = [m["t"] for m in made]
    assert 15 <= min(temperatures) < 15.1
    assert 44.9 < max(temperatures) <= 45
    assert abs(sum(temperatures) / len(made) - 30) < 0.3
    for die in range(1, 7):
        assert abs(sum(m["n"] == die for m in made) / len(made) - 1 / 6) < 0.02
    assert abs(sum(m["c"] == "x" for m in made) / len(made) - 1 / 2) < 0.02
    # neighbours in time and among entities are not alike
    pairs = np.corrcoef(temperatures[:-20], temperatures[20:])[0, 1]
    assert abs(pairs) < 0.03
    assert abs(np.corrcoef(temperatures[:-1], temperatures[1:])[0, 1]) < 0.03


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "method": ("string", {"choice": ["GET", "POST", "PUT"], "weights": [90, 9.5, 0.5]}),
    "status": ("integer", {"choice": [200, 503], "weights": [1, 3]}),
    "bytes": ("integer", {"lognormal": {"median": 5000, "p95": 60_000, "most": 100_000}}),
    "rt": ("double", {"lognormal": {"median": 0.5, "p95": 2}, "digits": 3}),
    "ip": ("string", {"ipv4": ["198.51.100.0/30", "203.0.113.9/32"]}),
}


FIRST = (
    '{"at":"1980-07-25T00:35:33.333Z","method":"GET","status":503,"bytes":23713,"rt":0.156,'
    '"ip":"198.51.100.2","old":"a"}'
)
DIGEST = "465d5d2cb0286ba0"


def test_weights_and_long_tails_come_out_as_declared() -> None:
    made = values(Simulation(declare(REQUESTS, entities=20)), 10**9, 40_000)
    for name, value, share in (("method", "GET", 0.9), ("method", "PUT", 0.005)):
        assert abs(sum(m[name] == value for m in made) / len(made) - share) < 0.006
    assert abs(sum(m["status"] == 503 for m in made) / len(made) - 0.75) < 0.01
    for name, median, p95 in (("bytes", 5000, 60_000), ("rt", 0.5, 2)):
        found = np.array([m[name] for m in made])
        assert abs(np.mean(found < median) - 0.5) < 0.01
        assert abs(np.mean(found < p95) - 0.95) < 0.005
        assert found.min() >= 0
    sizes = [m["bytes"] for m in made]
    assert all(isinstance(size, int) for size in sizes)
    # log-normal: the logarithms are normal
    logs = np.log([m["rt"] for m in made if m["rt"] > 0])
    assert abs(np.std(logs) - np.log(4) / 1.6449) < 0.02
    assert abs(np.mean(((logs - logs.mean()) / logs.std()) ** 3)) < 0.05
    assert max(sizes) == 100_000
    assert abs(np.mean(np.array(sizes) == 100_000) - 0.0239) < 0.003
    assert min(found for found in sizes) < 100


def test_addresses_are_of_the_networks_all_alike() -> None:
    made = Counter(m["ip"] for m in values(Simulation(declare(REQUESTS)), 10**9, 20_000))
    assert set(made) == {f"198.51.100.{n}" for n in range(4)} | {"203.0.113.9"}
    assert all(abs(count / 20_000 - 0.2) < 0.02 for count in made.values())
    whole = {"ip": ("string", {"ipv4": ["0.0.0.0/0"]})}
    firsts = {m["ip"].split(".")[0] for m in values(Simulation(declare(whole)), 0, 9000)}
    assert len(firsts) == 256


def test_entities_write_times_in_their_own_forms() -> None:
    made = declare({"t": ("double", {"uniform": [0, 1]})}, entities=3).dump()
    made["fields"]["at"]["also"] = ["epoch_ms", "epoch_s"]
    plain = values(Simulation(Spec.model_validate(made)), 10**6, 30)
    made["producer"]["simulator"]["fields"]["at"]["written"] = ["iso8601", "epoch_ms", "epoch_s"]
    written = values(Simulation(Spec.model_validate(made)), 10**6, 30)
    for n, (one, other) in enumerate(zip(plain, written, strict=True), start=10**6):
        at = datetime.fromisoformat(one["at"]).timestamp()
        form = (one["at"], round(at * 1000), int(at))[n % 3]
        assert other == one | {"at": form}


def test_a_case_belongs_to_what_the_entity_keeps() -> None:
    """Each draws as if its case were that of all entities."""
    cases = {
        "C": {"uniform": [18, 27], "digits": 1},
        "ppm": {"choice": [400]},
        "F": {"constant": 70},
    }
    kept = {"unit": ("string", {"assigned": ["C", "ppm", "F", "ppm"]})}
    by = {"value": ("double", {"by": "unit", "cases": cases})}
    made = values(Simulation(declare(kept | by, entities=9)), 1, 900)
    plain = {"value": ("double", cases["C"])}
    alone = values(Simulation(declare(kept | plain, entities=9)), 1, 900)
    for n, (message, other) in enumerate(zip(made, alone, strict=True), start=1):
        unit = ("C", "ppm", "F", "ppm")[n % 9 % 4]
        assert message["unit"] == unit
        assert message["value"] == {"C": other["value"], "ppm": 400, "F": 70}[unit]
    assert len({m["value"] for m in made}) > 50


def test_the_bytes_of_a_message_never_change() -> None:
    """A relaunch of another version, on another machine, sends what was sent before."""
    simulation = Simulation(declare(REQUESTS | {"old": ("string", {"choice": ["a", "b", "c"]})}))
    digest = hashlib.sha256()
    for message in simulation.messages(10**9, 5000):
        digest.update(message.value)
    assert simulation.messages(10**9, 1)[0].value.decode() == FIRST
    assert digest.hexdigest()[:16] == DIGEST


def test_every_generator_makes_what_is_declared() -> None:
    spec = declare(
        {
            "id": ("string", {"entity": "s_{:02d}"}),
            "number": ("integer", {"entity": "{}"}),
            "half": ("double", {"entity": "{}.5"}),
            "city": ("string", {"assigned": ["Fès", 'a"b']}),
            "unit": ("string", {"constant": "°C"}),
            "on": ("boolean", {"constant": True}),
            "level": ("double", {"uniform": [1, 1], "digits": 0}),
        },
        key="city",
    )
    first = micros(NOON) // 1_000_000 * 3
    messages = Simulation(spec).messages(first, 4)
    made = [json.loads(m.value) for m in messages]
    assert [m["id"] for m in made] == ["s_01", "s_02", "s_03", "s_01"]
    assert [m["number"] for m in made] == [1, 2, 3, 1]
    assert [m["half"] for m in made] == [1.5, 2.5, 3.5, 1.5]
    assert [m["city"] for m in made] == ["Fès", 'a"b', "Fès", "Fès"]
    assert [m.key for m in messages] == ["Fès".encode(), b'a"b', "Fès".encode(), "Fès".encode()]
    assert {(m["unit"], m["on"], m["level"]) for m in made} == {("°C", True, 1.0)}
    assert [m["at"] for m in made] == [
        "2026-11-24T12:00:00.000Z",
        "2026-11-24T12:00:00.333Z",
        "2026-11-24T12:00:00.666Z",
        "2026-11-24T12:00:01.000Z",
    ]


def test_a_rounded_draw_stays_within_its_limits() -> None:
    spec = declare({"t": ("double", {"uniform": [0.004, 0.006], "digits": 2})})
    assert all(0.004 <= m["t"] <= 0.006 for m in values(Simulation(spec), 10**9, 500))


@pytest.mark.parametrize(
    ("form", "expected"), [("epoch_s", 1_795_521_600), ("epoch_ms", 1_795_521_600_000)]
)
def test_event_times_as_numbers(form: str, expected: int) -> None:
    data = declare({}).dump()
    data["fields"]["at"]["format"] = form
    simulation = Simulation(Spec.model_validate(data))
    assert values(simulation, simulation.first_from(micros(NOON)), 1)[0]["at"] == expected


def test_a_stream_without_a_simulator_is_refused() -> None:
    data = declare({}).dump() | {"producer": {}}
    with pytest.raises(StreamkeeperError, match=re.escape("add producer.simulator to it")):
        Simulation(Spec.model_validate(data))


def launch(epoch: int, event_time: str | None) -> Launch:
    progress = {} if event_time is None else {"event_time": event_time}
    return Launch(epoch=epoch, kind="producer", name="x", began_at=NOON, progress=progress)


def test_the_past_begins_at_a_full_hour_and_a_relaunch_goes_on() -> None:
    simulation = Simulation(declare({}))
    now = NOON + timedelta(minutes=34, seconds=5, milliseconds=400)
    begun = {h: simulation.time_of(begin_at(simulation, now, h, None)) for h in (0, 1, 3)}
    assert begun == {
        0: NOON + timedelta(minutes=34, seconds=5, microseconds=666_666),
        1: NOON - timedelta(hours=1),
        3: NOON - timedelta(hours=3),
    }
    for number in (10**9, 10**9 + 1, 10**9 + 2):
        assert begin_at(simulation, now, 3, simulation.time_of(number)) == number + 1


def test_a_relaunch_looks_at_the_latest_launch_that_got_so_far() -> None:
    text = "2026-11-24T12:00:00.333333+00:00"
    launches = [launch(9, "2026-11-24T13:00:00+00:00"), launch(8, None), launch(7, text)]
    assert stood_at(launches, 9) == Before(datetime.fromisoformat(text), None)
    assert stood_at(launches, 7) is None


class Clocked:
    """A sender and a clock: sending and waiting take time, and a wait may be far too long."""

    def __init__(self, simulation: Simulation, position: int, waits: list[float]) -> None:
        self.simulation, self.position, self.first = simulation, position, position
        self.now = simulation.micros_of(position)
        self.waits = waits
        self.counts = Counts(0, 0, 0)
        self.by_hour: dict[int | None, Any] = {}
        self.acked_to = position

    def send(self, batch: Batch) -> int:
        messages = batch.messages
        self.position = batch.position
        # never ahead of its time, and nothing that is due is left out but for the chunk's size
        assert self.simulation.micros_of(self.position - 1) <= self.now
        assert len(messages) == 2000 or self.simulation.micros_of(self.position) > self.now
        self.counts = Counts(self.position - self.first, 0, 0)
        self.now += 137
        return len(messages)

    def poll(self, seconds: float) -> None:
        self.now += int(seconds * 1e6) + int(self.waits.pop() * 1e6 if self.waits else 0)


@given(
    st.integers(1, 300),
    st.sampled_from([50, 1000, 60_000]),
    st.lists(st.integers(0, 5000), max_size=8),
)
@settings(max_examples=25)
def test_late_wakings_make_no_drift(entities: int, every_ms: int, waits: list[int]) -> None:
    simulation = Simulation(declare({}, entities=entities, every=f"{every_ms}ms"))
    begin = simulation.first_from(micros(NOON))
    # waits are in messages' worth of time, so that the work is the same at any rate
    sender = Clocked(simulation, begin, [n / simulation.per_second for n in waits])
    length = min(30_000_000, simulation.micros_of(10_000) - simulation.micros_of(0))
    end = sender.now + length

    def stop() -> str:
        caught_up = simulation.micros_of(sender.position) > sender.now
        return "time is up" if sender.now >= end and caught_up else ""

    run = Simulating(
        simulation,
        sender,  # type: ignore[arg-type]
        Display(Console(file=io.StringIO())),
        stop=stop,
        clock=lambda: sender.now,
    )
    run.run()
    # the exact rate, whatever the waits were
    assert sender.position == simulation.first_from(sender.now + 1)
