"""Accounts and TLS with real servers and processes, and no secret where others can read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from drivers import Drivers, RunningDriver, landed, send, wait_for
from readings import assert_nothing_lost_or_doubled, reading, temperature
from secure import SecureKafka, make_certificate

from streamkeeper.errors import KafkaUnavailable, StoreUnavailable
from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.settings import Settings
from streamkeeper_airflow.hooks.kafka import TopicHook
from streamkeeper_apps.local.places import Places
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io import kafka
from streamkeeper_io.store import Store

MARKER = "Marked/Secret"
_PAGES = ("environment", "SQL", "StreamingQuery", "jobs", "stages", "executors")
_REST = ("environment", "sql?details=true&planDescription=true", "jobs", "stages", "executors")


@pytest.fixture(scope="module")
def broker(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker that asks for an account over TLS."""
    places = Places.at(tmp_path_factory.mktemp("secure"), stack.places.jars)
    server = SecureKafka(places, stack.kafka.java)
    server.password = f'{MARKER} "kafka"'.replace('"', "'")
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def secured(settings: Settings, broker: SecureKafka) -> Settings:
    """The run's settings with that broker, and with secrets wherever there can be one."""
    return Settings.model_validate(
        settings.model_dump()
        | {
            "kafka": broker.secure_address,
            "kafka_options": broker.options("SCRAM-SHA-512"),
            # The servers' default account check takes any.
            "cassandra_options": {"username": "keeper", "password": f"{MARKER}-cassandra"},
            "spark_secrets": {"spark.ssl.keyPassword": f"{MARKER}-spark"},
        }
    )


def test_a_stream_over_sasl_and_tls_shows_no_secret(
    drivers: Drivers, secured: Settings, monkeypatch: pytest.MonkeyPatch, broker: SecureKafka
) -> None:
    drivers.settings = secured
    spec = temperature(secured)
    topic = spec.source.kafka.topic
    send(secured, topic, [reading(n) for n in range(300)])
    driver = drivers.start([spec])
    wait_for(lambda: landed(secured, spec) == 300, "300 rows over TLS")
    sink = f"{spec.name}/cassandra:{spec.sinks[0].keyspace}.{spec.sinks[0].table}"  # type: ignore[union-attr]
    wait_for(lambda: driver.progress("sinks", sink).get("rows", 0) > 0, "rows in Cassandra")
    told = everything_to_read(driver)
    drivers.store.request_stop(driver.launch.epoch, "the test")
    assert driver.exit_code() == EXIT_DRAINED
    assert_nothing_lost_or_doubled(secured, spec)
    told |= {"the log": driver.log, "the row": driver.row().model_dump_json()}
    # Each place is one that tells of this launch at all.
    assert "stream.py" in told["command lines"]
    assert spec.name in told["launch.json"]
    assert "spark.ssl.keyPassword" in told["rest environment"]
    assert spec.name in told["rest sql?details=true&planDescription=true"]
    for place, text in told.items():
        for secret in (MARKER, MARKER.replace("/", "%2F"), *secured.secrets()):
            assert secret not in text, f"a secret is in {place}"

    # The provider's hook reads the same connection, with what its consumers want beside it.
    extra = broker.options("PLAIN") | {
        "bootstrap.servers": broker.secure_address,
        "group.id": "events",
        "enable.auto.commit": False,
    }
    connection = json.dumps({"conn_type": "kafka", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", connection)
    assert sum(TopicHook().end_offsets(topic)[1].values()) == 300


def everything_to_read(driver: RunningDriver) -> dict[str, str]:
    """Return what other people can read of a running launch, by place."""
    ui = driver.row().progress["ui"]
    found = {"launch.json": (driver.folder / "launch.json").read_text()}
    found["command lines"] = "\n".join(
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    )
    with httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as client:
        (application,) = client.get(f"{ui}/api/v1/applications").json()
        rest = f"{ui}/api/v1/applications/{application['id']}"
        for name in _REST:
            found[f"rest {name}"] = client.get(f"{rest}/{name}").raise_for_status().text
        for name in _PAGES:
            found[f"page {name}"] = client.get(f"{ui}/{name}/").raise_for_status().text
        for number in range(3):
            page = client.get(f"{ui}/SQL/execution/?id={number}").raise_for_status()
            found[f"plan {number}"] = page.text
    return found


def test_refusals_name_the_connection(secured: Settings, broker: SecureKafka) -> None:
    options = broker.options("SCRAM-SHA-512")
    for wrong, told in (
        ({"sasl.password": "another"}, r"Authentication failed.*correct its sasl\.mechanism"),
        (
            {"ssl.ca.location": str(make_certificate(broker, "other"))},
            r"certificate.*ssl\.ca\.location",
        ),
    ):
        other = secured.model_copy(update={"kafka_options": options | wrong})
        address = broker.secure_address
        with pytest.raises(
            KafkaUnavailable,
            match=f"(?s)^Kafka at {address} refuses the connection kafka_default.*{told}",
        ) as raised:
            kafka.topic_id(kafka.Admin(other), "any", timeout_s=3)
        assert "another" not in str(raised.value)


def test_refusals_of_the_store_name_the_connection(settings: Settings) -> None:
    user = "postgresql+psycopg://streamkeeper:"
    rest = settings.store.removeprefix(user).partition("@")[2]
    for url, told in (
        (f"{user}{MARKER.replace('/', '%2F')}@{rest}", "password authentication failed"),
        (f"{settings.store}?sslmode=require", "server does not support SSL"),
    ):
        with pytest.raises(
            StoreUnavailable, match=f"(?s)refuses the connection streamkeeper_db: .*{told}"
        ) as raised:
            Store(url).launches("driver", "any", 1)
        assert not [s for s in (MARKER, *settings.secrets()) if s in str(raised.value)]
