"""One Spark session for the ring; no servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from streamkeeper.settings import Settings
from streamkeeper_io.spark_conf import spark_conf
from streamkeeper_spark.session import start_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local session with the settings of the real applications."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = Settings(spark_master="local[2]", lake="file:///")
    # Small jobs end before the second compiler has paid off.
    java = spark_conf(settings)["spark.driver.extraJavaOptions"] + " -XX:TieredStopAtLevel=1"
    extra = {"spark.ui.enabled": "false", "spark.driver.extraJavaOptions": java}
    session = start_session(settings, "tests", extra)
    yield session
    session.stop()
