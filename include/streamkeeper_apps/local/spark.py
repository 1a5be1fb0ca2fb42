"""Spark's standalone master and worker, from pyspark itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

import httpx

from streamkeeper_apps.local.hdfs import pyspark_folder
from streamkeeper_apps.local.places import LOOPBACK, Places
from streamkeeper_apps.local.server import Server


class _Spark(Server):
    def __init__(self, places: Places, java: Path) -> None:
        super().__init__(places)
        self.java = java

    def env(self) -> dict[str, str]:
        return {
            "JAVA_HOME": str(self.java),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_DIRS": str(self.places.root / "tmp" / "spark"),
            "PYSPARK_PYTHON": sys.executable,
        }

    def spark_class(self, *arguments: str) -> list[str]:
        return [str(pyspark_folder() / "bin" / "spark-class"), *arguments]

    @property
    def master_page(self) -> str:
        """The address of the master's page."""
        return f"http://{LOOPBACK}:{self.places.ports.get('spark_master_page', 8090)}/json/"

    @property
    def address(self) -> str:
        """The master's URL."""
        return f"spark://{LOOPBACK}:{self.places.ports.get('spark_master', 7077)}"

    def _workers(self) -> int:
        answer = httpx.get(self.master_page, timeout=3, trust_env=False).raise_for_status()
        return sum(worker["state"] == "ALIVE" for worker in answer.json()["workers"])


class SparkMaster(_Spark):
    """The master on `spark_master`."""

    name: ClassVar[str] = "spark_master"

    def argv(self) -> list[str]:
        ports = self.places.ports
        return self.spark_class(
            "org.apache.spark.deploy.master.Master",
            *("--host", LOOPBACK, "--port", str(ports.get("spark_master", 7077))),
            *("--webui-port", str(ports.get("spark_master_page", 8090))),
        )

    def check(self) -> str | None:
        try:
            self._workers()
        except httpx.HTTPError as error:
            return f"no answer from {self.master_page} ({type(error).__name__})"
        return None


class SparkWorker(_Spark):
    """One worker with all cores."""

    name: ClassVar[str] = "spark_worker"
    needs: ClassVar[tuple[str, ...]] = ("spark_master",)

    def argv(self) -> list[str]:
        ports = self.places.ports
        return self.spark_class(
            "org.apache.spark.deploy.worker.Worker",
            *("--host", LOOPBACK, "--port", str(ports.get("spark_worker"))),
            *("--webui-port", str(ports.get("spark_worker_page", 8091))),
            *("--cores", str(os.cpu_count() or 1), "--memory", "3g"),
            *("--work-dir", str(self.places.data(self.name)), self.address),
        )

    def check(self) -> str | None:
        try:
            return None if self._workers() else "the master has no worker"
        except httpx.HTTPError as error:
            return f"the master does not answer ({type(error).__name__})"
