"""How a simulated field is made: each value a pure function of seed, field, entity and tick."""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkeeper.spec.field_types import is_number
from streamkeeper.spec.models import FieldSpec
from streamkeeper.spec.producers import Drawn, Generator, Instead, LogNormal, Simulator
from streamkeeper.spec.values import Scalar
from streamkeeper_apps.producer.columns import Block, Column, draw, fractions
from streamkeeper_apps.producer.courses import cycle_column, drain_column, site_column
from streamkeeper_apps.producer.faults import WHOLE

_P95 = NormalDist().inv_cdf(0.95)
_QUANTILE_BITS = 16


def column(name: str, generator: Generator, field: FieldSpec, simulator: Simulator) -> Column:
    """Return what makes a field as it is declared."""
    integer = field.type in WHOLE
    if generator.entity is not None:
        numbered = (generator.entity.format(i + 1) for i in range(simulator.entities))
        return _by_entity([text if is_number(field.type) else _json(text) for text in numbered])
    if generator.assigned is not None:
        return _by_entity([_json(value) for value in generator.assigned])
    if generator.site is not None:
        return site_column(generator.site, simulator)
    if generator.event_time is not None:
        return _times(generator.written or (field.format,))
    if generator.by is not None:
        return _by_case(name, generator, simulator, integer)
    return _drawn(name, simulator.seed, generator, integer)


def instead(name: str, seed: int, made: Instead, field: FieldSpec) -> Column:
    """Return what makes a field during an episode.

    Parameters: name, under which it is drawn.
    """
    if made.missing:
        return _by_entity([_json(None)])
    if made.constant is not None:
        return _by_entity([_json(made.constant)])
    if made.choice is not None:
        return _choice(name, seed, made.choice)
    assert made.uniform is not None
    return _uniform(name, seed, made.uniform, made.digits, field.type in WHOLE)


def _by_case(name: str, generator: Generator, simulator: Simulator, integer: bool) -> Column:
    """Make a column of entities that each have the case of another field's value.

    A reading is drawn as it would be if its case were that of all entities.
    """
    assert generator.by is not None
    cases = generator.cases or {}
    values = _kept(simulator.fields[generator.by])
    places = {case: place for place, case in enumerate(cases)}
    made = [_drawn(name, simulator.seed, case, integer) for case in cases.values()]
    table = np.array([places[str(value)] for value in values])

    def texts(block: Block) -> list[str]:
        of = table[block.entities % len(table)]
        found = np.empty(len(of), dtype=object)
        for place, make in enumerate(made):
            mine = of == place
            found[mine] = make(Block(*(part[mine] for part in block)))
        return found.tolist()

    return texts


def _kept(generator: Generator) -> Sequence[Scalar]:
    """Return the values that the entities keep of a field, in turn."""
    if generator.assigned is not None:
        return generator.assigned
    assert generator.constant is not None
    return (generator.constant,)


def _drawn(name: str, seed: int, generator: Drawn, integer: bool) -> Column:
    if generator.constant is not None:
        return _by_entity([_json(generator.constant)])
    if generator.choice is not None and generator.weights is not None:
        return _weighted(name, seed, generator.choice, generator.weights)
    if generator.choice is not None:
        return _choice(name, seed, generator.choice)
    if generator.ipv4 is not None:
        return _addresses(name, seed, generator.ipv4)
    return _number(name, seed, generator, integer)


def _number(name: str, seed: int, generator: Drawn, integer: bool) -> Column:
    if generator.lognormal is not None:
        digits = 0 if integer else generator.digits
        return _lognormal(name, seed, generator.lognormal, digits, integer)
    if generator.cycle is not None:
        return cycle_column(name, seed, generator.cycle, generator.digits, integer)
    if generator.drain is not None:
        return drain_column(name, seed, generator.drain, generator.digits, integer)
    assert generator.uniform is not None
    return _uniform(name, seed, generator.uniform, generator.digits, integer)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _by_entity(texts: list[str]) -> Column:
    """Make a column that each entity keeps: the texts in turn."""
    table = np.array(texts, dtype=object)
    return lambda block: table[block.entities % len(table)].tolist()


def _choice(name: str, seed: int, values: Sequence[Scalar]) -> Column:
    table = np.array([_json(value) for value in values], dtype=object)
    size = np.uint64(len(table))
    return lambda block: table[draw(seed, name, block.entities, block.ticks) % size].tolist()


