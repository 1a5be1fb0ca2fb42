"""What every producer does at its start and its end: waits, signals, counts, exit code."""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from streamkeeper import names
from streamkeeper.errors import (
    KafkaUnavailable,
    LaunchConflict,
    SettingsError,
    StoreUnavailable,
    StreamkeeperError,
)
from streamkeeper.launches import (
    EXIT_DRAINED,
    EXIT_ERROR,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
    Launch,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.control import lives
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.heartbeat import Beating, ByHand
from streamkeeper_apps.producer.messages import Counts
from streamkeeper_apps.producer.sender import Sender
from streamkeeper_io.kafka import TIMEOUT_S, Admin, client_config, ensure_topic
from streamkeeper_io.store import Store

FLUSH_S = 30.0


class Stop:
    """Why the producer is to end: a signal, or what its heartbeat was told."""

    def __init__(self) -> None:
        self.signal = ""
        self.heartbeat: Beating | None = None

    @classmethod
    def by_signals(cls) -> Stop:
        """Return one that SIGTERM and Ctrl-C set; a second signal ends the process at once."""
        stop = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop._on_signal)
        return stop

    def __call__(self) -> str:
        """Return the reason; empty while there is none."""
        return self.signal or (self.heartbeat.stop if self.heartbeat else "")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def few_collections() -> Iterator[None]:
    """Look for garbage in cycles seldom; messages under way are many objects and no cycles.

    Without it that takes 40 % of a producer's time.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def exit_code(counts: Counts, *, fenced: bool = False) -> int:
    """Return the exit code that tells what became of the messages."""
    if fenced:
        return EXIT_FENCED
    if counts.unknown:
        return EXIT_UNAVAILABLE
    return EXIT_ERROR if counts.failed else EXIT_DRAINED


def wait_for(
    call: Callable[[], Any],
    seconds: float,
    display: Display,
    stop: Callable[[], str],
    kind: type[StreamkeeperError] = KafkaUnavailable,
) -> Any:
    """Return what a call returns, trying again while something outside is away.

    Parameters: seconds, how long to try; stop, ends the trying with the last error.
    Raises the last error of that kind.
    """
    deadline = time.monotonic() + seconds
    delay = 1.0
    while True:
        try:
            return call()
        except kind as error:
            left = deadline - time.monotonic()
            if left <= 0 or stop():
                raise
            delay = min(delay, left)
            display.say(f"{error}; trying again in {delay:.0f} s, for {left:.0f} s more")
            until = time.monotonic() + delay
            while time.monotonic() < until and not stop():
                time.sleep(0.1)
            delay = min(delay * 2, 15.0)


def prepare_topic(
    settings: Settings, spec: Spec, seconds: float, display: Display, stop: Stop
) -> None:
    """Create the stream's topic if it is missing; wait for Kafka for so many seconds."""
    admin = Admin(settings)
    asked = min(TIMEOUT_S, seconds)
    wait_for(
        lambda: ensure_topic(admin, spec.source.kafka, timeout_s=asked), seconds, display, stop
    )


def open_sender(
    settings: Settings,
    spec: Spec,
    stop: Stop,
    *,
    first: int,
    epoch: int | None,
    give_up_s: float,
    quiet: bool = False,
) -> Sender:
    """Return a sender for the stream's topic; quiet, as the sender has it."""
    return Sender(
        client_config(settings),
        spec.source.kafka.topic,
        position=first,
        epoch=epoch,
        give_up_s=give_up_s,
        stopped=lambda: bool(stop()),
        quiet=quiet,
    )


def say_refusals(sender: Sender, display: Display) -> None:
    """Print why messages were refused."""
    for text in sender.refusals:
        display.say(f"refused: {text}")


def tell_by_hand(
    settings: Settings, spec: Spec, sender: Sender, display: Display, stop: Stop
) -> None:
    """Have what a person sends accounted for, if there is a store."""
    if settings.store:
        store = Store(settings.store)
        stop.heartbeat = ByHand(store, spec.name, lambda: sender.by_hour, display.say)
        stop.heartbeat.start()


def refuse_beside(settings: Settings, spec: Spec, display: Display, what: str, advice: str) -> None:
    """Raise LaunchConflict when a launched producer of the stream lives.

    Parameters: what, it does; advice, what to do; `{dag}` in it is the name of its DAG.
    """
    if not settings.store:
        return
    try:
        holder = Store(settings.store).holder("producer", spec.name)
    except StoreUnavailable as error:
        display.say(f"whether a launched producer runs cannot be seen: {error}")
        return
    if holder is not None and lives(holder):
        told = advice.format(dag=names.produce_dag_id(spec.name))
        raise LaunchConflict(f"launch {holder.epoch} {what} of {spec.name!r} already; {told}")


def read_launch(path: Path, stream: str) -> tuple[Launch, Spec, dict[str, Any]]:
    """Return a launch's snapshot: the launch, the stream's declaration, what else was asked.

    Raises SettingsError for a file that is none.
    """
    try:
        snapshot = json.loads(path.read_text(encoding="utf-8"))
        launch = Launch.model_validate(snapshot["launch"])
        specs = {spec.name: spec for spec in map(Spec.model_validate, snapshot["specs"])}
        return launch, specs[stream], snapshot.get("options") or {}
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"{path} is no launch of the stream {stream!r}: {error}") from None
