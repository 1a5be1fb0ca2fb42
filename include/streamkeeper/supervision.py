"""Supervision: what to do about what an observer sees of a launch. Pure; the keeper acts on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from streamkeeper.launches import (
    EXIT_CHECK,
    EXIT_DISAGREEMENT,
    EXIT_DRAINED,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
    Launch,
)

ENDED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""Airflow's states in which a task is over; a cleared one is in none of them."""


class Owner(NamedTuple):
    """The try of a task that watches a launch; only the present owner may ask it to drain."""

    dag_id: str
    task_id: str
    run_id: str
    try_number: int

    def __str__(self) -> str:
        return json.dumps(list(self))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Read what `str` wrote; None for the owner of a launch that no task watches."""
        try:
            dag_id, task_id, run_id, try_number = json.loads(text)
        except (ValueError, TypeError):
            return None
        return cls(str(dag_id), str(task_id), str(run_id), int(try_number))


def ended_by_person(
    owner: Owner, states: Mapping[str, Mapping[str, str | None]], me: Owner | None = None
) -> str:
    """Tell how a person ended the task that owns a live launch; empty when nobody did.

    A keeper's task ends by itself only after its launch has ended. So when the launch lives and
    its owner's task is over, somebody marked or deleted it, and the launch is to drain.

    Parameters: owner, as recorded with the launch; states, run id -> task id -> state, as Airflow
    tells them; me, the task that asks, which is another try of the owner after a clear.
    """
    if me is not None and me[:3] == owner[:3]:
        return ""
    tasks = states.get(owner.run_id, {})
    if owner.task_id not in tasks:
        return "deleted"
    state = tasks[owner.task_id]
    return f"marked {state}" if state in ENDED_STATES else ""


@dataclass(frozen=True)
class Limits:
    """How long to wait: for a heartbeat of another host, for a drain, and what a quick death is."""

    expiry: timedelta = timedelta(seconds=30)
    drain: timedelta = timedelta(minutes=2)
    settled: timedelta = timedelta(minutes=2)
    first_delay: timedelta = timedelta(seconds=2)
    longest_delay: timedelta = timedelta(minutes=5)


@dataclass(frozen=True)
class Sight:
    """What an observer sees of the launch that holds a name's lock.

    `wanted` are the streams that a person wants to run; `streams` those that the launch runs;
    `running` tells whether its processes live, None when they are on another host or boot;
    `unchanged` is for how long this observer has seen the same heartbeat with the store reachable;
    `ended_by` is what `ended_by_person` says of its owner.
    """

    now: datetime
    wanted: tuple[str, ...]
    launch: Launch | None = None
    streams: tuple[str, ...] = ()
    running: bool | None = False
    unchanged: timedelta = timedelta(0)
    ended_by: str = ""


@dataclass(frozen=True)
class Start:
    """Launch now; `expected` is the epoch that holds the lock, for the compare-and-set."""

    expected: int | None


@dataclass(frozen=True)
class Watch:
    """The launch lives; go on looking."""

    epoch: int


@dataclass(frozen=True)
class Drain:
    """Ask the launch to stop after the batch in hand."""

    epoch: int
    by: str


@dataclass(frozen=True)
class Signal:
    """The launch did not drain in time; end its processes."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Rest:
    """Nothing lives and nothing is wanted."""


Decision = Start | Watch | Drain | Signal | Rest


def decide(sight: Sight, limits: Limits = Limits()) -> Decision:
    """Say what to do about a sight; the same for a new task, a trigger and after any restart."""
    launch = sight.launch
    if launch is None or not _may_live(sight, launch, limits):
        expected = launch.epoch if launch else None
        return Start(expected) if sight.wanted else Rest()
    asked_at = launch.stop_requested_at or launch.ended_at
    if asked_at is not None:
        if sight.running and sight.now - asked_at > limits.drain:
            seconds = int(limits.drain.total_seconds())
            return Signal(launch.epoch, f"it did not drain within {seconds} s")
        return Watch(launch.epoch)
    reason = _drain_reason(sight)
    return Drain(launch.epoch, reason) if reason else Watch(launch.epoch)


