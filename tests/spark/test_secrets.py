"""Plans and errors of the sources that log in show no secret."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from streamkeeper.settings import Settings
from streamkeeper_io.kafka import source_options
from streamkeeper_spark.datasources.cassandra.options import connection_options
from streamkeeper_spark.datasources.cassandra.source import register

MARKER = "marked-secret"


NOBODY = "127.0.0.1:1"
SETTINGS = Settings(
    kafka=NOBODY,
    kafka_options={
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "keeper",
        "sasl.password": MARKER,
    },
    cassandra=NOBODY,
    cassandra_options={"username": "keeper", "password": MARKER},
)


def plans(rows: DataFrame) -> str:
    """Return the plans that can be made without a server, with their options."""
    execution: Any = rows._jdf.queryExecution()
    return f"{execution.analyzed().treeString()} {execution.optimizedPlan().treeString()}"


def test_kafkas_password_is_in_no_plan(spark: SparkSession) -> None:
    options = source_options(SETTINGS)
    assert MARKER in options["kafka.sasl.jaas.config"]
    rows = spark.read.format("kafka").options(**options).option("subscribe", "t").load()
    told = plans(rows)
    assert "kafka" in told.lower()
    assert MARKER not in told


def test_cassandras_password_is_in_no_plan_and_no_error(spark: SparkSession) -> None:
    register(spark)
    source = spark.read.format("cassandra").schema("a string, b int")
    options = {"contact_points": SETTINGS.cassandra, "keyspace": "k", "table": "t"}
    options |= connection_options(SETTINGS.cassandra_options)
    rows = source.options(**options).load().where("a = 'x'")
    assert MARKER not in str(rows._jdf.queryExecution().analyzed().treeString())
    with pytest.raises(PySparkException, match="does not answer") as raised:
        rows.collect()
    assert MARKER not in str(raised.value)
