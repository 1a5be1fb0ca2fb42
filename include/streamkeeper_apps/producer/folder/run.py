"""Runs the producer of a watched folder from its options to its exit code."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from streamkeeper.errors import Fenced, KafkaUnavailable, SettingsError, StreamkeeperError
from streamkeeper.launches import EXIT_DRAINED, EXIT_FENCED, EXIT_UNAVAILABLE, Launch
from streamkeeper.settings import Settings
from streamkeeper.spec.durations import format_duration
from streamkeeper.spec.models import Spec
from streamkeeper.spec.producers import Folder
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.folder.ledger import ask_again, ledger_source
from streamkeeper_apps.producer.folder.log import TransactionalLog
from streamkeeper_apps.producer.folder.watching import Watching
from streamkeeper_apps.producer.heartbeat import Beating, ByHand, Heartbeat
from streamkeeper_apps.producer.messages import HourCount
from streamkeeper_apps.producer.session import (
    Stop,
    prepare_topic,
    read_launch,
    refuse_beside,
    wait_for,
)
from streamkeeper_apps.streams import declared
from streamkeeper_io.kafka import Admin, ensure_topic
from streamkeeper_io.store import Store


def folder_of(settings: Settings, spec: Spec) -> tuple[Path, Folder]:
    """Return a stream's watched folder and its declaration.

    Raises StreamkeeperError when it declares none.
    """
    folder = spec.producer.folder
    if folder is None:
        raise StreamkeeperError(
            f"the stream {spec.name!r} declares no folder; add producer.folder to it"
        )
    return (settings.files / folder.path).absolute(), folder


def run_folder(
    settings: Settings,
    options: argparse.Namespace,
    *,
    stop: Stop | None = None,
    display: Display | None = None,
) -> int:
    """Watch a folder until a stop request or a signal; return the exit code.

    Parameters: stop, by default one that signals set; display, by default the standard output.
    Raises KafkaUnavailable when it stays away at the start; LaunchConflict.
    """
    display, stop = display or Display(), stop or Stop.by_signals()
    launch, spec = _order(settings, options)
    root, folder = folder_of(settings, spec)
    if options.again:
        ask_again(settings, spec, options.again, options.wait)
        display.say(f"{options.again} is read again at the next look of the producer")
        return EXIT_DRAINED
    if not launch:
        advice = "another one would end it: stop the DAG {dag} first"
        refuse_beside(settings, spec, display, "watches the folder", advice)
    prepare_topic(settings, spec, options.wait, display, stop)
    wait_for(lambda: ensure_topic(Admin(settings), ledger_source(spec)), 30, display, stop)
    _make(root, spec)
    epoch = launch.epoch if launch else None
    log = TransactionalLog(settings, spec, epoch=epoch, wait_s=options.wait)
    watching = Watching(spec, root, log, display.say, stop, epoch=epoch)
    for line in describe(settings, spec, root, folder, log):
        display.say(line)
    stop.heartbeat = _heartbeat(settings, launch, spec, watching, display)
    if stop.heartbeat:
        stop.heartbeat.start()
    return _conclude(watching, stop.heartbeat, display, once=options.once)


def _order(settings: Settings, options: argparse.Namespace) -> tuple[Launch | None, Spec]:
    if options.launch is None:
        return None, declared(settings, options.stream)
    launch, spec, _ = read_launch(options.launch, options.stream)
    return launch, spec


def _make(root: Path, spec: Spec) -> None:
    """Make the folder where it is missing; raises SettingsError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the folder {root} of {spec.name!r} cannot be made: {os.strerror(error.errno or 0)}; "
            "make it, or correct producer.folder.path"
        ) from None


def describe(
    settings: Settings, spec: Spec, root: Path, folder: Folder, log: TransactionalLog
) -> list[str]:
    """Return the lines that tell the configuration at the start."""
    every, settle = format_duration(folder.every), format_duration(folder.settle)
    return [
        f"topic {spec.source.kafka.topic} at {settings.need('kafka')}, in transactions",
        f"folder {root}: {', '.join(folder.patterns)}, {folder.format}, {folder.encoding}",
        f"looked at every {every}; a file is read once it looked the same for {settle}",
        f"the ledger knows {len(log.entries):,} files",
    ]


def _heartbeat(
    settings: Settings, launch: Launch | None, spec: Spec, watching: Watching, display: Display
) -> Beating | None:
    def by_hour() -> Mapping[int | None, HourCount]:
        # Whose event time nobody reads here; what is committed is acknowledged.
        return {None: HourCount(watching.sent, watching.sent)} if watching.sent else {}

    if launch:
        store = Store(settings.need("store"))
        return Heartbeat(store, launch, watching.progress, by_hour, display.say)
    return (
        ByHand(Store(settings.store), spec.name, by_hour, display.say) if settings.store else None
    )


def _conclude(
    watching: Watching, heartbeat: Beating | None, display: Display, *, once: bool
) -> int:
    """Run to the end; tell what was sent."""
    code = EXIT_DRAINED
    try:
        reason = watching.run(once=once)
    except KafkaUnavailable as error:
        code, reason = EXIT_UNAVAILABLE, str(error)
    except Fenced as error:
        code, reason = EXIT_FENCED, str(error)
    display.say(f"ends: {reason}; {watching.sent:,} records sent")
    if heartbeat is not None:
        code = EXIT_FENCED if heartbeat.fenced else code
        heartbeat.end(code, reason)
    return code
