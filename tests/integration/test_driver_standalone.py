"""The driver on a real standalone master and worker, in client mode."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest
from drivers import Drivers, landed, manifests, send
from readings import assert_nothing_lost_or_doubled, reading, temperature

from streamkeeper.launches import EXIT_DRAINED
from streamkeeper.settings import Settings
from streamkeeper_apps.local.stack import LocalStack


@pytest.fixture
def master(stack: LocalStack) -> Iterator[str]:
    """A master with one worker; its URL."""
    stack.start("spark_master")
    try:
        stack.start("spark_worker")
        yield stack.spark_master.address
    finally:
        stack.stop("spark_worker")
        stack.stop("spark_master")


def test_lands_on_a_standalone_cluster(
    drivers: Drivers, settings: Settings, stack: LocalStack, master: str
) -> None:
    spec = temperature(settings)
    send(settings, spec.source.kafka.topic, [*(reading(n) for n in range(1000)), b"no JSON"])
    drivers.settings = settings.model_copy(update={"spark_master": master})
    driver = drivers.start([spec], trigger="availableNow")
    assert driver.exit_code(240) == EXIT_DRAINED, driver.log
    assert landed(settings, spec) == 1001
    assert sum(m.quarantined for m in manifests(settings, spec)) == 1
    assert sum(m.read for m in manifests(settings, spec, "city_30s")) > 0
    assert_nothing_lost_or_doubled(settings, spec)
    with urllib.request.urlopen(stack.spark_master.master_page) as answer:
        page = json.load(answer)
    (application,) = page["completedapps"]
    assert application["name"].startswith("streamkeeper")
    assert application["state"] == "FINISHED"
