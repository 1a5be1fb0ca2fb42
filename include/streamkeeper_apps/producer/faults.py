"""Mistakes that the simulator makes on purpose: which message has which, by pure functions."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.durations import parse_duration
from streamkeeper.spec.models import FieldSpec
from streamkeeper.spec.producers import Faults, TimedFault

KINDS = ("malformed", "out_of_range", "duplicate", "late", "out_of_order")
MALFORMED, OUT_OF_RANGE, DUPLICATE, LATE, OUT_OF_ORDER = range(len(KINDS))
NONE = len(KINDS)
WHOLE = ("integer", "int32")
_TIMED = ("late", "out_of_order")
_MICROSECOND = timedelta(microseconds=1)
# Whoever begins looks back over so many messages, at most, for those that are held back.
_LONGEST_REACH = 5_000_000
Numbers = NDArray[np.int64]
Draw = Callable[[str, Numbers], NDArray[np.uint64]]
"""Gives 64 random-looking bits for each message, by a purpose and the messages' numbers."""


def share_of(faults: Faults, kind: str) -> float:
    """Return the share of messages that have a kind of fault."""
    fault = getattr(faults, kind)
    return (fault.share if isinstance(fault, TimedFault) else fault) if fault else 0.0


def with_faults(faults: Faults, typed: Sequence[str]) -> Faults:
    """Return the declared faults, changed by texts such as `malformed=0.05` or `late=0.1:10min`.

    Raises StreamkeeperError that names the text and the valid ones.
    """
    changed: dict[str, Any] = faults.model_dump(mode="json")
    for text in typed:
        kind, _, value = text.partition("=")
        share, _, by = value.partition(":")
        if kind not in KINDS:
            raise StreamkeeperError(
                f"--fault {text}: no fault is named {kind!r}; valid: {', '.join(KINDS)}"
            )
        changed[kind] = _number(text, share)
        if kind in _TIMED:
            declared = getattr(faults, kind)
            given = by or (_time_of(declared) if declared else "")
            if not given:
                raise StreamkeeperError(
                    f"--fault {text}: {kind} needs a time, such as {kind}={share}:10s"
                )
            changed[kind] = {"share": changed[kind], "by": _duration(text, given)}
        elif by:
            raise StreamkeeperError(f"--fault {text}: {kind} has no time; write {kind}={share}")
    found = Faults.model_validate(changed)
    if (total := sum(share_of(found, kind) for kind in KINDS)) > 1:
        raise StreamkeeperError(
            f"the shares of all faults are {total:g} together, more than 1; "
            "a message has one fault at most"
        )
    return found


def _time_of(fault: TimedFault) -> str:
    return str(fault.model_dump(mode="json")["by"])


