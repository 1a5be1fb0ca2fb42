"""Detectors: how a value is judged by the values of the hours before it.

A detector of another package is found by its entry point in the group `streamkeeper.detectors`: a
function that takes the declared limit and returns a `Detector`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from statistics import fmean, median
from typing import NamedTuple, Protocol

from streamkeeper.errors import StreamkeeperError

GROUP = "streamkeeper.detectors"
# Means of the same readings differ in their last digits with the order in which rows come.
_RELATIVE_ERROR = 1e-9
# Iglewicz and Hoaglin: of normally distributed values MAD is 0.6745 standard deviations.
_MAD_OF_NORMAL = 0.6745
# Of normally distributed values the mean absolute deviation is sqrt(2 / pi) of them.
_MEAN_DEVIATION_OF_NORMAL = math.sqrt(2 / math.pi)
# Sums and differences of larger numbers may leave a double's range, which ends near 2^1024.
_LARGE, _SMALLER = 2.0**1000, 2.0**-100


@dataclass(frozen=True)
class Verdict:
    """What a detector says of a value.

    anomalous: None where it cannot tell; score: how far the value lies off, with its sign; basis:
    what the score was measured by, or why there is none.
    """

    anomalous: bool | None
    score: float | None
    basis: str


class Detector(Protocol):
    """Judges a value by a history."""

    def judge(self, history: Sequence[float], value: float) -> Verdict:
        """Return the verdict on a value.

        Parameters: history, the values before it, oldest first, at least one; all are finite.
        """


class Spread(NamedTuple):
    """The median of values, and the median of their distances from it."""

    median: float
    mad: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the MAD of at least one value."""
    middle = median(values)
    return Spread(middle, median(abs(value - middle) for value in values))


@dataclass(frozen=True)
class MedianDeviation:
    """The modified z-score, 0.6745 * (value - median) / MAD, against a limit.

    B. Iglewicz, D. Hoaglin: How to Detect and Handle Outliers (ASQC, 1993), who take 3.5 for the
    limit. Where more than half of the history is one value, MAD is 0, and the mean absolute
    deviation from the median stands in for it, scaled likewise. A history of one value only has no
    spread: another value than that cannot be judged.
    """

    limit: float

    def judge(self, history: Sequence[float], value: float) -> Verdict:
        """Return the verdict on a value."""
        if max(abs(value), *map(abs, history)) > _LARGE:
            # The score is a ratio: numbers smaller by one factor have the same.
            return self.judge([one * _SMALLER for one in history], value * _SMALLER)
        middle, mad = spread(history)
        off, least = value - middle, _RELATIVE_ERROR * abs(middle)
        if mad > least:
            return self._verdict(_MAD_OF_NORMAL * off / mad, "mad")
        mean_deviation = fmean(abs(one - middle) for one in history)
        if mean_deviation > least:
            return self._verdict(_MEAN_DEVIATION_OF_NORMAL * off / mean_deviation, "mean_deviation")
        if abs(off) <= least:
            return Verdict(False, 0.0, "no_spread")
        return Verdict(None, None, "no_spread")

    def _verdict(self, score: float, basis: str) -> Verdict:
        if not math.isfinite(score):
            # The spread is so small that the ratio leaves a double's range.
            return Verdict(None, None, "no_spread")
        return Verdict(abs(score) > self.limit, score, basis)


_BUILT_IN: dict[str, Callable[[float], Detector]] = {"mad": MedianDeviation}


def is_method(name: str) -> bool:
    """Tell whether a detector has this name; to ask for a built-in one costs nothing."""
    return name in _BUILT_IN or name in methods()


def methods() -> tuple[str, ...]:
    """Return the names of all detectors: the built-in ones, and those of installed packages."""
    return tuple(dict.fromkeys((*_BUILT_IN, *(e.name for e in entry_points(group=GROUP)))))


def detector(method: str, limit: float) -> Detector:
    """Return the detector of a declared method.

    Parameters: limit, beyond which a value is anomalous, in the detector's own measure.
    Raises StreamkeeperError with the valid names.
    """
    if method in _BUILT_IN:
        return _BUILT_IN[method](limit)
    for found in entry_points(group=GROUP, name=method):
        made: Detector = found.load()(limit)
        return made
    valid = methods()
    nearest = difflib.get_close_matches(method, valid, n=1)
    text = f"{method!r} is no method to find anomalies; valid: {', '.join(valid)}"
    raise StreamkeeperError(text + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