def _weighted(name: str, seed: int, values: Sequence[Scalar], weights: Sequence[float]) -> Column:
    table = np.array([_json(value) for value in values], dtype=object)
    sums = np.cumsum(np.array(weights, dtype=np.float64))
    edges = sums[:-1] / sums[-1]

    def made(block: Block) -> list[str]:
        drawn = fractions(draw(seed, name, block.entities, block.ticks))
        return table[np.searchsorted(edges, drawn, side="right")].tolist()

    return made


def _lognormal(name: str, seed: int, of: LogNormal, digits: int, integer: bool) -> Column:
    """Make a column of 65,536 quantiles, drawn with the same chance.

    A table, as every machine rounds its numbers alike; numpy's exp and log differ in the last bit
    from one processor to another.
    """
    size, spread = 1 << _QUANTILE_BITS, math.log(of.p95 / of.median) / _P95
    inverse, most = NormalDist().inv_cdf, math.inf if of.most is None else of.most
    # The p-th of the first half is 1 / the p-th of the second.
    half = [math.exp(spread * inverse((i + 0.5) / size)) for i in range(size // 2)]
    quantiles = [of.median * f for f in half] + [of.median / f for f in reversed(half)]
    rounded = [round(min(q, most), digits) for q in quantiles]
    texts = [repr(int(q) if integer else q) for q in rounded]
    table, shift = np.array(texts, dtype=object), np.uint64(64 - _QUANTILE_BITS)
    return lambda block: table[draw(seed, name, block.entities, block.ticks) >> shift].tolist()


def _addresses(name: str, seed: int, networks: Sequence[str]) -> Column:
    """Make a column of addresses, each of all networks with the same chance."""
    found = [ipaddress.IPv4Network(network) for network in networks]
    ends = np.cumsum(np.array([n.num_addresses for n in found], dtype=np.uint64))
    # From the place among all addresses to the address: what is added within each network.
    starts = np.array([int(n.network_address) for n in found], dtype=np.int64)
    shifts = starts - np.concatenate([[0], ends[:-1].astype(np.int64)])

    def made(block: Block) -> list[str]:
        places = draw(seed, name, block.entities, block.ticks) % ends[-1]
        of = np.searchsorted(ends, places, side="right")
        numbers = places.astype(np.int64) + shifts[of]
        parts = [((numbers >> bits) & 255).tolist() for bits in (24, 16, 8, 0)]
        return [f'"{a}.{b}.{c}.{d}"' for a, b, c, d in zip(*parts, strict=True)]

    return made


def _uniform(
    name: str, seed: int, limits: tuple[float, float], digits: int, integer: bool
) -> Column:
    low, high = limits

    def drawn(block: Block) -> NDArray[np.float64]:
        return fractions(draw(seed, name, block.entities, block.ticks))

    def integers(block: Block) -> list[str]:
        whole = np.floor(int(low) + drawn(block) * (int(high) - int(low) + 1))
        return list(map(repr, whole.astype(np.int64).tolist()))

    def doubles(block: Block) -> list[str]:
        rounded = np.round(low + drawn(block) * (high - low), digits)
        rounded = np.clip(rounded, low, high)  # rounding may step over a limit with more digits
        return list(map(repr, (rounded + 0.0).tolist()))  # + 0.0: no negative zero

    return integers if integer else doubles


def _times(forms: Sequence[str]) -> Column:
    """Make a column of event times, in the entities' forms in turn."""
    made = [_TIMES[form] for form in forms]
    if len(set(forms)) == 1:
        return made[0]

    def texts(block: Block) -> list[str]:
        found = np.empty(len(block.entities), dtype=object)
        for place, make in enumerate(made):
            mine = block.entities % len(made) == place
            found[mine] = make(Block(*(part[mine] for part in block)))
        return found.tolist()

    return texts


def _iso(block: Block) -> list[str]:
    instants = (block.times // 1000).astype("datetime64[ms]")
    return [f'"{text}Z"' for text in np.datetime_as_string(instants).tolist()]


def _seconds(block: Block) -> list[str]:
    return list(map(repr, (block.times // 1_000_000).tolist()))


def _milliseconds(block: Block) -> list[str]:
    return list(map(repr, (block.times // 1000).tolist()))


def _microseconds(block: Block) -> list[str]:
    return list(map(repr, block.times.tolist()))


_TIMES = {
    "iso8601": _iso,
    "epoch_s": _seconds,
    "epoch_ms": _milliseconds,
    "epoch_us": _microseconds,
}
