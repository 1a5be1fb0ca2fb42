"""The simulator against a real broker and store: exact counts, relaunches, crashes, absences.

Producers run in threads of this process, but where it is the process that dies or is signalled.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from drivers import end_offsets, wait_for
from readings import temperature
from topics import (
    InThread,
    Producing,
    Read,
    begin_producer,
    declare,
    read_topic,
    record_process,
)

from streamkeeper.launches import EXIT_DISAGREEMENT, EXIT_FENCED
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.producers import Faults
from streamkeeper_apps.cli import main
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_apps.producer.faults import HeldBack
from streamkeeper_apps.producer.pacing import micros
from streamkeeper_apps.producer.simulator import Simulation
from streamkeeper_io import kafka
from streamkeeper_io.store import Store

Produce = Callable[..., tuple[int, InThread]]


@pytest.fixture
def produce(settings: Settings, store: Store, tmp_path: Path) -> Iterator[Produce]:
    """Launch producers of declared streams in threads; whatever was started is ended."""
    started: list[InThread] = []

    def start(spec: Spec, *options: Any) -> tuple[int, InThread]:
        launch, snapshot = begin_producer(store, spec, tmp_path)
        record_process(store, launch, os.getpid())
        arguments = ["simulate", spec.name, "--launch", str(snapshot), *options]
        producing = InThread(settings, arguments)
        started.append(producing)
        return launch.epoch, producing

    yield start
    for one in started:
        one.end()


@pytest.fixture
def process(settings: Settings, store: Store, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Launch producers as processes of their own."""
    started: list[Producing] = []

    def start(spec: Spec, *options: Any) -> tuple[int, Producing]:
        launch, snapshot = begin_producer(store, spec, tmp_path)
        arguments = ["simulate", spec.name, "--launch", str(snapshot), *map(str, options)]
        producing = Producing(settings, tmp_path / f"log-{launch.epoch}", arguments)
        started.append(producing)
        record_process(store, launch, producing.process.pid)
        return launch.epoch, producing

    yield start
    for one in started:
        one.end()


def simulated(settings: Settings, **changed: Any) -> Spec:
    """Return the temperature stream under names of its own, its simulator changed."""
    data = temperature(settings, windows=False).dump()
    data["producer"]["simulator"] |= changed
    return Spec.model_validate(data)


def event_time(message: Read) -> datetime:
    return datetime.fromisoformat(message.value.decode().split('"timestamp":"')[1][:24])


def numbers(spec: Spec, read: list[Read]) -> Counter[int]:
    """Return the numbers of messages; each must be, byte by byte, the one of its number."""
    simulation = Simulation(spec)
    found: Counter[int] = Counter()
    for message in read:
        # The text is cut to ms, so the number is the next one of this sensor.
        number = simulation.first_from(micros(event_time(message)))
        entity = int((message.key or b"").removeprefix(b"sensor_")) - 1
        found[number + (entity - number) % simulation.entities] += 1
    first, last = min(found), max(found)
    made = simulation.messages(first, last - first + 1)
    expected = Counter({made[n - first]: count for n, count in found.items()})
    assert Counter((m.key, m.value) for m in read) == expected
    return found


def sent_is_acknowledged(producing: InThread | Producing, count: int) -> bool:
    return f"sent {count:,}, acknowledged {count:,};" in producing.said


def test_the_past_first_exact_counts_and_relaunches(
    settings: Settings, store: Store, produce: Produce
) -> None:
    spec = simulated(settings)
    epochs = []
    for count in (3001, 2002, 997):
        epoch, producing = produce(spec, "--hours-back", 1, "--limit", count)
        assert producing.code() == 0, producing.said
        assert "20 entities, one message each 1 s: 20 messages a second" in producing.said
        assert sent_is_acknowledged(producing, count)
        epochs.append(epoch)
    read = read_topic(settings, spec.source.kafka.topic)
    found = numbers(spec, read)
    first = min(found)
    begun = Simulation(spec).time_of(first)
    assert (begun.minute, begun.second, begun.microsecond) == (0, 0, 0)
    assert found == Counter(range(first, first + 6000)), "a relaunch goes on with the next message"
    sent = Counter(int(m.headers["epoch"]) for m in read)
    assert sent == dict(zip(epochs, (3001, 2002, 997), strict=True))
    assert {m.time[0] for m in read} == {TIMESTAMP_LOG_APPEND_TIME}
    # a sensor's readings lie in one partition, in their order
    for key in {m.key for m in read}:
        mine = [m for m in read if m.key == key]
        assert len({m.partition for m in mine}) == 1
        assert [event_time(m) for m in mine] == sorted(event_time(m) for m in mine)
    row = store.launch(epochs[0])
    assert (row.exit_code, row.reason) == (0, "limit reached")
    assert row.progress["sent"] == row.progress["acked"] == 3001
    assert row.progress["last_tick"] == Simulation(spec).tick_of(first) + 149
    told = store.produced(spec.name)
    assert [(h.epoch, h.hour, h.sent, h.acked) for h in told] == [
        (epoch, begun, n, n) for epoch, n in zip(epochs, (3001, 2002, 997), strict=True)
    ]


