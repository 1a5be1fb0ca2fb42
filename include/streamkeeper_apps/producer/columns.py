"""The columns of simulated messages, and random-looking numbers that can be drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

# SplitMix64 (Steele, Lea, Flood 2014): a counter goes in, a number that looks random comes out, so
# that any message can be made again without those before it.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Block(NamedTuple):
    """Which messages are asked for: entities from 0, ticks, event times in µs since 1970."""

    entities: NDArray[np.int64]
    ticks: NDArray[np.int64]
    times: NDArray[np.int64]


Column = Callable[[Block], Sequence[str]]
"""Makes one field of a block's messages, as JSON texts."""


def draw(seed: int, field: str, entities: NDArray[np.int64], ticks: NDArray[np.int64]) -> Numbers:
    """Return 64 random-looking bits for each pair of entity and tick.

    Parameters: entities and ticks, arrays of one length.
    """
    digest = hashlib.blake2b(f"{seed}/{field}".encode(), digest_size=8).digest()
    key = np.uint64(int.from_bytes(digest, "little"))
    by_entity = _mix(key + entities.astype(np.uint64) * _STEP)
    return _mix(by_entity + ticks.astype(np.uint64) * _STEP)


def _mix(x: Numbers) -> Numbers:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def fractions(bits: Numbers) -> NDArray[np.float64]:
    """Return numbers from 0 up to, but not including, 1."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
