"""Runs a stream's simulator: the past as fast as it goes, then the present at its exact rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from streamkeeper.hours import HOUR
from streamkeeper.launches import Launch
from streamkeeper.names import hour_of
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.faults import KINDS, HeldBack, share_of
from streamkeeper_apps.producer.messages import Batch
from streamkeeper_apps.producer.sender import Sender
from streamkeeper_apps.producer.simulator import MICROSECOND, Simulation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK = 2000
_SHORTEST_WAIT_S = 0.005
# How far behind the clock a producer is before it counts as catching up.
_BEHIND_S = 2.0


def micros(instant: datetime) -> int:
    """Return an instant in µs since 1970."""
    return (instant - _EPOCH) // MICROSECOND


def begin_at(
    simulation: Simulation, now: datetime, hours_back: int, done_to: datetime | None
) -> int:
    """Return the number of the first message to send.

    Parameters: hours_back, full clock hours before the present one, 0 for none of the past;
    done_to, the event time up to which an earlier launch has sent all, which is then continued.
    """
    if done_to is not None:
        return simulation.first_from(micros(done_to) + 1)
    if hours_back == 0:
        return simulation.first_from(micros(now))
    return simulation.first_from(micros(hour_of(now) - hours_back * HOUR))


class Before(NamedTuple):
    """Where earlier launches stood.

    done_to: the event time up to which every message has had its turn and is acknowledged;
    whole_to: up to which none is held back any more, None when it was not told.
    """

    done_to: datetime
    whole_to: datetime | None


def stood_at(launches: list[Launch], epoch: int) -> Before | None:
    """Return where the latest earlier launch stood that had anything acknowledged.

    Parameters: launches, of this producer, newest first; epoch, of the launch that asks.
    """
    for launch in launches:
        if launch.epoch >= epoch:
            continue
        texts = [launch.progress.get(k) for k in ("done_to", "event_time", "whole_to")]
        done, event_time, whole = (t if isinstance(t, str) else None for t in texts)
        if (at := done or event_time) is not None:
            return Before(
                datetime.fromisoformat(at), datetime.fromisoformat(whole) if whole else None
            )
    return None


class Simulating:
    """One run of a simulator.

    Parameters: simulation; sender, at the number of the first message; display; limit, messages to
    send at most, those sent twice counted once; stop, returns why the run is to end, empty while it
    is not; clock, gives the time in µs since 1970; whole_to, the number below which no message is
    held back by the launch before.
    """

    def __init__(
        self,
        simulation: Simulation,
        sender: Sender,
        display: Display,
        *,
        limit: int | None = None,
        stop: Callable[[], str] = lambda: "",
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        whole_to: int | None = None,
    ) -> None:
        self.simulation, self._sender, self._display = simulation, sender, display
        self._first = sender.position
        self._end = sender.position + limit if limit is not None else None
        self._stop, self._clock = stop, clock
        self._last = b""
        self._catching_up = False
        self._whole_to = sender.position if whole_to is None else whole_to
        self._held = HeldBack(simulation.plan, self._whole_to)
        self._released, self._torn = 0, False

    def progress(self) -> dict[str, Any]:
        """Return what a heartbeat tells: all up to `event_time` is acknowledged."""
        counts, acked_to = self._sender.counts, self._sender.acked_to
        whole_to = self._nothing_held_below(acked_to)
        return {
            "sent": counts.sent,
            "acked": counts.acked,
            "failed": counts.failed,
            "faults": self.faults(),
            "event_time": self._event_time(acked_to, whole_to).isoformat(),
            "done_to": self.simulation.time_of(acked_to - 1).isoformat(),
            "whole_to": self.simulation.time_of(whole_to).isoformat(),
            "last_tick": self.simulation.tick_of(acked_to) - 1,
            "phase": "back-dated" if self._catching_up else "live",
        }

    def faults(self) -> dict[str, int]:
        """Return how many messages of each fault were sent."""
        total: Counter[str] = Counter()
        for count in list(self._sender.by_hour.values()):
            total.update(dict(count.faults))
        return {kind: total[kind] for kind in KINDS if share_of(self.simulation.faults, kind)}

    def _nothing_held_below(self, acked_to: int) -> int:
        """Return the number below which no message is held back."""
        if not self.simulation.plan.reach:
            return acked_to
        return self._released if self._released and acked_to >= self._released else self._whole_to

    def _event_time(self, acked_to: int, whole_to: int) -> datetime:
        """Return the event time up to which nothing is under way nor held back."""
        sure = max(acked_to - self.simulation.plan.reach, min(acked_to, whole_to))
        return self.simulation.time_of(sure - 1)

    def run(self) -> str:
        """Send until the limit or a stop; return why it ended.

        Raises KafkaUnavailable when messages had to be given up.
        """
        while not (reason := self._stop()):
            number = self._sender.position
            if number == self._end:
                reason = "limit reached"
                break
            now = self._clock()
            due = self.simulation.first_from(now + 1)
            self._note_phase(number, due, now)
            count = min(due - number, _CHUNK, (self._end or due) - number)
            if count > 0:
                self._send(self.simulation.batch(number, count, self._held))
            else:
                wait = (self.simulation.micros_of(number) - now) / 1e6
                self._sender.poll(min(max(wait, _SHORTEST_WAIT_S), 0.2))
            self._show(due)
        self._release()
        self._display.end_bar()
        return reason

    def _send(self, batch: Batch) -> bool:
        """Send a batch; tell whether all of it was."""
        sent = self._sender.send(batch)
        if sent:
            self._last = batch.messages[sent - 1][1]
        self._torn = sent < len(batch.messages)
        return not self._torn

    def _release(self) -> None:
        """Send what is held back: at an end that comes in order nothing stays behind."""
        position = self._sender.position
        if self.simulation.plan.reach and position > self._first and not self._torn:
            rest = self.simulation.rest(position, self._held)
            if self._send(rest):
                self._released = position

    def _note_phase(self, number: int, due: int, now: int) -> None:
        behind = now - self.simulation.micros_of(number)
        if not self._catching_up and behind > _BEHIND_S * 1e6:
            self._catching_up = True
            at = self.simulation.time_of(number)
            self._display.say(
                f"sends {due - number:,} messages of the past, from {at:%F %T} UTC on"
            )
        elif self._catching_up and number >= due:
            self._catching_up = False
            self._display.end_bar()
            self._display.say(f"live now: {self.simulation.per_second:g} messages a second")

    def _show(self, due: int) -> None:
        if self._catching_up:
            total = min(due, self._end or due) - self._first
            self._display.advance("back-dated", self._sender.position - self._first, total)
        elif self._display.due():
            counts = self._sender.counts
            told = f"sent {counts.sent:,}, acknowledged {counts.acked:,}"
            self._display.say(f"{told}; last: {self._last.decode(errors='backslashreplace')}")
