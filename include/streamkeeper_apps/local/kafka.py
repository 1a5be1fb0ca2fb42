"""Kafka: one node, broker and controller, KRaft."""

from __future__ import annotations

import base64
import subprocess
import uuid
from typing import ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamkeeper_apps.local.places import LOOPBACK
from streamkeeper_apps.local.server import JavaServer, ServerFailed, fill


def _cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


class Kafka(JavaServer):
    """The broker, on `kafka`; its controller listens on `kafka_controller`."""

    name: ClassVar[str] = "kafka"
    heap_mib: ClassVar[int] = 512
    main_class: ClassVar[str] = "kafka.Kafka"

    @property
    def address(self) -> str:
        """The bootstrap server."""
        return f"{LOOPBACK}:{self.places.ports.get('kafka', 9092)}"

    def class_path(self) -> list[str]:
        return [f"{self.places.jars}/kafka/*"]

    def java_options(self) -> list[str]:
        return ["-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.showDateTime=true"]

    def arguments(self) -> list[str]:
        return [str(self.places.conf(self.name) / "server.properties")]

    def config(self) -> dict[str, str]:
        values = {
            "host": LOOPBACK,
            "port": self.places.ports.get("kafka", 9092),
            "controller_port": self.places.ports.get("kafka_controller", 9093),
            "data": self.places.data(self.name),
        }
        return {"server.properties": fill("kafka.properties", values)}

    def prepare(self) -> None:
        """Format the log folder, once."""
        if (self.places.data(self.name) / "meta.properties").exists():
            return
        config = self.arguments()[0]
        cluster = self.places.secret("kafka-cluster", _cluster_id)
        options = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        # One word each: the id may begin with a dash.
        arguments = ("format", f"--cluster-id={cluster}", f"--config={config}")
        command = self.java_command("kafka.tools.StorageTool", *arguments, options=options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(f"kafka's storage could not be formatted: {done.stderr[-2000:]}")

    def check(self) -> str | None:
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        try:
            brokers = client.list_topics(timeout=2).brokers
        except KafkaException as error:
            return str(error.args[0].str())
        return None if brokers else "no broker is registered"
