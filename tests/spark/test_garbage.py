"""What Python lets go of, Spark does not keep."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streamkeeper_spark.garbage import sweeping


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    """Without Python's own collections."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collected_by_hand")
def test_a_sweep_lets_spark_forget_a_plan(spark: SparkSession) -> None:
    jvm: Any = spark._jvm
    with sweeping(every_s=3600) as never, sweeping(every_s=0) as sweep:
        plan: Any = spark.range(3)._jdf
        assert plan.count() == 3
        kept = jvm.java.lang.ref.WeakReference(plan)
        del plan

        def is_there() -> bool:
            jvm.java.lang.System.gc()
            return kept.get() is not None

        never()
        assert is_there(), "else this shows nothing"
        sweep()
        # py4j tells the JVM in a thread of its own.
        deadline = time.monotonic() + 30
        while is_there() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_there()
    assert gc.get_freeze_count() == 0
