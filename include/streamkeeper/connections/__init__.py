"""The options of connections: read once, checked, and translated for every client."""

from streamkeeper.connections.cassandra import cassandra_options
from streamkeeper.connections.kafka import kafka_options, spark_kafka_options
from streamkeeper.connections.lake import lake_options
from streamkeeper.connections.postgres import postgres_options, postgres_urls
from streamkeeper.connections.store import store_options

__all__ = [
    "cassandra_options",
    "kafka_options",
    "lake_options",
    "postgres_options",
    "postgres_urls",
    "spark_kafka_options",
    "store_options",
]
