"""Servers that speak TLS only and ask for an account."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, ClassVar

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streamkeeper.connections import cassandra_options
from streamkeeper.errors import CassandraUnavailable
from streamkeeper_apps.local.cassandra import Cassandra
from streamkeeper_apps.local.kafka import Kafka
from streamkeeper_apps.local.places import LOOPBACK
from streamkeeper_apps.local.server import JavaServer
from streamkeeper_io.cassandra import session

USER = "keeper"
STORE_PASSWORD = "of-the-file"
_LOGIN = "org.apache.kafka.common.security"


def make_certificate(server: JavaServer, name: str) -> Path:
    """Make a key that signs itself below a server's root; return the file of its certificate."""
    keytool, root = str(server.java / "bin" / "keytool"), server.places.root
    about = ["-storetype", "PKCS12", "-keystore", str(root / f"{name}.p12"), "-alias", name]
    about += ["-storepass", STORE_PASSWORD]
    made = ["-genkeypair", "-keyalg", "EC", "-dname", f"CN={name}", "-validity", "2"]
    pem = root / f"{name}.pem"
    for command in (
        [*made, "-ext", f"san=ip:{LOOPBACK}", "-ext", "bc:c"],
        ["-exportcert", "-rfc", "-file", str(pem)],
    ):
        subprocess.run([keytool, *command, *about], check=True, capture_output=True)
    return pem


class SecureKafka(Kafka):
    """The broker of `make up` with a listener more: SASL_SSL, with PLAIN and SCRAM.

    `password` is the account's; `ca` is the file of the certificate that it shows.
    """

    name: ClassVar[str] = "secure_kafka"
    heap_mib: ClassVar[int] = 320
    password: str

    @property
    def address(self) -> str:
        """The bootstrap server of the plain listener, for this test's own use."""
        return f"{LOOPBACK}:{self.places.ports.get('plain')}"

    @property
    def secure_address(self) -> str:
        """The bootstrap server that asks for an account."""
        return f"{LOOPBACK}:{self.places.ports.get('secure')}"

    @property
    def ca(self) -> Path:
        """The certificate, PEM."""
        return self.places.root / "broker.pem"

    def config(self) -> dict[str, str]:
        plain, secure = self.places.ports.get("plain"), self.places.ports.get("secure")
        controller = self.places.ports.get("controller")
        listener, accounts = "listener.name.secure", f'user_{USER}="{self.password}"'
        lines = f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{LOOPBACK}:{controller}
listeners=PLAIN://{LOOPBACK}:{plain},SECURE://{LOOPBACK}:{secure},CONTROLLER://{LOOPBACK}:{controller}
advertised.listeners=PLAIN://{LOOPBACK}:{plain},SECURE://{LOOPBACK}:{secure}
listener.security.protocol.map=PLAIN:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
{listener}.plain.sasl.jaas.config={_LOGIN}.plain.PlainLoginModule required {accounts};
{listener}.scram-sha-512.sasl.jaas.config={_LOGIN}.scram.ScramLoginModule required;
{listener}.ssl.keystore.type=PKCS12
{listener}.ssl.keystore.location={self.places.root / "broker.p12"}
{listener}.ssl.keystore.password={STORE_PASSWORD}
log.dirs={self.places.data(self.name)}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
        return {"server.properties": lines}

    def prepare(self) -> None:
        """Make the certificate and format the log folder."""
        make_certificate(self, "broker")
        super().prepare()

    def completed(self) -> None:
        """Make the account that SCRAM knows."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        account = UserScramCredentialUpsertion(USER, info, self.password.encode())
        admin = AdminClient({"bootstrap.servers": self.address})
        for done in admin.alter_user_scram_credentials([account]).values():
            done.result(20)

    def options(self, mechanism: str) -> dict[str, str]:
        """Return the options of a connection that this broker accepts."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": mechanism,
            "sasl.username": USER,
            "sasl.password": self.password,
            "ssl.ca.location": str(self.ca),
        }


class SecureCassandra(Cassandra):
    """The node of `make up`, over TLS, with Cassandra's own first account."""

    name: ClassVar[str] = "secure_cassandra"
    password = "cassandra"

    @property
    def ca(self) -> Path:
        """The certificate, PEM."""
        return self.places.root / "node.pem"

    def config(self) -> dict[str, str]:
        written = super().config()
        written["cassandra.yaml"] += f"""
authenticator: PasswordAuthenticator
client_encryption_options:
  enabled: true
  optional: false
  keystore: {self.places.root / "node.p12"}
  keystore_password: {STORE_PASSWORD}
  store_type: PKCS12
"""
        return written

    def prepare(self) -> None:
        """Make the certificate."""
        make_certificate(self, "node")
        super().prepare()

    def options(self, password: str, ca: Path) -> dict[str, Any]:
        """Return the options of a connection."""
        return cassandra_options({"ssl_options": {"ca_certs": str(ca)}}, "cassandra", password)

    def check(self) -> str | None:
        try:
            with session(self.address, self.options(self.password, self.ca)) as opened:
                opened.execute("select release_version from system.local")
        except CassandraUnavailable as error:
            return str(error)
        return None