def _drain_reason(sight: Sight) -> str:
    if not sight.wanted:
        return "desired state stopped"
    if sight.ended_by:
        return f"its task was {sight.ended_by}"
    if sight.streams and set(sight.streams) != set(sight.wanted):
        return "other streams are wanted now: " + ", ".join(sight.wanted)
    return ""


def _may_live(sight: Sight, launch: Launch, limits: Limits) -> bool:
    if sight.running is not None:
        return sight.running
    # Another host or boot: its end is only known from its own record, or from an unchanged
    # heartbeat. The fence makes a wrong guess harmless.
    return launch.ended_at is None and sight.unchanged < limits.expiry


@dataclass(frozen=True)
class Relaunch:
    """Launch again after a delay; `quick_deaths` counts those in a row, `text` is for the log."""

    delay: timedelta
    quick_deaths: int
    text: str


@dataclass(frozen=True)
class Finish:
    """The launch did what was asked; the task succeeds."""

    text: str


@dataclass(frozen=True)
class Fail:
    """A person must decide; the task fails."""

    text: str


Verdict = Relaunch | Finish | Fail


def backoff(quick_deaths: int, limits: Limits = Limits()) -> timedelta:
    """Return the delay before the next launch: none, then doubling with each quick death."""
    if quick_deaths <= 0:
        return timedelta(0)
    # 2**40 is far beyond any limit and keeps timedelta from overflowing.
    return min(limits.longest_delay, limits.first_delay * 2 ** min(quick_deaths - 1, 20))


def after_end(
    launch: Launch,
    exit_code: int | None,
    *,
    now: datetime,
    wanted: bool,
    quick_deaths: int,
    may_finish: bool = False,
    limits: Limits = Limits(),
) -> Verdict:
    """Say what follows the end of a launch.

    Parameters: exit_code, None when it left none (killed with its shell); wanted, whether it is to
    run; quick_deaths, in a row before this one; may_finish, whether the process ends by itself
    when its work is done (a producer with a limit).
    """
    asked = launch.stop_requested_at is not None
    if exit_code == EXIT_DISAGREEMENT:
        return Fail(f"launch {launch.epoch} stopped because two records of one fact differ")
    if exit_code == EXIT_CHECK:
        # The same record would end the next launch too.
        return Fail(f"launch {launch.epoch} stopped because a record broke a check that ends it")
    if not wanted:
        return Finish(f"launch {launch.epoch} has ended and is not wanted")
    if exit_code == EXIT_DRAINED and may_finish and not asked:
        return Finish(f"launch {launch.epoch} has done its work")
    if exit_code == EXIT_DRAINED and asked:
        by = launch.stop_requested_by
        return Relaunch(timedelta(0), 0, f"launch {launch.epoch} drained ({by}); launching again")
    settled = now - launch.began_at >= limits.settled
    deaths = 0 if settled else quick_deaths + 1
    delay = backoff(deaths, limits)
    text = f"launch {launch.epoch} {_describe(exit_code)}; "
    return Relaunch(delay, deaths, text + f"launching again in {delay.total_seconds():g} s")


def _describe(exit_code: int | None) -> str:
    if exit_code is None:
        return "died without an exit code"
    known = {
        EXIT_DRAINED: "ended although nobody asked it to",
        EXIT_FENCED: "was fenced by a newer launch",
        EXIT_UNAVAILABLE: "ended because something outside does not answer",
    }
    if exit_code in known:
        return f"{known[exit_code]} (exit code {exit_code})"
    return (
        f"was killed by signal {exit_code - 128}"
        if 128 < exit_code < 160
        else f"died with exit code {exit_code}"
    )
