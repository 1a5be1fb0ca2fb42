"""The Kafka provider's admin hook, with topics as streams need them."""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.kafka.hooks.client import KafkaAdminClientHook

from streamkeeper.connections.kafka import SERVERS, kafka_options
from streamkeeper.spec.models import Spec
from streamkeeper_airflow.hooks.connections import KAFKA
from streamkeeper_io.kafka import Admin, end_offsets, ensure_topic


class TopicHook(KafkaAdminClientHook):
    """Creates and reads topics.

    A subclass because the provider's `create_topic` takes no topic configuration, and a stream's
    topic needs LogAppendTime; nor does it tell a topic's id or its end offsets.
    """

    def __init__(self, kafka_config_id: str = KAFKA) -> None:
        super().__init__(kafka_config_id=kafka_config_id)

    def _get_client(self, config: Any) -> Admin:
        # The provider would hand its consumers' options to the client too, which it warns of.
        servers = {SERVERS: config[SERVERS]}
        return Admin(kafka_options(config, self.kafka_config_id) | servers)

    def ensure(self, spec: Spec) -> str:
        """Create the stream's topic if it is missing; return its id."""
        return ensure_topic(self.get_conn, spec.source.kafka)

    def end_offsets(self, topic: str) -> tuple[str, dict[int, int]]:
        """Return a topic's id and, by partition, the offset that the next message will get."""
        return end_offsets(self.get_conn, topic)
