"""Runs a stream's simulator from its options to its exit code."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from streamkeeper.errors import KafkaUnavailable, StoreUnavailable
from streamkeeper.launches import EXIT_UNAVAILABLE, Launch
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.display import Display
from streamkeeper_apps.producer.faults import KINDS, share_of, with_faults
from streamkeeper_apps.producer.heartbeat import Beating, Heartbeat
from streamkeeper_apps.producer.pacing import Before, Simulating, begin_at, micros, stood_at
from streamkeeper_apps.producer.sender import Sender
from streamkeeper_apps.producer.session import (
    FLUSH_S,
    Stop,
    exit_code,
    few_collections,
    open_sender,
    prepare_topic,
    read_launch,
    refuse_beside,
    say_refusals,
    tell_by_hand,
    wait_for,
)
from streamkeeper_apps.producer.simulator import Simulation
from streamkeeper_apps.streams import declared
from streamkeeper_io.store import Store

_LOOKED_AT = 50


def run_simulator(
    settings: Settings,
    options: argparse.Namespace,
    *,
    stop: Stop | None = None,
    display: Display | None = None,
) -> int:
    """Simulate until a limit, a stop request or a signal; return the exit code.

    Parameters: stop, by default one that signals set; display, by default the standard output.
    Raises KafkaUnavailable or StoreUnavailable when they stay away at the start.
    """
    display, stop = display or Display(), stop or Stop.by_signals()
    launch, spec, hours_back, limit = _order(settings, options)
    declared = spec.producer.simulator
    faults = with_faults(declared.faults, options.fault) if declared else None
    simulation = Simulation(spec, faults)
    store = Store(settings.need("store")) if launch else None
    where = settings.need("kafka")
    if not launch and not options.beside:
        advice = "a second producer doubles them: stop the DAG {dag} first, or add --beside"
        refuse_beside(settings, spec, display, "sends the readings", advice)
    prepare_topic(settings, spec, options.wait, display, stop)
    before = None
    if store and launch and not options.fresh:
        before = _earlier(store, launch, options.wait, display, stop)
    first = begin_at(simulation, datetime.now(UTC), hours_back, before.done_to if before else None)
    for line in describe(simulation, spec.source.kafka.topic, where, first):
        display.say(line)
    if before:
        display.say(f"goes on after {before.done_to.isoformat()}, up to which all was acknowledged")
    epoch = launch.epoch if launch else None
    sender = open_sender(settings, spec, stop, first=first, epoch=epoch, give_up_s=options.wait)
    whole_to = _number(simulation, before.whole_to) if before and before.whole_to else None
    run = Simulating(simulation, sender, display, limit=limit, stop=stop, whole_to=whole_to)
    if store and launch:
        stop.heartbeat = Heartbeat(store, launch, run.progress, lambda: sender.by_hour, display.say)
        stop.heartbeat.start()
    else:
        tell_by_hand(settings, spec, sender, display, stop)
    with few_collections():
        return _conclude(run, sender, display, stop.heartbeat)


def _number(simulation: Simulation, instant: datetime) -> int:
    return simulation.first_from(micros(instant))


def _earlier(
    store: Store, launch: Launch, seconds: float, display: Display, stop: Stop
) -> Before | None:
    """Return where the launches before stood."""
    found = wait_for(
        lambda: store.launches("producer", launch.name, _LOOKED_AT),
        seconds,
        display,
        stop,
        StoreUnavailable,
    )
    return stood_at(found, launch.epoch)


def _order(
    settings: Settings, options: argparse.Namespace
) -> tuple[Launch | None, Spec, int, int | None]:
    """Return launch, declaration, hours back and limit; what is typed outranks the launch's."""
    launch, asked = None, dict[str, Any]()
    if options.launch is not None:
        launch, spec, asked = read_launch(options.launch, options.stream)
    else:
        spec = declared(settings, options.stream)
    simulator = spec.producer.simulator
    default = simulator.hours_back if simulator else 0
    chosen = [
        typed if typed is not None else asked.get(name)
        for name, typed in (("hours_back", options.hours_back), ("limit", options.limit))
    ]
    return launch, spec, default if chosen[0] is None else int(chosen[0]), chosen[1]


def _conclude(run: Simulating, sender: Sender, display: Display, heartbeat: Beating | None) -> int:
    """Run to the end, flush, and tell the exact counts."""
    began = time.monotonic()
    away = ""
    try:
        reason = run.run()
    except KafkaUnavailable as error:
        reason = away = str(error)
    display.say(f"ends: {reason}; waits for acknowledgements")
    counts = sender.flush(FLUSH_S)
    code = exit_code(counts, fenced=bool(heartbeat and heartbeat.fenced))
    code = EXIT_UNAVAILABLE if away else code
    seconds = time.monotonic() - began
    display.say(f"{counts}; {seconds:.1f} s; all acknowledged up to {run.progress()['event_time']}")
    if faults := run.faults():
        told = ", ".join(f"{kind} {count:,}" for kind, count in faults.items())
        display.say(f"faults among them: {told}")
    say_refusals(sender, display)
    if lost := sender.unacknowledged():
        begin, end = (run.simulation.time_of(number) for number in (min(lost), max(lost)))
        display.say(
            f"not acknowledged: {len(lost):,} messages, of the turns from {begin.isoformat()} to "
            f"{end.isoformat()}; a relaunch begins with the first of them"
        )
    if heartbeat is not None:
        heartbeat.end(code, reason)
    return code


def describe(simulation: Simulation, topic: str, where: str, first: int) -> list[str]:
    """Return the lines that tell the configuration at the start."""
    declared = simulation.declared
    every = declared.every / timedelta(seconds=1)
    faults = [f"{k} {share_of(simulation.faults, k):g}" for k in KINDS]
    faults = [text for text in faults if not text.endswith(" 0")]
    return [
        f"topic {topic} at {where}, key {declared.key or 'none'}, seed {declared.seed}",
        f"{simulation.entities:,} entities, one message each {every:g} s: "
        f"{simulation.per_second:g} messages a second",
        f"fields {', '.join(declared.fields)}",
        *([f"faults by share: {', '.join(faults)}"] if faults else []),
        f"first event time {simulation.time_of(first).isoformat()}",
    ]