def test_live_messages_are_never_sent_ahead_of_their_time(
    settings: Settings, produce: Produce
) -> None:
    spec = simulated(settings, every="50ms")
    _, producing = produce(spec, "--hours-back", 0, "--limit", 500)
    assert producing.code() == 0, producing.said
    read = read_topic(settings, spec.source.kafka.topic)
    found = numbers(spec, read)
    assert found == Counter(range(min(found), min(found) + 500))
    for message in read:
        assert int(message.headers["sent_at"]) >= micros(event_time(message)) // 1000


def test_faults_are_counted_exactly_and_go_on_after_a_relaunch(
    settings: Settings, store: Store, produce: Produce
) -> None:
    faults = {
        **{"malformed": 0.03, "out_of_range": 0.02, "duplicate": 0.02},
        "late": {"share": 0.02, "by": "2h"},
        "out_of_order": {"share": 0.05, "by": "1min"},
    }
    spec = simulated(settings, faults=faults)
    for count in (2500, 2500):
        _, producing = produce(spec, "--hours-back", 1, "--limit", count, "--fault", "late=0.03")
        assert producing.code() == 0, producing.said
        assert "late 0.03" in producing.said
    told = store.produced(spec.name)
    by_kind: Counter[str] = sum((Counter(hour.faults) for hour in told), Counter())
    said = Counter[str]()
    launches = store.launches("producer", spec.name)
    for launch in launches:
        said.update(launch.progress["faults"])
    assert by_kind == said
    assert all(kind in producing.said.split("faults among them: ")[1] for kind in faults)
    # byte by byte what a run without an interruption sends, but for what the first run released
    read = read_topic(settings, spec.source.kafka.topic)
    first = datetime.fromisoformat(launches[-1].progress["whole_to"]) - timedelta(seconds=125)
    simulation = Simulation(
        spec, Faults.model_validate(faults | {"late": {"share": 0.03, "by": "2h"}})
    )
    begin = simulation.first_from(micros(first))
    held = HeldBack(simulation.plan, begin)
    batch, rest = simulation.batch(begin, 5000, held), simulation.rest(begin + 5000, held)
    messages = [*batch.messages, *rest.messages]
    assert Counter((m.key, m.value) for m in read) == Counter(messages)
    assert by_kind + Counter() == Counter(f for f in (*batch.faults, *rest.faults) if f)
    assert len(read) == 5000 + by_kind["duplicate"] == sum(hour.acked for hour in told)
    # the late ones are accounted for in the hours that they tell
    by_hour: Counter[Any] = Counter()
    for hour in told:
        by_hour[hour.hour] += hour.sent
    hours = Counter([*batch.hours, *rest.hours])
    assert {h.timestamp() // 3600: n for h, n in by_hour.items()} == hours
    assert len(hours) == 2


def test_a_killed_producer_repeats_at_most_what_was_not_recorded(
    settings: Settings, store: Store, produce: Produce, process: Callable[..., Any]
) -> None:
    spec = simulated(settings, every="20ms")
    simulation = Simulation(spec)
    epoch, producing = process(spec, "--hours-back", 1)
    wait_for(lambda: store.launch(epoch).progress.get("acked", 0) > 10_000, "10,000 messages")
    producing.process.send_signal(signal.SIGKILL)
    producing.code()
    before = sum(end_offsets(settings, spec).values())
    recorded = datetime.fromisoformat(store.launch(epoch).progress["event_time"])
    next_one = simulation.first_from(micros(recorded) + 1)
    _, again = produce(spec, "--hours-back", 1, "--limit", before)
    assert again.code() == 0, again.said
    found = numbers(spec, read_topic(settings, spec.source.kafka.topic))
    assert set(found) == set(range(min(found), max(found) + 1)), "no message is missing"
    assert max(found) == next_one + before - 1
    twice = [n for n, count in found.items() if count > 1]
    assert all(n >= next_one for n in twice), "what was recorded as acknowledged is not repeated"
    assert max(found.values()) <= 2


def test_a_signal_tells_exact_counts(
    settings: Settings, store: Store, process: Callable[..., Any]
) -> None:
    spec = simulated(settings)
    epoch, producing = process(spec, "--hours-back", 1)
    wait_for(lambda: store.launch(epoch).progress.get("acked", 0) > 0, "acknowledgements")
    producing.process.send_signal(signal.SIGTERM)
    assert producing.code() == 0, producing.said
    assert "ends: SIGTERM" in producing.said
    there = sum(end_offsets(settings, spec).values())
    assert sent_is_acknowledged(producing, there)
    row = store.launch(epoch)
    assert (row.exit_code, row.reason, row.progress["acked"]) == (0, "SIGTERM", there)


@pytest.fixture
def declared(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A stream in a folder that commands read, with the settings of the run."""
    spec = simulated(settings)
    declare(spec, tmp_path)
    for name, value in settings.model_copy(update={"streams": tmp_path}).environment().items():
        monkeypatch.setenv(name, value)
    return spec


def test_by_hand_beside_a_launch_then_its_place_is_taken(
    declared: Spec,
    store: Store,
    tmp_path: Path,
    produce: Produce,
    capfd: pytest.CaptureFixture[str],
) -> None:
    epoch, producing = produce(declared, "--hours-back", 0)
    wait_for(lambda: store.launch(epoch).progress.get("acked"), "acknowledgements")
    by_hand = ["produce", "simulate", declared.name, "--hours-back", "0", "--limit", "1"]
    assert main(by_hand) == 1
    assert f"stop the DAG produce__{declared.name} first, or add --beside" in capfd.readouterr().err
    assert main([*by_hand, "--beside"]) == 0
    assert "sent 1, acknowledged 1" in capfd.readouterr().out
    assert main(["produce", "status", declared.name]) == 0
    shown = capfd.readouterr().out
    assert re.search(rf"launch {epoch}: launched.*runs or was killed", shown)
    assert re.search(r"launch \d+: by hand \(.*drained", shown)
    newer, _ = begin_producer(store, declared, tmp_path)
    assert producing.code() == EXIT_FENCED
    assert f"launch {newer.epoch} took this one's place" in producing.said


def test_a_topic_that_would_break_the_ledger_is_for_a_person_to_decide(
    settings: Settings, produce: Produce
) -> None:
    spec = simulated(settings)
    resource = ConfigResource(ResourceType.TOPIC, spec.source.kafka.topic)
    entry = ConfigEntry(
        "message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET
    )
    resource.add_incremental_config(entry)
    admin = kafka.Admin(settings)
    admin.incremental_alter_configs([resource])[resource].result(10)
    _, producing = produce(spec)
    assert producing.code() == EXIT_DISAGREEMENT
    assert "message.timestamp.type is CreateTime, needed is LogAppendTime" in producing.said


def test_the_servers_away_one_after_the_other(
    settings: Settings, store: Store, stack: LocalStack, produce: Produce
) -> None:
    spec = simulated(settings)
    stack.stop("kafka")
    try:
        epoch, producing = produce(spec, "--hours-back", 0)
        producing.says(f"Kafka at {settings.kafka} does not answer")
        producing.says("trying again")
    finally:
        stack.start("kafka")
    wait_for(lambda: store.launch(epoch).progress.get("acked", 0) > 20, "acknowledgements")
    stack.kill("kafka")
    acked = store.launch(epoch).progress["acked"]
    stack.stop("postgres")
    stack.start("kafka")
    try:
        producing.says("sending goes on")
        # The ends that a broker tells so soon after a crash were once seen below what it had
        # acknowledged. That nothing is lost is asked of the messages themselves, at the end.
        wait_for(lambda: sum(end_offsets(settings, spec).values()) >= acked, "what was there")
        before = sum(end_offsets(settings, spec).values())
        wait_for(lambda: sum(end_offsets(settings, spec).values()) > before + 20, "messages")
    finally:
        stack.start("postgres")
    producing.says("the store answers again")
    store.request_stop(epoch, "a test")
    assert producing.code() == 0, producing.said
    assert "ends: asked by a test" in producing.said
    there = sum(end_offsets(settings, spec).values())
    assert sent_is_acknowledged(producing, there)
    assert (store.launch(epoch).exit_code, store.launch(epoch).progress["acked"]) == (0, there)
    assert sum(hour.acked for hour in store.produced(spec.name)) == there
    found = numbers(spec, read_topic(settings, spec.source.kafka.topic))
    assert found == Counter(range(min(found), max(found) + 1)), "each exactly once"
