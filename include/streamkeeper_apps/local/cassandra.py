"""Cassandra: one node."""

from __future__ import annotations

import logging
import socket
from typing import ClassVar

from streamkeeper_apps.local.places import LOOPBACK
from streamkeeper_apps.local.server import JavaServer, ServerFailed, fill

# What Cassandra reaches into on Java 17 and later (its own jvm17-server.options).
_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
)
_OPENS = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.math",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)


class Cassandra(JavaServer):
    """The node; clients connect to `cassandra`."""

    name: ClassVar[str] = "cassandra"
    heap_mib: ClassVar[int] = 768
    main_class: ClassVar[str] = "org.apache.cassandra.service.CassandraDaemon"
    timeout_s: ClassVar[float] = 180

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.places.ports.get("cassandra", 9042)

    @property
    def address(self) -> str:
        """The contact point."""
        return f"{LOOPBACK}:{self.port}"

    def class_path(self) -> list[str]:
        return [str(self.places.conf(self.name)), f"{self.places.jars}/cassandra/*"]

    def java_options(self) -> list[str]:
        agents = sorted((self.places.jars / "cassandra").glob("jamm-*.jar"))
        if not agents:
            raise ServerFailed(f"no jamm jar is in {self.places.jars}/cassandra; run `make jars`")
        conf = self.places.conf(self.name)
        properties = {
            "cassandra.config": f"file://{conf}/cassandra.yaml",
            "cassandra.storagedir": self.places.data(self.name),
            "cassandra.triggers_dir": conf / "triggers",
            "logback.configurationFile": f"{conf}/logback.xml",
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.initial_token": 0,
            "cassandra.superuser_setup_delay_ms": 0,
            "cassandra.ring_delay_ms": 0,
            "jdk.attach.allowAttachSelf": "true",
            "java.security.manager": "allow",
        }
        return [
            "-XX:+UseSerialGC",
            "-Xss512k",
            f"-javaagent:{agents[-1]}",
            *(f"-D{name}={value}" for name, value in properties.items()),
            *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS),
            *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENS),
        ]

    def config(self) -> dict[str, str]:
        values = {
            "host": LOOPBACK,
            "port": self.port,
            "storage_port": self.places.ports.get("cassandra_storage", 7000),
            "data": self.places.data(self.name),
        }
        return {
            "cassandra.yaml": fill("cassandra.yaml", values),
            "logback.xml": fill("logback.xml", {}),
        }

    def prepare(self) -> None:
        (self.places.conf(self.name) / "triggers").mkdir(exist_ok=True)

    def check(self) -> str | None:
        # The driver is slow to give up, so the port is tried first.
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError as error:
            return f"port {self.port}: {error.strerror or error}"
        return self._ask()

    def _ask(self) -> str | None:
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import WhiteListRoundRobinPolicy

        logging.getLogger("cassandra").setLevel(logging.CRITICAL)
        profile = ExecutionProfile(WhiteListRoundRobinPolicy([LOOPBACK]), request_timeout=5)
        cluster = Cluster(
            [LOOPBACK],
            port=self.port,
            protocol_version=5,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        )
        try:
            with cluster.connect() as session:
                session.execute("select release_version from system.local")
        except Exception as error:  # the driver's errors have no common base
            return f"{type(error).__name__}: {error}"
        finally:
            cluster.shutdown()
        return None
