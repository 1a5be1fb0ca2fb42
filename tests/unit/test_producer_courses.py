"""What follows sites and event time: places on a map, cycles, levels that fall, episodes."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.faults import HeldBack
from streamkeeper_apps.producer.pacing import micros
from streamkeeper_apps.producer.simulator import Simulation

DIGEST = "fb4c7768c5c11a32"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SITES = [
    {"name": "Fès", "latitude": 34.03, "longitude": -5.0},
    {"name": "Tanger", "latitude": 35.77, "longitude": -5.8},
    {"name": "pole", "latitude": 89.9999, "longitude": 179.9999},
]
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "at": ("timestamp", {"event_time": True}),
    "id": ("integer", {"entity": "{}"}),
    "site": ("string", {"site": "name"}),
    "latitude": ("double", {"site": "latitude"}),
    "longitude": ("double", {"site": "longitude"}),
    "t": ("double", {"cycle": {"mean": 20, "amplitude": 8, "peak": "15h", "noise": 0.5}}),
    "co2": ("integer", {"cycle": {"mean": 600, "amplitude": 100, "spread": 50}}),
    "battery": ("double", {"drain": {"full": 100, "empty": 4, "lasts": "10h"}, "digits": 3}),
    "status": ("string", {"constant": "ok"}),
}
EPISODES = [
    {
        **{"name": "failed", "every": "6h", "lasts": ["10min", "30min"]},
        "fields": {"status": {"constant": "failed"}, "t": {"missing": True}},
    },
    {
        **{"name": "warning", "every": "2h", "lasts": ["5min", "5min"]},
        "fields": {"status": {"choice": ["warning"]}, "co2": {"uniform": [3000, 4000]}},
    },
]


def simulation(seed: int = 0, *, entities: int = 6, **more: Any) -> Simulation:
    """Return a simulation of sensors at three sites, a message a minute each."""
    declared = {"entities": entities, "every": "1min", "seed": seed, "sites": SITES}
    declared |= {"scatter": 250, "episodes": EPISODES} | more
    return Simulation(
        Spec.model_validate(
            {
                **{"name": "made", "description": "x", "app": "made"},
                "source": {"kafka": {"topic": "made"}},
                "fields": {name: {"type": kind} for name, (kind, _) in FIELDS.items()},
                "event_time": {"field": "at"},
                "lake": {"path": "/made"},
                "producer": {
                    "simulator": declared | {"fields": {n: made for n, (_, made) in FIELDS.items()}}
                },
            }
        )
    )


def made(given: Simulation, hours: int = 24, begin: datetime = NOON) -> list[dict[str, Any]]:
    first = given.first_from(micros(begin))
    return [json.loads(m.value) for m in given.messages(first, hours * 60 * given.entities)]


def of(found: list[dict[str, Any]], entity: int) -> list[dict[str, Any]]:
    return [m for m in found if m["id"] == entity]


@settings(max_examples=25)
@given(st.integers(0, 10**8), st.integers(0, 900), st.integers(1, 50))
def test_any_message_can_be_made_again_without_those_before_it(
    first: int, offset: int, count: int
) -> None:
    together = simulation().messages(first, offset + count)
    assert simulation().messages(first + offset, count) == together[offset:]


def test_the_bytes_of_a_message_never_change() -> None:
    """A relaunch of another version, on another machine, sends what was sent before."""
    given = simulation()
    digest = hashlib.sha256()
    for message in given.messages(given.first_from(micros(NOON)), 20_000):
        digest.update(message.value)
    assert digest.hexdigest()[:16] == DIGEST


def test_messages_that_are_held_back_or_late_are_those_of_their_own_time() -> None:
    faults = {"out_of_order": {"share": 0.2, "by": "1h"}, "late": {"share": 0.1, "by": "3h"}}
    given, plain = simulation(faults=faults), simulation()
    first = given.first_from(micros(NOON))
    batch = given.batch(first, 4000, HeldBack(given.plan, first))
    usual = {m.value for m in plain.messages(first, 4000)}
    late = [json.loads(m[1]) for m, f in zip(batch.messages, batch.faults, strict=True)
            if f == "late"]  # fmt: skip
    others = [m[1] for m, f in zip(batch.messages, batch.faults, strict=True) if f != "late"]
    assert len(late) > 200
    assert set(others) <= usual
    # What follows event time is told of the time that the message names.
    before = made(plain, 70, NOON - timedelta(hours=3))
    by_time = {(m["id"], m["at"]): m for m in before}
    for message in late:
        same = by_time[message["id"], message["at"]]
        assert (message["status"], message["battery"]) == (same["status"], same["battery"])


def test_what_belongs_to_a_site_is_drawn_together_and_kept() -> None:
    found = made(simulation(entities=60), 1)
    places = {m["id"]: (m["site"], m["latitude"], m["longitude"]) for m in found}
    assert {(m["id"], m["site"], m["latitude"], m["longitude"]) for m in found} == {
        (entity, *place) for entity, place in places.items()
    }
    assert len({place[1:] for place in places.values() if place[0] != "pole"}) == 40
    for entity, (name, latitude, longitude) in places.items():
        site = SITES[(entity - 1) % 3]
        assert name == site["name"]
        north = (latitude - float(site["latitude"])) * 111_320
        assert -250.1 <= north <= 250.1
        east = (longitude - float(site["longitude"])) * 111_320
        east *= np.cos(np.radians(float(site["latitude"])))
        assert -250.1 <= east <= 250.1 or name == "pole"
        assert -90 <= latitude <= 90
        assert -180 <= longitude <= 180
    at_fes = [place for place in places.values() if place[0] == "Fès"]
    assert max(p[1] for p in at_fes) - min(p[1] for p in at_fes) > 250 / 111_320


def test_without_scatter_entities_stand_at_their_site() -> None:
    found = made(simulation(scatter=0), 1)
    assert {(m["site"], m["latitude"], m["longitude"]) for m in found} == {
        (s["name"], s["latitude"], s["longitude"]) for s in SITES
    }


def test_a_cycle_is_highest_at_its_peak_and_comes_again() -> None:
    found = of(made(simulation(episodes=[]), 48), 1)
    by_time = {m["at"][11:16]: m["t"] for m in found[:1440]}
    assert abs(by_time["15:00"] - 28) <= 0.5
    assert abs(by_time["03:00"] - 12) <= 0.5
    assert abs(by_time["09:00"] - 20) <= 0.6
    assert all(abs(a["t"] - b["t"]) <= 1 for a, b in zip(found[:1440], found[1440:], strict=True))
    assert all(abs(a["t"] - b["t"]) <= 1.1 for a, b in pairwise(found))
    # spread: an entity is always as far off as it is, in whole numbers here
    everyone = made(simulation(episodes=[], entities=50), 24)
    means = [np.mean([m["co2"] for m in of(everyone, entity)]) for entity in range(1, 51)]
    assert 20 < np.std(means) < 40
    assert all(550 <= mean <= 650 for mean in means)
    assert all(isinstance(m["co2"], int) for m in everyone)


def test_a_battery_falls_evenly_and_is_replaced_when_empty() -> None:
    found = made(simulation(entities=20), 72)
    lasted = []
    for entity in range(1, 21):
        levels = [m["battery"] for m in of(found, entity)]
        assert 4 <= min(levels) < 4.5
        assert 99.5 < max(levels) <= 100
        replaced = [n for n, (a, b) in enumerate(pairwise(levels)) if b > a]
        steps = [a - b for a, b in pairwise(levels) if b < a]
        assert max(steps) - min(steps) < 0.01
        lengths = {b - a for a, b in pairwise(replaced)}
        assert max(lengths) - min(lengths) <= 1
        lasted.append(min(lengths) / 60)
    assert 7.4 < min(lasted) < 9
    assert 11 < max(lasted) < 12.6


def test_episodes_come_and_go_for_each_entity_at_times_of_its_own() -> None:
    found = made(simulation(entities=15), 120)
    starts = set()
    for entity in range(1, 16):
        runs = [(k, len(list(g))) for k, g in groupby(m["status"] for m in of(found, entity))]
        failed = [n for status, n in runs[1:-1] if status == "failed"]
        assert 19 <= len(failed) <= 21
        assert all(10 <= n <= 31 for n in failed)
        assert max(failed) > 20
        # A failure goes before a warning, and may cut one off.
        assert all(n <= 6 for status, n in runs if status == "warning")
        share = sum(n for status, n in runs if status == "warning") / len(of(found, entity))
        assert 0.03 < share < 5 / 120 * 1.1
        starts.add(runs[0][1])
    assert len(starts) > 10


def test_during_an_episode_its_fields_alone_are_others() -> None:
    usual, found = made(simulation(episodes=[])), made(simulation())
    for plain, message in zip(usual, found, strict=True):
        changed = {name for name in plain if plain[name] != message[name]}
        if message["status"] == "failed":
            assert message["t"] is None
            assert changed == {"status", "t"}
        elif message["status"] == "warning":
            assert 3000 <= message["co2"] <= 4000
            assert changed == {"status", "co2"}
        else:
            assert changed == set()
    assert len({m["status"] for m in found}) == 3


def test_entities_more_or_another_seed() -> None:
    few, many, other = simulation(entities=6), simulation(entities=12), simulation(1)
    status = [[m["status"] for m in of(made(s), 1)] for s in (few, many, other)]
    assert status[0] == status[1] != status[2]
    battery = [[m["battery"] for m in of(made(s), 1)] for s in (few, many, other)]
    assert battery[0] == battery[1] != battery[2]
