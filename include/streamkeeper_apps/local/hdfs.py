"""HDFS: a NameNode and one DataNode."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import httpx

from streamkeeper_apps.local.places import LOOPBACK
from streamkeeper_apps.local.server import JavaServer, ServerFailed, fill

_PACKAGE = "org.apache.hadoop.hdfs.server"


def pyspark_folder() -> Path:
    """The folder of the installed pyspark, found without importing it."""
    spec = find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("pyspark is not installed; run `make venv`")
    return Path(spec.submodule_search_locations[0])


class _Hdfs(JavaServer):
    heap_mib: ClassVar[int] = 256

    def class_path(self) -> list[str]:
        # pyspark brings Hadoop's client jars of the same version; its other jars are left out.
        spark_jars = pyspark_folder() / "jars"
        wanted = ("hadoop-client-api", "hadoop-client-runtime", "slf4j-api", "log4j-", "snappy")
        taken = sorted(str(p) for p in spark_jars.glob("*.jar") if p.name.startswith(wanted))
        return [str(self.places.conf(self.name)), f"{self.places.jars}/hdfs/*", *taken]

    def java_options(self) -> list[str]:
        return ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

    def env(self) -> dict[str, str]:
        return {"HADOOP_CONF_DIR": str(self.places.conf(self.name))}

    @property
    def http_port(self) -> int:
        """The NameNode's HTTP port: its page, WebHDFS and JMX."""
        return self.places.ports.get("namenode_http", 9870)

    @property
    def rpc_port(self) -> int:
        """The NameNode's RPC port."""
        return self.places.ports.get("namenode", 9000)

    def config(self) -> dict[str, str]:
        ports = self.places.ports
        values = {
            "host": LOOPBACK,
            "rpc_port": self.rpc_port,
            "http_port": self.http_port,
            "data_port": ports.get("datanode", 9866),
            "data_ipc_port": ports.get("datanode_ipc", 9867),
            "data_http_port": ports.get("datanode_http", 9864),
            "names": self.places.data("namenode"),
            "blocks": self.places.data("datanode"),
            "temporary": self.places.root / "tmp" / "hadoop",
        }
        return {
            "core-site.xml": fill("core-site.xml", values),
            "hdfs-site.xml": fill("hdfs-site.xml", values),
            "log4j2.properties": fill("log4j2.properties", {}),
        }

    def state(self) -> dict[str, Any]:
        """The NameNode's own account of the file system (JMX FSNamesystemState)."""
        answer = httpx.get(
            f"http://{LOOPBACK}:{self.http_port}/jmx",
            params={"qry": "Hadoop:service=NameNode,name=FSNamesystemState"},
            timeout=3,
            trust_env=False,
        )
        beans = json.loads(answer.raise_for_status().text)["beans"]
        return beans[0] if beans else {}


class NameNode(_Hdfs):
    """The NameNode: RPC on `namenode`, page and WebHDFS on `namenode_http`."""

    name: ClassVar[str] = "namenode"
    main_class: ClassVar[str] = f"{_PACKAGE}.namenode.NameNode"

    @property
    def address(self) -> str:
        """The file system's address."""
        return f"hdfs://{LOOPBACK}:{self.rpc_port}"

    def prepare(self) -> None:
        """Format the name folder, once."""
        if (self.places.data(self.name) / "current" / "VERSION").exists():
            return
        options = ["-Xmx128m", *self.java_options()]
        command = self.java_command(
            self.main_class, "-format", "-nonInteractive", "-force", options=options
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(
                f"HDFS could not be formatted: {(done.stdout + done.stderr)[-2000:]}"
            )

    def check(self) -> str | None:
        try:
            state = self.state()
        except httpx.HTTPError as error:
            return f"no answer on port {self.http_port} ({type(error).__name__})"
        return None if state else "its file system is not open yet"


class DataNode(_Hdfs):
    """The DataNode; ready once the NameNode counts it and has left safe mode."""

    name: ClassVar[str] = "datanode"
    main_class: ClassVar[str] = f"{_PACKAGE}.datanode.DataNode"

    def check(self) -> str | None:
        try:
            state = self.state()
        except httpx.HTTPError as error:
            return f"the NameNode does not answer ({type(error).__name__})"
        if not state.get("NumLiveDataNodes"):
            return "the NameNode has no live DataNode"
        fs_state = state.get("FSState")
        return None if fs_state == "Operational" else f"the NameNode is in state {fs_state}"
