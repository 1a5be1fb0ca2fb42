"""Servers and a Spark session for the measurements, on ports and in a folder of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from pyspark.sql import SparkSession

from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.local.scratch import scratch_root
from streamkeeper_apps.local.stack import SCRATCH_FOLDER, LocalStack
from streamkeeper_io import kafka
from streamkeeper_spark.session import start_session

ROOT = Path(__file__).parents[1]
RUNNING_VARIABLE = "BENCH_ON_RUNNING_SERVERS"
CITIES = ("Casablanca", "Rabat", "Marrakech", "Fes", "Tanger", "Agadir")


@contextmanager
def servers(*names: str) -> Iterator[Settings]:
    """Start some servers, give their settings, end them and remove what they wrote.

    With BENCH_ON_RUNNING_SERVERS=1 those that the environment names (STREAMKEEPER_...) are used.
    """
    if os.environ.get(RUNNING_VARIABLE) == "1":
        yield Settings.from_environment()
        return
    local = ROOT / ".local"
    # What a killed measurement leaves is ended by the next one, by the tests and by `make up`.
    folder = scratch_root(local / SCRATCH_FOLDER)
    stack = LocalStack(folder, names, jars=local / "jars")
    try:
        yield stack.up()
    finally:
        stack.down()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def spark_session(
    settings: Settings, further: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """Give a session with two cores and the settings of the real applications.

    Parameters: further, more Spark properties.
    """
    os.environ["PYSPARK_PYTHON"] = sys.executable
    two = settings.model_copy(update={"spark_master": "local[2]"})
    extra = {"spark.ui.enabled": "false", "spark.driver.memory": "2g"}
    session = start_session(two, "streamkeeper bench", extra | dict(further or {}))
    try:
        yield session
    finally:
        session.stop()


def readings_stream(
    settings: Settings, topic: str, stream: str = "temperature", **further: Any
) -> Spec:
    """Return a declared stream on another topic, without windows and sinks.

    Parameters: further, more keys of the declaration.
    """
    spec = load_spec(ROOT / "include" / "streams" / f"{stream}.yaml").dump()
    tag = secrets.token_hex(4)
    spec |= {"name": f"bench_{tag}", "app": f"bench_{tag}", "windows": [], "sinks": []} | further
    spec["source"]["kafka"]["topic"] = topic
    spec["lake"]["path"] = f"/bench/{tag}"
    made = Spec.model_validate(spec)
    kafka.ensure_topic(kafka.Admin(settings), made.source.kafka)
    return made


def reading(number: int, seconds: float) -> bytes:
    """Return one reading of about 130 bytes, made at `seconds` since 1970."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return json.dumps(
        {
            "sensor_id": f"sensor_{number % 20:02d}",
            "city": CITIES[number % 20 % 6],
            "temperature": round(random.uniform(15, 45), 2),
            "humidity": round(random.uniform(20, 90), 2),
            "timestamp": f"{at}.{int(seconds % 1 * 1000):03d}Z",
        }
    ).encode()


def fill(
    settings: Settings, topic: str, count: int, make: Callable[[int, float], bytes] = reading
) -> None:
    """Send `count` readings as fast as it goes.

    Parameters: make, makes a message of its number and the seconds since 1970.
    """
    config = {"bootstrap.servers": settings.kafka, "linger.ms": 50, "compression.type": "lz4"}
    producer = Producer(config)
    began = time.time() - 600
    for number in range(count):
        value = make(number, began + number / 2000)
        while True:
            try:
                producer.produce(topic, value=value)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(120) == 0


def _send_steadily(address: str, topic: str, per_second: int, seconds: float) -> None:
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5})
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * per_second)
        for number in range(sent, due):
            producer.produce(topic, value=reading(number, time.time()))
        sent = due
        producer.poll(0)
        time.sleep(0.005)
    producer.flush(30)


@contextmanager
def steady_load(settings: Settings, topic: str, per_second: int, seconds: float) -> Iterator[None]:
    """Send readings at a rate from a process of its own, for `seconds`; wait for its end."""
    context = multiprocessing.get_context("spawn")
    arguments = (settings.kafka, topic, per_second, seconds)
    sender = context.Process(target=_send_steadily, args=arguments)
    sender.start()
    try:
        yield
        sender.join()
    finally:
        if sender.is_alive():
            sender.terminate()
            sender.join()
