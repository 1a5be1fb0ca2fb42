"""Fields that follow the entity's site or event time: pure functions of seed, entity and time.

They compute with + - * / and rounding alone, which all machines do alike.
"""

from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from streamkeeper.spec.producers import Cycle, Drain, Simulator
from streamkeeper_apps.producer.columns import Block, Column, draw, fractions

_MICROSECOND = timedelta(microseconds=1)
_METRES = 111_320.0  # of a degree of latitude
_DEGREE_DIGITS = 6  # a tenth of a metre


def site_column(part: str, simulator: Simulator) -> Column:
    """Make the name or a coordinate of each entity's site.

    Entities belong to the sites in turn. Each lies up to `scatter` metres north or south and east
    or west of its site, always at the same place.

    Parameters: part, `name`, `latitude` or `longitude`.
    """
    sites = simulator.sites
    if part == "name":
        names = np.array([json.dumps(s.name, ensure_ascii=False) for s in sites], dtype=object)
        return lambda block: names[block.entities % len(sites)].tolist()
    degrees = np.array([getattr(site, part) for site in sites])
    reach = np.array([_reach(part, site.latitude, simulator.scatter) for site in sites])
    limit = 90.0 if part == "latitude" else 180.0

    def made(block: Block) -> list[str]:
        of = block.entities % len(sites)
        off = _by_entity(simulator.seed, f"~site/{part}", block.entities)
        place = np.clip(degrees[of] + off * reach[of], -limit, limit)
        return list(map(repr, (np.round(place, _DEGREE_DIGITS) + 0.0).tolist()))

    return made


def _reach(part: str, latitude: float, metres: float) -> float:
    """Return how many degrees so many metres are, at most 1, at a latitude."""
    along = math.cos(math.radians(latitude)) if part == "longitude" else 1.0
    # The cosine's last digit may differ between machines.
    return round(min(1.0, metres / _METRES / max(along, 1e-3)), 12)


def cycle_column(name: str, seed: int, of: Cycle, digits: int, integer: bool) -> Column:
    """Make a number that goes up and down in event time, as two arcs of a parabola a period."""
    period, peak = of.period // _MICROSECOND, of.peak // _MICROSECOND

    def made(block: Block) -> list[str]:
        turned = (block.times - peak + period // 4) % period * 2 / period
        up = np.floor(turned)
        arc = 4 * (turned - up) * (1 - (turned - up))
        value = of.mean + of.amplitude * np.where(up < 1, arc, -arc)
        value = value + of.spread * _by_entity(seed, f"{name}~spread", block.entities)
        bits = draw(seed, name, block.entities, block.ticks)
        value = value + of.noise * (2 * fractions(bits) - 1)
        return _texts(value, digits, integer)

    return made


def drain_column(name: str, seed: int, of: Drain, digits: int, integer: bool) -> Column:
    """Make a level that falls evenly until it is empty and is then full again."""
    lasts = of.lasts // _MICROSECOND

    def made(block: Block) -> list[str]:
        # Each entity's own length and beginning.
        own = 4.0 + _by_entity(seed, f"{name}~lasts", block.entities)
        length = np.maximum(1, np.floor(lasts * own / 4).astype(np.int64))
        begun = draw(seed, f"{name}~begun", block.entities, np.zeros_like(block.ticks))
        gone = (block.times + (begun >> np.uint64(1)).astype(np.int64) % length) % length / length
        return _texts(of.full - (of.full - of.empty) * gone, digits, integer)

    return made


def _by_entity(seed: int, purpose: str, entities: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a number from -1 up to, but not including, 1 that each entity keeps."""
    return 2 * fractions(draw(seed, purpose, entities, np.zeros_like(entities))) - 1


def _texts(values: NDArray[np.float64], digits: int, integer: bool) -> list[str]:
    if integer:
        return list(map(repr, np.rint(values).astype(np.int64).tolist()))
    return list(map(repr, (np.round(values, digits) + 0.0).tolist()))
