"""Replays files into a stream's topic."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from streamkeeper.errors import KafkaUnavailable, StreamkeeperError
from streamkeeper.launches import EXIT_ERROR, EXIT_UNAVAILABLE
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.json_files import JsonArray, JsonLines
from streamkeeper_apps.producer.logs import LogFile
from streamkeeper_apps.producer.messages import HOUR_US, Batch, ranges
from streamkeeper_apps.producer.records import Record, Source, replay_of
from streamkeeper_apps.producer.rows import CsvFile
from streamkeeper_apps.producer.sender import Sender
from streamkeeper_apps.producer.session import (
    FLUSH_S,
    Stop,
    exit_code,
    few_collections,
    open_sender,
    prepare_topic,
    say_refusals,
    tell_by_hand,
)
from streamkeeper_apps.streams import declared

_CHUNK = 500
_LONG_WAIT_S = 60.0
_KINDS: dict[str, type[Source]] = {
    "csv": CsvFile,
    "json_lines": JsonLines,
    "json_array": JsonArray,
    "apache_combined": LogFile,
    "apache_common": LogFile,
}


def open_source(path: Path, spec: Spec) -> Source:
    """Open a file in the format that the stream's replay declares.

    Raises StreamkeeperError for a file that does not fit the declaration.
    """
    return _KINDS[replay_of(spec).format](path, spec)


def run_replay(
    settings: Settings,
    options: argparse.Namespace,
    *,
    stop: Stop | None = None,
    display: Display | None = None,
) -> int:
    """Send the records of files; return the exit code.

    Parameters: stop, by default one that signals set; display, by default the standard output.
    Raises StreamkeeperError for a file that does not fit the declaration, before anything is sent.
    """
    display, stop = display or Display(), stop or Stop.by_signals()
    spec = declared(settings, options.stream)
    files = [open_source(path, spec) for path in options.files]
    prepare_topic(settings, spec, options.wait, display, stop)
    first = options.skip + 1
    sender = open_sender(
        settings, spec, stop, first=first, epoch=None, give_up_s=options.wait, quiet=True
    )
    for line in describe(settings, spec, options):
        display.say(line)
    tell_by_hand(settings, spec, sender, display, stop)
    replay = Replaying(
        files,
        sender,
        display,
        stop,
        Pace(options.pace),
        limit=options.limit,
        skip=options.skip,
    )
    code, reason = EXIT_ERROR, "ended by an error"
    try:
        with few_collections():
            code, reason = _conclude(replay, sender, display)
    finally:
        if stop.heartbeat:
            stop.heartbeat.end(code, reason)
    return code


def describe(settings: Settings, spec: Spec, options: argparse.Namespace) -> list[str]:
    """Return the lines that tell the configuration at the start."""
    replay = replay_of(spec)
    pace = "as fast as it goes" if options.pace is None else f"{options.pace:g} times as it was"
    if options.pace == 1:
        pace = "at its original pace"
    asked = f", the first {options.skip:,} skipped" if options.skip else ""
    asked += f", at most {options.limit:,}" if options.limit else ""
    filled = ", ".join([*replay.columns, *replay.constants]) or "as they stand"
    return [
        f"topic {spec.source.kafka.topic} at {settings.need('kafka')}, key {replay.key or 'none'}",
        f"{replay.format}, {pace}{asked}: {', '.join(map(str, options.files))}",
        f"fields {filled}",
    ]


def _conclude(replay: Replaying, sender: Sender, display: Display) -> tuple[int, str]:
    """Run to the end, flush, tell what became of every record; return exit code and reason."""
    try:
        reason = replay.run()
    except KafkaUnavailable as error:
        reason = str(error)
    finally:
        display.end_bar()
        counts = sender.flush(FLUSH_S)
        display.say(f"records read {replay.read:,} ({replay.notes()}); {counts}")
        say_refusals(sender, display)
        lost = sender.unacknowledged()
        if lost:
            display.say(f"not acknowledged: records {ranges(lost)} ({len(lost):,})")
        if lost or not replay.whole:
            skip = min(lost, default=sender.position) - 1
            display.say(f"go on with record {skip + 1:,}: --skip {skip}")
    if not reason:
        return exit_code(counts), "all sent"
    display.say(f"ended before the end of the files: {reason}")
    return (EXIT_UNAVAILABLE if sender.away else EXIT_ERROR), reason


class Pace:
    """When records are due: as far from one another as their event times are, or faster.

    Time goes on with the newest event time; a record that is older than one before it goes at once,
    and so does one without a time.

    Parameters: speed, how many times faster than it was; None: all at once.
    """

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._zero: tuple[int, float] | None = None
        self._newest = 0

    @property
    def flat(self) -> bool:
        """Whether all go at once."""
        return self._speed is None

    def begin(self) -> None:
        """Begin anew, as for another file."""
        self._zero = None

    def due(self, micros: int | None, now: float) -> float:
        """Return when to send a record, on the clock that `now` is of, in seconds.

        Parameters: micros, its event time in µs since 1970.
        """
        if self._speed is None or micros is None:
            return now
        if self._zero is None:
            self._zero, self._newest = (micros, now), micros
        if micros < self._newest:
            return now
        self._newest = micros
        zero, began = self._zero
        return began + (micros - zero) / 1e6 / self._speed


class Replaying:
    """The sending of files' records, in their order; they are numbered from 1 through all files.

    Parameters: files; sender, at the first record to send; display; stop, returns why to end; pace;
    limit, records at most; skip, records to leave out first; clock, seconds that never go back.

    `whole` tells whether all files were read to their ends.
    """

    def __init__(
        self,
        files: Sequence[Source],
        sender: Sender,
        display: Display,
        stop: Callable[[], str],
        pace: Pace,
        *,
        limit: int | None = None,
        skip: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files, self._sender, self._display, self._stop = files, sender, display, stop
        self._pace, self._left, self._skip, self._clock = pace, limit, skip, clock
        self._total = sum(file.size for file in files)
        self._before = 0
        self.read = self.malformed = 0
        self.whole = False

    def notes(self) -> str:
        """Return what else is to be said of the records read."""
        blank = sum(file.blank_lines for file in self._files)
        text = f"{self.malformed:,} malformed, {self._files[0].malformed_are}"
        return text + (f"; {blank:,} blank lines left out" if blank else "")

    def run(self) -> str:
        """Send all; return why it ended early, empty when it did not.

        Raises StreamkeeperError where a file cannot be read any further, after what stands before
        was sent; KafkaUnavailable when records had to be given up.
        """
        for file in self._files:
            self._pace.begin()
            for chunk in self._chunks(self._records(file)):
                if reason := self._stop():
                    return reason
                if not self._send(chunk):
                    return self._stop()
                self._show(file)
            if self._stop() or self._left == 0:
                return self._stop()
            self._before += file.size
            file.close()
        self.whole = True
        return ""

    def _records(self, file: Source) -> Iterator[Record]:
        """Return the records of a file that are to be sent."""
        records = file.records()
        for _ in range(self._skip):
            if next(records, None) is None:
                break
            self._skip -= 1
        return records

    def _chunks(self, records: Iterator[Record]) -> Iterator[list[Record]]:
        """Yield records that are due together.

        An error of the file is raised once what was read before it has been given out.
        """
        broken: StreamkeeperError | None = None
        waiting: Record | None = None
        while not broken and (self._left is None or self._left > 0):
            wanted = _CHUNK if self._left is None else min(_CHUNK, self._left)
            chunk = [waiting] if waiting else []
            waiting = None
            try:
                if self._pace.flat:
                    chunk.extend(islice(records, wanted))
                else:
                    waiting = self._fill(chunk, records, wanted)
            except StreamkeeperError as error:
                broken = error
            if not chunk and not waiting and not broken:
                return
            if chunk:
                if self._left is not None:
                    self._left -= len(chunk)
                yield chunk
            if waiting and not self._wait(waiting):
                return
        if broken:
            raise broken

    def _fill(self, chunk: list[Record], records: Iterator[Record], wanted: int) -> Record | None:
        """Add what is due now to a chunk; return the next record, if it is to be waited for."""
        for record in islice(records, wanted - len(chunk)):
            now = self._clock()
            self._due = self._pace.due(record.micros, now)
            if self._due > now:
                return record
            chunk.append(record)
        return None

    def _wait(self, record: Record) -> bool:
        """Wait until a record is due; tell whether it came so far."""
        left = self._due - self._clock()
        if left > _LONG_WAIT_S:
            self._display.say(f"the next record is due in {left:,.0f} s")
        while (left := self._due - self._clock()) > 0:
            if self._stop():
                return False
            self._sender.poll(min(left, 0.2))
        return True

    def _send(self, chunk: Sequence[Record]) -> bool:
        """Send records; tell whether all were sent."""
        first = self._sender.position
        hours = [None if at is None else at // HOUR_US for _, _, at, _ in chunk]
        numbers = range(first, first + len(chunk))
        batch = Batch(chunk, numbers, hours, first + len(chunk))
        sent = self._sender.send(batch)
        self.read += sent
        self.malformed += sent - sum(whole for _, _, _, whole in chunk[:sent])
        return sent == len(chunk)

    def _show(self, file: Source) -> None:
        told = f"{self._sender.position - 1:,} records"
        self._display.advance("bytes read", self._before + file.position, self._total, told)
