"""A producer's sign of life: its progress and its counts by event hour go to the store."""

from __future__ import annotations

import getpass
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from streamkeeper.errors import StoreUnavailable
from streamkeeper.launches import Launch, ProducedHour
from streamkeeper_apps.producer.messages import HourCount
from streamkeeper_io.store import Store

Progress = Callable[[], dict[str, Any]]
ByHour = Callable[[], Mapping[int | None, HourCount]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hour_rows(
    epoch: int, stream: str, by_hour: Iterable[tuple[int | None, HourCount]]
) -> list[ProducedHour]:
    """Return the counts as rows of the store.

    Parameters: by_hour, whole hours since 1970, or None, and the counts of each.
    """
    return [
        ProducedHour(
            epoch=epoch,
            stream=stream,
            hour=None if hour is None else _EPOCH + timedelta(hours=hour),
            sent=count.sent,
            acked=count.acked,
            failed=count.failed,
            faults=dict(count.faults),
        )
        for hour, count in by_hour
    ]


class Beating(ABC):
    """Tells the store, in a thread of its own, so that a slow store does not slow the sending.

    Parameters: store; stream; by_hour, gives the counts so far; say, tells a person; every_s,
    seconds between beats.

    `stop` is empty until the producer is to stop, then the reason; `fenced` tells that a newer
    launch holds the lock.
    """

    def __init__(
        self, store: Store, stream: str, by_hour: ByHour, say: Callable[[str], None], every_s: float
    ) -> None:
        self._store, self._stream, self._by_hour, self._say = store, stream, by_hour, say
        self._every_s = every_s
        self._away = False
        self._told: dict[int | None, tuple[Any, ...]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.stop = ""
        self.fenced = False

    def start(self) -> None:
        """Beat once now and then every so often."""
        self._thread.start()

    def beat(self) -> None:
        """Tell the store; a store that is away is told to the person."""
        try:
            self._tell()
        except StoreUnavailable as error:
            if not self._away:
                self._say(f"{error}; sending goes on")
            self._away = True
            return
        if self._away:
            self._say("the store answers again")
        self._away = False

    def end(self, exit_code: int, reason: str) -> None:
        """Stop beating; record the last counts and the end."""
        self._ended.set()
        self._thread.join(timeout=10)
        self.beat()
        if self.fenced or self._away:
            return  # a newer launch's keeper, or this one's, records the end
        try:
            self._end(exit_code, reason)
        except StoreUnavailable as error:
            self._say(str(error))

    @abstractmethod
    def _tell(self) -> None:
        """Tell the store of the progress."""

    @abstractmethod
    def _end(self, exit_code: int, reason: str) -> None:
        """Record the end in the store."""

    def _tell_hours(self, epoch: int) -> None:
        """Record the hours whose counts have changed since they were told."""
        seen = dict(self._by_hour())
        now = {hour: (c.sent, c.acked, c.failed, dict(c.faults)) for hour, c in seen.items()}
        changed = [(h, seen[h]) for h, counts in now.items() if self._told.get(h) != counts]
        self._store.record_produced(hour_rows(epoch, self._stream, changed))
        self._told |= {hour: now[hour] for hour, _ in changed}

    def _run(self) -> None:
        while True:
            self.beat()
            if self._ended.wait(self._every_s):
                return


class Heartbeat(Beating):
    """The heartbeat of a launch: each second its progress, its counts, and whether it is to stop.

    Parameters: store; launch, of kind producer; progress, gives what is recorded; by_hour; say.
    """

    def __init__(
        self,
        store: Store,
        launch: Launch,
        progress: Progress,
        by_hour: ByHour,
        say: Callable[[str], None],
        *,
        every_s: float = 1.0,
    ) -> None:
        super().__init__(store, launch.name, by_hour, say, every_s)
        self._launch, self._progress = launch, progress

    def _tell(self) -> None:
        row = self._store.heartbeat(self._launch.epoch, self._progress())
        holder = self._store.holder("producer", self._launch.name)
        self._tell_hours(self._launch.epoch)
        if holder is not None and holder.epoch != self._launch.epoch:
            self.fenced = True
            self.stop = f"launch {holder.epoch} took this one's place"
        elif row.stop_requested_at is not None:
            self.stop = f"asked by {row.stop_requested_by}"

    def _end(self, exit_code: int, reason: str) -> None:
        self._store.end_launch(self._launch.epoch, exit_code, reason)


class ByHand(Beating):
    """The account of a producer that a person runs; it begins when the store first answers.

    Parameters: store; stream; by_hour; say.
    """

    def __init__(
        self,
        store: Store,
        stream: str,
        by_hour: ByHour,
        say: Callable[[str], None],
        *,
        every_s: float = 3.0,
    ) -> None:
        super().__init__(store, stream, by_hour, say, every_s)
        self._epoch: int | None = None

    def _tell(self) -> None:
        if self._epoch is None:
            if not self._by_hour():
                return  # nothing sent, nothing to account for
            owner = f"{getpass.getuser()}@{socket.gethostname()}"
            self._epoch = self._store.begin_by_hand(self._stream, owner).epoch
        self._tell_hours(self._epoch)

    def _end(self, exit_code: int, reason: str) -> None:
        if self._epoch is not None:
            self._store.end_launch(self._epoch, exit_code, reason)
