"""The local servers: all of them killed and started again, their data still there."""

from __future__ import annotations

from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streamkeeper.settings import Settings
from streamkeeper_apps.local.stack import DATA_SERVERS, LocalStack
from streamkeeper_io.cassandra import session
from streamkeeper_io.kafka import Admin, end_offsets
from streamkeeper_io.lake import hdfs_client
from streamkeeper_io.store import Store

pytestmark = pytest.mark.timeout(400)


def leave_something(settings: Settings, store: Store, name: str) -> None:
    """Keep one fact in each server."""
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    producer = Producer({"bootstrap.servers": settings.kafka})
    producer.produce(name, b"kept")
    assert producer.flush(30) == 0
    with hdfs_client(settings.lake).create(f"/{name}") as file:
        file.write(b"kept")
    with session(settings.cassandra) as cassandra:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        cassandra.execute(f"create keyspace {name} with replication = {replication}")
        cassandra.execute(f"create table {name}.facts (id int primary key, word text)")
        cassandra.execute(f"insert into {name}.facts (id, word) values (1, 'kept')")
    store.set_desired(name, "stopped", "a test")


def test_killed_servers_come_back_with_their_data(
    stack: LocalStack, settings: Settings, store: Store
) -> None:
    name = f"kept_{uuid4().hex[:8]}"
    leave_something(settings, store, name)
    store.close()
    for server in DATA_SERVERS:
        stack.kill(server)
    assert {one.state for one in stack.status() if one.name in DATA_SERVERS} == {"dead"}

    assert stack.up() == settings, "the same ports, the same password"

    assert {one.state for one in stack.status() if one.name in DATA_SERVERS} == {"serves"}
    assert end_offsets(Admin(settings), name)[1] == {0: 1}
    assert hdfs_client(settings.lake).read(f"/{name}").read() == b"kept"
    with session(settings.cassandra) as cassandra:
        assert cassandra.execute(f"select word from {name}.facts where id = 1").one().word == "kept"
    assert store.desired(name) == "stopped"


def test_a_second_up_keeps_what_serves(stack: LocalStack) -> None:
    before = {name: stack.all[name].record() for name in DATA_SERVERS}
    stack.up()
    assert {name: stack.all[name].record() for name in DATA_SERVERS} == before
