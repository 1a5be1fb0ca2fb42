"""Messages on their way to Kafka: numbered, with their event hours, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HOUR_US = 3_600_000_000


class Message(NamedTuple):
    """A message as it goes to Kafka."""

    key: bytes | None
    value: bytes


class Batch(NamedTuple):
    """Messages to be sent together.

    messages: each with its key and its value as its first two items; numbers: the number of each
    message, never falling; hours: the event hour of each, as whole hours since 1970, or None where
    nobody can tell; position: the number of the message that follows the batch; faults: the kind
    of fault of each, empty for none.
    """

    messages: Sequence[tuple[Any, ...]]
    numbers: Sequence[int]
    hours: Sequence[int | None]
    position: int
    faults: Sequence[str] = ()


@dataclass(slots=True)
class HourCount:
    """What was sent of one event hour; `faults` counts by kind."""

    sent: int = 0
    acked: int = 0
    failed: int = 0
    faults: Counter[str] = field(default_factory=Counter)


@dataclass
class Counts:
    """What became of the messages: sent = acked + failed + those still under way."""

    sent: int
    acked: int
    failed: int

    @property
    def unknown(self) -> int:
        """Messages without an answer: they may have arrived or not."""
        return self.sent - self.acked - self.failed

    def __str__(self) -> str:
        text = f"sent {self.sent:,}, acknowledged {self.acked:,}"
        if self.failed:
            text += f", refused or given up {self.failed:,}"
        return text + (f", without an answer {self.unknown:,}" if self.unknown else "")


def ranges(numbers: Sequence[int], shown: int = 10) -> str:
    """Write numbers as ranges, such as `3-7, 9`; at most so many, then how many more there are."""
    found = list(_ranges(sorted(set(numbers))))
    texts = [f"{a}-{b}" if a < b else f"{a}" for a, b in found[:shown]]
    left = sum(b - a + 1 for a, b in found[shown:])
    return ", ".join(texts) + (f" and {left:,} more" if left else "")


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    begin = last = None
    for number in numbers:
        if last is None or begin is None:
            begin = number
        elif number != last + 1:
            yield begin, last
            begin = number
        last = number
    if begin is not None and last is not None:
        yield begin, last
