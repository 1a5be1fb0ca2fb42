"""Spans: the offsets that batches cover, by partition, and what a union of them leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Offsets = Mapping[int, int]
"""Partition -> the next offset to read."""
Span = Mapping[int, tuple[int, int]]
"""Partition -> (first offset, end offset); the end is not included."""
Pieces = dict[int, list[tuple[int, int]]]
"""Partition -> sorted, separate (first offset, end offset); a span may leave holes this way."""


def span_between(start: Offsets, end: Offsets) -> dict[int, tuple[int, int]]:
    """Return the span from `start` to `end`; a partition missing in `start` begins at 0.

    Raises ValueError when an end lies before its start.
    """
    span = {}
    for partition, stop in sorted(end.items()):
        first = start.get(partition, 0)
        if stop < first:
            raise ValueError(f"partition {partition}: end offset {stop} lies before {first}")
        if stop > first:
            span[partition] = (first, stop)
    return span


def size(span: Span) -> int:
    """Return how many offsets the span covers."""
    return sum(stop - first for first, stop in span.values())


def holes(start: Offsets, target: Offsets, spans: Iterable[Span]) -> Pieces:
    """Return what the union of `spans` leaves uncovered between `start` and `target`.

    Parameters: start and target, offsets by partition; spans, in any order.
    Returns partition -> list of (first, end) holes; empty when all is covered.
    """
    begins = {partition: start.get(partition, 0) for partition in target}
    wanted = {p: [(begins[p], stop)] for p, stop in target.items() if begins[p] < stop}
    return without(wanted, union(spans))


def union(spans: Iterable[Span]) -> Pieces:
    """Return all offsets that any of the spans covers."""
    by_partition: Pieces = {}
    for span in spans:
        for partition, piece in span.items():
            by_partition.setdefault(partition, []).append(piece)
    return {p: _joined(pieces) for p, pieces in sorted(by_partition.items())}


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, end in sorted(pieces):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif first < end:
            joined.append((first, end))
    return joined


def without(covered: Pieces, cut: Pieces) -> Pieces:
    """Return the offsets of `covered` that `cut` leaves."""
    left: Pieces = {}
    for partition, pieces in covered.items():
        kept = []
        for first, end in pieces:
            position = first
            for cut_first, cut_end in cut.get(partition, ()):
                if cut_end <= position or cut_first >= end:
                    continue
                if cut_first > position:
                    kept.append((position, cut_first))
                position = max(position, cut_end)
            if position < end:
                kept.append((position, end))
        if kept:
            left[partition] = kept
    return left


def meet(span: Span, covered: Pieces) -> bool:
    """Tell whether a span and some pieces have an offset in common."""
    return any(
        max(first, begin) < min(end, stop)
        for partition, (first, end) in span.items()
        for begin, stop in covered.get(partition, ())
    )


def furthest(*offsets: Offsets) -> dict[int, int]:
    """Return, by partition, the highest of several offsets."""
    found: dict[int, int] = {}
    for one in offsets:
        for partition, offset in one.items():
            found[partition] = max(offset, found.get(partition, 0))
    return dict(sorted(found.items()))


def spans_of(pieces: Pieces) -> list[dict[int, tuple[int, int]]]:
    """Return pieces as spans, one piece each."""
    return [{p: piece} for p, found in pieces.items() for piece in found]


def tell(pieces: Pieces) -> str:
    """Write pieces for a message: `partition 0: 5..9, 12..14; partition 3: 0..2`."""
    return "; ".join(
        f"partition {p}: " + ", ".join(f"{first}..{end - 1}" for first, end in found)
        for p, found in sorted(pieces.items())
    )
