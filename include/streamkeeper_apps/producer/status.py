"""Shows what producers have sent, by event hour, beside what has landed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from streamkeeper.launches import Launch, ProducedHour
from streamkeeper.settings import Settings
from streamkeeper_apps.control import how_it_ended
from streamkeeper_apps.streams import stream_names, unknown
from streamkeeper_io.store import Store

_KINDS = {"producer": "launched", "by_hand": "by hand"}


def show_status(settings: Settings, stream: str, last: int) -> int:
    """Print the counts of the latest producers of a stream; return the exit code.

    Raises StoreUnavailable; StreamkeeperError for a stream that nobody declares and nothing filled.
    """
    store = Store(settings.need("store"))
    try:
        found = store.produced(stream, last)
        if not found and stream not in stream_names(settings):
            raise unknown(settings, stream)
        launches = {epoch: store.launch(epoch) for epoch in {hour.epoch for hour in found}}
        landed = store.landed_hours(stream)
    finally:
        store.close()
    console = Console(highlight=False, soft_wrap=True)
    if not found:
        console.print(f"no producer of {stream} has told the store what it sent")
        return 0
    for epoch in sorted(launches):
        console.print(headline(launches[epoch]), markup=False)
    table = Table("launch", "event hour", "sent", "acknowledged", "failed", "landed", "faults")
    for row in rows(found, landed):
        table.add_row(*row)
    console.print(table)
    return 0


def headline(launch: Launch) -> str:
    """Return the line that tells which producer a launch was."""
    ended = f", {how_it_ended(launch)}" if launch.ended_at else ", runs or was killed"
    owner = f" ({launch.owner})" if launch.owner else ""
    kind = _KINDS.get(launch.kind, launch.kind)
    return f"launch {launch.epoch}: {kind}{owner}, since {launch.began_at:%F %T} UTC{ended}"


def rows(found: Sequence[ProducedHour], landed: dict[datetime, int]) -> Iterator[list[str]]:
    """Yield the table's rows; what has landed of an hour stands beside its newest launch."""
    newest = {hour.hour: hour.epoch for hour in sorted(found, key=lambda hour: hour.epoch)}
    for hour in found:
        here = hour.hour is not None and newest[hour.hour] == hour.epoch
        rows_landed = landed.get(hour.hour, 0) if here and hour.hour else None
        yield [
            str(hour.epoch),
            f"{hour.hour:%F %H}:00" if hour.hour else "not told",
            *(f"{n:,}" for n in (hour.sent, hour.acked, hour.failed)),
            "" if rows_landed is None else f"{rows_landed:,}",
            ", ".join(f"{kind} {count:,}" for kind, count in sorted(hour.faults.items())),
        ]
