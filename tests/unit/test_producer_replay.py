"""When records of a replay are due, and what is said and done with them, without a broker."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamkeeper.errors import StreamkeeperError
from streamkeeper_apps.producer.commands import add_produce_commands
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.messages import Batch
from streamkeeper_apps.producer.records import Record
from streamkeeper_apps.producer.replay import Pace, Replaying

S = 1_000_000


def test_gaps_are_those_of_the_event_times_and_older_records_go_at_once() -> None:
    pace = Pace(10.0)
    assert pace.due(None, 50.0) == 50.0, "nothing is waited for before the first time"
    assert pace.due(100 * S, 51.0) == 51.0
    assert pace.due(130 * S, 51.0) == 54.0
    assert pace.due(110 * S, 52.0) == 52.0, "out of order: at once"
    assert pace.due(None, 53.0) == 53.0
    assert pace.due(130 * S, 53.0) == 54.0
    assert pace.due(160 * S, 60.0) == 57.0, "a pace that was missed is caught up with"
    pace.begin()
    assert pace.due(5 * S, 70.0) == 70.0, "another file begins anew"
    assert Pace(None).due(10**18, 1.0) == 1.0


class File:
    """A file of records with these event times; a text among them breaks it off."""

    malformed_are, blank_lines, position, closed = "sent as they stand", 0, 0, False

    def __init__(self, *micros: int | str | None) -> None:
        self._micros, self.size = micros, len(micros)

    def records(self) -> Iterator[Record]:
        for n, micros in enumerate(self._micros):
            if isinstance(micros, str):
                raise StreamkeeperError(micros)
            yield Record(None, b"%d" % n, micros, micros is not None)

    def close(self) -> None:
        self.closed = True


class Sending:
    """A sender with a clock; waiting takes time, sending does not."""

    def __init__(self, position: int = 1, room: int = 10**9) -> None:
        self.position, self.room = position, room
        self.now = 0.0
        self.sent: list[tuple[float, int, int | None]] = []

    def clock(self) -> float:
        return self.now

    def poll(self, seconds: float) -> None:
        self.now += seconds

    def send(self, batch: Batch) -> int:
        count = min(len(batch.messages), self.room - len(self.sent))
        for number, hour in zip(batch.numbers[:count], batch.hours, strict=False):
            self.sent.append((self.now, number, hour))
        self.position += count
        return count


def replaying(
    sending: Sending, *files: File, speed: float | None = None, stop: Any = lambda: "", **asked: Any
) -> tuple[Replaying, io.StringIO]:
    out = io.StringIO()
    display = Display(Console(file=out, soft_wrap=True), 0.0)
    found: Any = list(files)
    sender: Any = sending
    pace = Pace(speed)
    return Replaying(found, sender, display, stop, pace, clock=sending.clock, **asked), out


def test_records_are_sent_when_they_are_due_and_in_their_order() -> None:
    hour = 3600 * S
    sending = Sending()
    replay, _ = replaying(
        sending, File(0, None, 10 * S, 4 * S, hour), File(7 * hour, 7 * hour + S), speed=2.0
    )
    assert replay.run() == ""
    assert [(round(at, 6), number, hour) for at, number, hour in sending.sent] == [
        *[(0, 1, 0), (0, 2, None), (5, 3, 0), (5, 4, 0), (1800, 5, 1)],
        *[(1800, 6, 7), (1800.5, 7, 7)],
    ]
    assert (replay.read, replay.malformed, replay.whole) == (7, 1, True)


def test_a_long_wait_is_told_and_ends_with_a_stop() -> None:
    sending = Sending()
    stop = lambda: "SIGTERM" if sending.now > 100 else ""  # noqa: E731
    replay, out = replaying(sending, File(0, 9000 * S), speed=1.0, stop=stop)
    assert replay.run() == "SIGTERM"
    assert 100 < sending.now < 101
    assert "the next record is due in 9,000 s" in out.getvalue()
    assert (replay.read, replay.whole) == (1, False)


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=4),
    st.integers(0, 2000),
    st.none() | st.integers(1, 2000),
)
def test_skip_and_limit_count_through_all_files(
    sizes: list[int], skip: int, limit: int | None
) -> None:
    sending, total = Sending(position=skip + 1), sum(sizes)
    replay, _ = replaying(sending, *(File(*range(n)) for n in sizes), skip=skip, limit=limit)
    assert replay.run() == ""
    last = total if limit is None else min(total, skip + limit)
    assert [number for _, number, _ in sending.sent] == list(range(skip + 1, last + 1))
    assert sending.position == max(last, skip) + 1
    if limit is None:
        assert replay.whole


@pytest.mark.parametrize("speed", [None, 1e6])
def test_what_stands_before_a_damage_is_sent(speed: float | None) -> None:
    sending = Sending()
    replay, _ = replaying(sending, File(*range(0, 700), "damaged"), File(1), speed=speed)
    with pytest.raises(StreamkeeperError, match="damaged"):
        replay.run()
    assert len(sending.sent) == replay.read == 700
    assert not replay.whole


def test_a_sender_that_stops_in_between() -> None:
    sending = Sending(room=620)
    stop = lambda: "SIGINT" if len(sending.sent) == 620 else ""  # noqa: E731
    replay, _ = replaying(sending, File(*range(2000)), stop=stop)
    assert replay.run() == "SIGINT"
    assert (sending.position, replay.read) == (621, 620)


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_produce_commands(parser.add_subparsers())
    return parser.parse_args(["produce", "replay", "x", "f", *arguments])


def test_paces_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ("flat", "original", "10x", "0.5x")
    assert [options("--pace", t).pace for t in typed] == [None, 1.0, 10.0, 0.5]
    assert options().pace is None
    for wrong in ("fast", "0x", "x", "-1x", "nanx", "10"):
        with pytest.raises((SystemExit, argparse.ArgumentError)):
            options(f"--pace={wrong}")
    assert "is no pace; write original, flat or such as 10x" in capsys.readouterr().err


def test_progress_tells_rate_and_what_is_left() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, soft_wrap=True), 0.0)
    display._began = (0.0, 0)
    display.advance("bytes read", 250, 1000, "7 records")
    told = out.getvalue()
    assert "bytes read: 250 of 1,000 (25 %), " in told
    assert " a second, " in told
    assert " s left; 7 records" in told
