"""Launches: one start of an app's queries, of a producer or of a close, told by its epoch."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["driver", "producer", "close", "periods", "by_hand"]
"""`by_hand`: a producer that a person runs; it holds no lock."""
WRITE_NUMBERS_PER_LAUNCH = 10**9
LIVE_RANK = 10**15
"""Live windows are written with their write number minus this, so that any close outranks them."""

EXIT_DRAINED = 0
EXIT_ERROR = 1
EXIT_FENCED = 77
EXIT_DISAGREEMENT = 78
EXIT_CHECK = 79
EXIT_UNAVAILABLE = 75


class Process(BaseModel):
    """A process on one host, told apart from any later one with the same number.

    `start` is the start time in clock ticks since boot (field 22 of /proc/PID/stat);
    `pid` leads a session of its own that holds all of the launch's processes.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    boot_id: str
    pid: int
    start: int


class Launch(BaseModel):
    """One launch as the store knows it.

    `epoch` is the launch's number; `progress` is the last heartbeat's account of itself;
    `folder` holds its snapshot, log and exit code on its host.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    kind: Kind
    name: str
    owner: str = ""
    folder: str = ""
    process: Process | None = None
    began_at: datetime
    heartbeat_at: datetime | None = None
    progress: dict[str, Any] = {}
    stop_requested_at: datetime | None = None
    stop_requested_by: str = ""
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""


class ProducedHour(BaseModel):
    """What one launch of a producer sent of one event hour.

    `hour` is None for messages whose event time nobody can tell; `failed` counts those refused or
    given up; `faults` counts the simulator's own mistakes among those sent, by kind.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    stream: str
    hour: datetime | None
    sent: int
    acked: int
    failed: int
    faults: dict[str, int] = {}


def write_number(epoch: int, count: int) -> int:
    """Return the number that orders a write among all launches.

    Parameters: epoch, the launch; count, the batch count within the launch, from 0.
    Raises ValueError when the launch has used up its numbers.
    """
    if not 0 <= count < WRITE_NUMBERS_PER_LAUNCH:
        raise ValueError(
            f"write {count} of launch {epoch} is outside 0..{WRITE_NUMBERS_PER_LAUNCH}"
        )
    return epoch * WRITE_NUMBERS_PER_LAUNCH + count
