"""Faults on demand: exact shares and counts, any message made again, nothing held back for ever."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.producers import Faults
from streamkeeper_apps.producer.faults import HeldBack, beyond, malform, with_faults
from streamkeeper_apps.producer.messages import HOUR_US, Batch, ranges
from streamkeeper_apps.producer.simulator import Simulation

TEMPERATURE = load_spec(Path(__file__).parents[2] / "include" / "streams" / "temperature.yaml")
FIRST = 20 * 1_795_510_800  # an hour's beginning
ALL = {
    "malformed": 0.05,
    "out_of_range": 0.04,
    "duplicate": 0.03,
    "late": {"share": 0.02, "by": "10min"},
    "out_of_order": {"share": 0.1, "by": "5s"},
}


def simulated(**faults: Any) -> Simulation:
    return Simulation(TEMPERATURE, Faults.model_validate(faults))


def batch(simulation: Simulation, count: int, first: int = FIRST) -> Batch:
    held = HeldBack(simulation.plan, first)
    found = simulation.batch(first, count, held)
    rest = simulation.rest(first + count, held)
    lists = (list(a) + list(b) for a, b in zip(found[:3], rest[:3], strict=True))
    return Batch(*lists, rest.position, [*found.faults, *rest.faults])


def rows(found: Batch, kind: str) -> list[bytes]:
    return [m.value for m, f in zip(found.messages, found.faults, strict=True) if f == kind]


def is_object(value: bytes) -> bool:
    try:
        found = json.loads(value)
    except ValueError:
        return False
    return isinstance(found, dict)


def test_each_fault_comes_in_its_share_and_does_what_it_says() -> None:
    simulation, count = simulated(**ALL), 40_000
    found = batch(simulation, count)
    told = Counter(found.faults)
    for kind, fault in ALL.items():
        share = fault["share"] if isinstance(fault, dict) else fault
        assert told[kind] == pytest.approx(share * count, rel=0.1), kind
    assert len(found.messages) == count + told["duplicate"]
    readings = {m.value for m in simulation.messages(FIRST, count)}
    # what is not told as a fault is the reading itself, and only the late are changed besides
    assert set(rows(found, "")) | set(rows(found, "out_of_order")) < readings
    assert set(rows(found, "duplicate")) < set(rows(found, ""))
    twice = Counter(rows(found, "") + rows(found, "duplicate"))
    assert Counter(twice.values())[2] == told["duplicate"]
    malformed = rows(found, "malformed")
    objects = [json.loads(value) for value in malformed if is_object(value)]
    assert 0 < len(objects) < len(malformed) / 3
    assert all(made["timestamp"] == {"of": "another type"} for made in objects)
    for value in map(json.loads, rows(found, "out_of_range")):
        beyond_them = not -60 <= value["temperature"] <= 60, not 0 <= value["humidity"] <= 100
        assert sorted(beyond_them) == [False, True]


def test_late_readings_lie_back_and_count_in_their_own_hour() -> None:
    simulation = simulated(late={"share": 0.5, "by": "10min"})
    found = batch(simulation, 1000)
    at = {"": 0, "late": 0}
    for message, fault, number, hour in zip(
        found.messages, found.faults, found.numbers, found.hours, strict=True
    ):
        said = json.loads(message.value)["timestamp"]
        micros = simulation.micros_of(number) - (600_000_000 if fault else 0)
        assert np.datetime64(said[:-1], "ms") == np.datetime64(micros // 1000, "ms")
        assert hour == micros // HOUR_US
        at[fault] += 1
    assert min(at.values()) > 400


@settings(max_examples=40)
@given(st.integers(0, 10**11), st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_held_back_messages_come_once_and_in_time(first: int, chunks: list[int]) -> None:
    simulation = simulated(out_of_order={"share": 0.3, "by": "3s"})
    reach = simulation.plan.reach
    assert reach == 60
    held, places, numbers = HeldBack(simulation.plan, first), list[int](), list[int]()
    position = first
    for count in chunks:
        found, at = held.order(position, count)
        numbers += found.tolist()
        places += at.tolist()
        position += count
    rest = held.rest().tolist()
    assert sorted(numbers + rest) == list(range(first, position)), "each once"
    assert places == sorted(places)
    assert all(n <= p <= n + reach for n, p in zip(numbers, places, strict=True))
    assert numbers != sorted(numbers) or len(numbers) < 200


@settings(max_examples=25)
@given(st.integers(10**6, 10**11), st.integers(1, 400), st.integers(1, 400))
def test_whoever_goes_on_sends_what_would_have_come(first: int, before: int, after: int) -> None:
    simulation = simulated(**ALL)
    held = HeldBack(simulation.plan, first)
    simulation.batch(first, before, held)
    on = simulation.batch(first + before, after, held)
    again = HeldBack(simulation.plan, first)
    assert simulation.batch(first + before, after, again) == on
    # after an orderly end nothing of the time before is held back any more
    whole = HeldBack(simulation.plan, first + before)
    assert min(whole.order(first + before, after)[0], default=first + before) >= first + before


def test_without_faults_the_messages_are_the_plain_ones() -> None:
    found = batch(simulated(), 500)
    assert found.messages == simulated().messages(FIRST, 500)
    assert found.numbers == list(range(FIRST, FIRST + 500))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", '{"a":1}', '{"a":"\N{SNOWMAN}"}']))
def test_a_malformed_message_is_never_an_object(way: int, text: str) -> None:
    assert not is_object(malform(text.encode(), way, csv=False))


def test_out_of_range_on_the_side_that_has_a_limit() -> None:
    fields = Spec.model_validate(TEMPERATURE.dump()).fields
    double = fields["temperature"]
    whole = double.model_copy(update={"type": "integer"})
    assert [beyond(double, (None, 10.0), way) for way in (0, 1)] == ["20.0", "20.0"]
    assert [beyond(double, (0.5, None), way) for way in (0, 1)] == ["-0.5", "-0.5"]
    assert [beyond(whole, (-3, 7.5), way) for way in (0, 1)] == ["15", "-6"]


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("malfrmed=0.1", "no fault is named 'malfrmed'; valid: malformed, out_of_range, "),
        ("malformed=5%", "'5%' is no share; write a number from 0 to 1, such as 0.05"),
        ("malformed=1.5", "'1.5' is no share"),
        ("malformed", "'' is no share"),
        ("late=0.1", "late needs a time, such as late=0.1:10s"),
        ("late=0.1:soon", "'soon': a duration is a whole number and a unit"),
        ("late=0.1:0s", "'0s' is no time"),
        ("duplicate=0.1:1s", "duplicate has no time; write duplicate=0.1"),
        ("malformed=0.99", "the shares of all faults are 1.09 together, more than 1"),
    ],
)
def test_a_fault_that_cannot_be_is_told(typed: str, text: str) -> None:
    declared = Faults.model_validate({"out_of_range": 0.1})
    with pytest.raises(StreamkeeperError) as caught:
        with_faults(declared, [typed])
    assert text in str(caught.value)


def test_what_is_typed_outranks_what_is_declared() -> None:
    declared = Faults.model_validate(ALL)
    changed = with_faults(declared, ["malformed=0", "late=0.5", "out_of_order=0.2:1min"])
    assert (changed.malformed, changed.out_of_range) == (0, 0.04)
    assert changed.late is not None
    assert (changed.late.share, changed.late.by) == (0.5, timedelta(minutes=10))
    assert changed.out_of_order is not None
    assert changed.out_of_order.by == timedelta(minutes=1)
    assert with_faults(declared, []) == declared


def test_ranges_of_numbers() -> None:
    assert ranges([]) == ""
    assert ranges([5, 3, 4, 9]) == "3-5, 9"
    assert ranges(range(0, 30, 2), shown=3) == "0, 2, 4 and 12 more"