def _number(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise StreamkeeperError(
            f"--fault {text}: {share!r} is no share; write a number from 0 to 1, such as 0.05"
        )
    return value


def _duration(text: str, by: str) -> str:
    try:
        found = parse_duration(by)
    except ValueError as error:
        raise StreamkeeperError(f"--fault {text}: {by!r}: {error}") from None
    if found <= timedelta(0):
        raise StreamkeeperError(f"--fault {text}: {by!r} is no time; write one such as 10s")
    return by


class FaultPlan:
    """Which messages have which fault: a function of their numbers, and of nothing else.

    Parameters: faults; draw; interval_us, the time between messages in µs.
    """

    def __init__(self, faults: Faults, draw: Draw, interval_us: float) -> None:
        self._draw = draw
        self._edges = np.cumsum([share_of(faults, kind) for kind in KINDS])
        self.any = bool(self._edges[-1] > 0)
        self.late_us = faults.late.by // _MICROSECOND if faults.late else 0
        self.reach = 0
        if share_of(faults, "out_of_order") and faults.out_of_order:
            places = int(faults.out_of_order.by / _MICROSECOND / interval_us)
            self.reach = min(max(1, places), _LONGEST_REACH)

    def kinds(self, numbers: Numbers) -> NDArray[np.int64]:
        """Return the fault of each message, an index of KINDS, or NONE."""
        bits = self._draw("~fault", numbers)
        fractions = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.searchsorted(self._edges, fractions, side="right")

    def turns(self, numbers: Numbers) -> Numbers:
        """Return after which message each held-back one is sent: 1 to `reach` places later."""
        places = self._draw("~turn", numbers) % np.uint64(max(self.reach, 1))
        return numbers + 1 + places.astype(np.int64)

    def ways(self, numbers: Numbers) -> list[int]:
        """Return 32 bits for each message that choose how it is wrong."""
        return (self._draw("~way", numbers) >> np.uint64(32)).astype(np.int64).tolist()


class HeldBack:
    """The messages whose turn has passed and that are still to be sent.

    Only a way to go faster: all of it follows from the plan and the number where sending stands.

    Parameters: plan; whole_to, no message below this number is held back any more.
    """

    def __init__(self, plan: FaultPlan, whole_to: int) -> None:
        self._plan, self._whole_to = plan, whole_to
        self._held: list[tuple[int, int]] = []
        self._at: int | None = None

    def order(self, first: int, count: int) -> tuple[Numbers, Numbers]:
        """Return the numbers of the messages to send for the next places, and their places."""
        numbers = np.arange(first, first + count, dtype=np.int64)
        if not self._plan.reach:
            return numbers, numbers
        if self._at != first:
            self._held = []
            self._hold(max(self._whole_to, first - self._plan.reach), first, first)
        own = self._hold(first, first + count, first)
        self._at = first + count
        due = []
        while self._held and self._held[0][0] < first + count:
            due.append(heapq.heappop(self._held))
        late = np.array(due, dtype=np.int64).reshape(-1, 2)
        found, places = np.concatenate([own, late[:, 1]]), np.concatenate([own, late[:, 0]])
        # At one place its own message goes first, then those held back, the oldest first.
        order = np.lexsort((found, found != places, places))
        return found[order], places[order]

    def rest(self) -> Numbers:
        """Take all that is still held back, in the order of its turns."""
        found = [number for _, number in sorted(self._held)]
        self._held = []
        return np.array(found, dtype=np.int64)

    def _hold(self, first: int, end: int, from_place: int) -> Numbers:
        """Hold back those of a range whose turn comes at a place or later; return the others."""
        numbers = np.arange(first, end, dtype=np.int64)
        held = self._plan.kinds(numbers) == OUT_OF_ORDER
        for place, number in zip(
            self._plan.turns(numbers[held]).tolist(), numbers[held].tolist(), strict=True
        ):
            if place >= from_place:
                heapq.heappush(self._held, (place, number))
        return numbers[~held]


def beyond(field: FieldSpec, limits: tuple[float | None, float | None], way: int) -> str:
    """Return a number outside a field's range, as JSON text.

    Parameters: limits, the range in the unit that is sent; way, bits that choose the side.
    """
    low, high = limits
    above = high is not None and (way & 1 == 0 or low is None)
    limit = high if above else low
    assert limit is not None
    step = max(1.0, abs(limit))
    value = limit + step if above else limit - step
    if field.type in WHOLE:
        return str(math.ceil(value) if above else math.floor(value))
    return json.dumps(round(value, 6))


def malform(value: bytes, way: int, csv: bool) -> bytes:
    """Return a message that cannot be read, made of one that can.

    Parameters: way, bits that choose how; csv, whether the message is a CSV record.
    """
    ways = _CSV_WAYS if csv else _JSON_WAYS
    return ways[way % len(ways)](value, way // len(ways))


def wrong_type(way: int) -> str | None:
    """Return what stands in the place of the event time in some malformed messages."""
    return '{"of":"another type"}' if way % 6 == 5 else None


def _truncated(value: bytes, bits: int) -> bytes:
    return value[: 1 + bits % max(1, len(value) - 1)]


def _garbage(value: bytes, bits: int) -> bytes:
    # 0xFF stands in no UTF-8 text.
    return b"\xff" + bits.to_bytes(8, "little") + value[:8]


_JSON_WAYS: tuple[Callable[[bytes, int], bytes], ...] = (
    _truncated,
    _garbage,
    lambda value, bits: value + value,
    lambda value, bits: b"[" + value + b"]",
    lambda value, bits: b"",
)
_CSV_WAYS: tuple[Callable[[bytes, int], bytes], ...] = (
    _garbage,
    lambda value, bits: b'"' + value.replace(b'"', b""),
    lambda value, bits: value + b",;|\t" * 40,
)
