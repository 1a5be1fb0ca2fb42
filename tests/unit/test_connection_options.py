"""Options of connections: what is valid, what contradicts, what each client is given."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cassandra import AuthenticationFailed
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable
from cassandra.policies import DCAwareRoundRobinPolicy, RoundRobinPolicy, TokenAwarePolicy
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.connections import (
    cassandra_options,
    kafka_options,
    lake_options,
    postgres_urls,
    spark_kafka_options,
    store_options,
)
from streamkeeper.connections.kafka import KAFKA_OPTIONS
from streamkeeper.connections.lake import lake_address
from streamkeeper.errors import SettingsError
from streamkeeper.redaction import HIDDEN, is_secret, redact, redact_logs
from streamkeeper.settings import Settings
from streamkeeper_io.cassandra import unavailable
from streamkeeper_io.cassandra_cluster import cluster_arguments
from streamkeeper_io.kafka import client_config, source_options
from streamkeeper_io.spark_conf import session_conf, spark_conf
from streamkeeper_io.store import Store

SCRAM = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "keeper",
    "sasl.password": 'pa"ss\\word',
}
KEY = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"


def no_file(path: str) -> str:
    raise AssertionError(f"{path} is not to be read")


# Kafka
def test_kafka_options_for_librdkafka_and_for_java() -> None:
    extra = SCRAM | {"bootstrap.servers": "k:9093", "group.id": "x", "ssl.ca.location": "/ca.pem"}
    options = kafka_options(extra)
    assert options == SCRAM | {"ssl.ca.location": "/ca.pem"}
    settings = Settings(kafka="k:9093", kafka_options=options)
    assert client_config(settings) == options | {"bootstrap.servers": "k:9093"}
    assert source_options(settings) == {
        "kafka.bootstrap.servers": "k:9093",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required"
        ' username="keeper" password="pa\\"ss\\\\word";',
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.location": "/ca.pem",
    }


def test_a_plain_connection_adds_nothing() -> None:
    assert kafka_options({"bootstrap.servers": "k:1"}) == {}
    assert source_options(Settings(kafka="k:1")) == {"kafka.bootstrap.servers": "k:1"}


def test_spellings_of_kafka_options() -> None:
    found = kafka_options(
        {
            "security.protocol": "sasl_plaintext",
            "sasl.mechanisms": "plain",
            "sasl.username": "u",
            "sasl.password": "p",
            "socket.keepalive.enable": True,
        }
    )
    assert found["security.protocol"] == "SASL_PLAINTEXT"
    assert found["sasl.mechanism"] == "PLAIN"
    assert found["socket.keepalive.enable"] == "true"
    java = spark_kafka_options(found, no_file)
    assert "plain.PlainLoginModule" in java["kafka.sasl.jaas.config"]
    assert "kafka.socket.keepalive.enable" not in java


def test_a_clients_own_certificate_is_handed_to_java_as_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "cert").write_text("CERT")
    options = kafka_options(
        {
            "security.protocol": "SSL",
            "ssl.ca.pem": "CA",
            "ssl.certificate.location": str(tmp_path / "cert"),
            "ssl.key.location": str(tmp_path / "key"),
            "ssl.endpoint.identification.algorithm": "none",
        }
    )
    assert source_options(Settings(kafka="k:1", kafka_options=options)) == {
        "kafka.bootstrap.servers": "k:1",
        "kafka.security.protocol": "SSL",
        "kafka.ssl.endpoint.identification.algorithm": "",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.certificates": "CA",
        "kafka.ssl.keystore.type": "PEM",
        "kafka.ssl.keystore.certificate.chain": "CERT",
        "kafka.ssl.keystore.key": KEY,
    }
    gone = options | {"ssl.key.location": str(tmp_path / "gone")}
    with pytest.raises(SettingsError, match=r"'kafka_default' names the file .*gone, which cannot"):
        source_options(Settings(kafka="k:1", kafka_options=gone))
    old = options | {"ssl.key.pem": "-----BEGIN RSA PRIVATE KEY-----"}
    del old["ssl.key.location"]
    with pytest.raises(SettingsError, match=r"not PKCS#8.*openssl pkcs8 -topk8"):
        source_options(Settings(kafka="k:1", kafka_options=old))


def test_kerberos_is_passed_through() -> None:
    options = kafka_options(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "GSSAPI",
            "sasl.kerberos.service.name": "kafka",
            "sasl.kerberos.principal": "keeper@X",
            "sasl.kerberos.keytab": "/etc/k.keytab",
        }
    )
    java = spark_kafka_options(options, no_file)
    assert java["kafka.sasl.kerberos.service.name"] == "kafka"
    assert 'keyTab="/etc/k.keytab" principal="keeper@X";' in java["kafka.sasl.jaas.config"]
    cached = {n: v for n, v in options.items() if "keytab" not in n and "principal" not in n}
    login = spark_kafka_options(kafka_options(cached), no_file)["kafka.sasl.jaas.config"]
    assert "useTicketCache=true" in login


WRONG_KAFKA: list[tuple[dict[str, Any], str]] = [
    ({"security.protokol": "SSL"}, "unknown option 'security.protokol'.*'security.protocol'"),
    ({"security.protocol": "TLS"}, "security.protocol is 'TLS'; valid: PLAINTEXT, SSL, SASL_"),
    ({"ssl.ca.location": "/ca"}, "ssl.ca.location, but security.protocol is PLAINTEXT.*SSL, SASL"),
    (SCRAM | {"security.protocol": "SSL"}, "sasl.mechanism, .* but security.protocol is SSL"),
    ({"security.protocol": "SASL_SSL"}, "no sasl.mechanism, which SASL_SSL needs; valid: PLAIN"),
    (SCRAM | {"sasl.password": ""}, "no sasl.password, which sasl.mechanism SCRAM-SHA-512 needs"),
    (SCRAM | {"sasl.mechanism": "OAUTHBEARER"}, "is 'OAUTHBEARER'; valid: PLAIN, SCRAM"),
    (SCRAM | {"sasl.kerberos.keytab": "/k"}, "keytab, which sasl.mechanism SCRAM-SHA-512 does not"),
    (
        SCRAM | {"sasl.mechanisms": "PLAIN"},
        "sasl.mechanism and sasl.mechanisms, which say the same",
    ),
    (SCRAM | {"ssl.ca.pem": "A", "ssl.ca.location": "/b"}, "ssl.ca.location and ssl.ca.pem"),
    (SCRAM | {"ssl.key.pem": "A"}, "has ssl.key.pem alone; a client's certificate and its key"),
    (SCRAM | {"ssl.keystore.location": "/a"}, "location but not ssl.keystore.password; add it"),
    ({"client.id": {"a": 1}}, "client.id is a dict; write one text"),
    ({"enable.ssl.certificate.verification": False}, "unknown option"),
]


@pytest.mark.parametrize(("extra", "told"), WRONG_KAFKA)
def test_wrong_kafka_options_are_told(extra: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=f"(?s)'kafka_default'.*{told}") as raised:
        kafka_options(extra)
    assert SCRAM["sasl.password"] not in str(raised.value)


# Cassandra
def test_cassandra_options_become_the_drivers_arguments(tmp_path: Path) -> None:
    found = cluster_arguments("a:9042,b:9042", cassandra_options({}, "keeper", "word"), 7)
    assert found["contact_points"] == ["a", "b"]
    assert (found["port"], found["protocol_version"], found["connect_timeout"]) == (9042, 5, 7)
    account = found["auth_provider"]
    assert isinstance(account, PlainTextAuthProvider)
    assert (account.username, account.password) == ("keeper", "word")
    policy = found["execution_profiles"][EXEC_PROFILE_DEFAULT].load_balancing_policy
    assert isinstance(policy, TokenAwarePolicy)
    assert isinstance(policy._child_policy, RoundRobinPolicy)
    assert "ssl_context" not in found

    near = cassandra_options(
        {"local_dc": "dc1", "protocol_version": 4, "ssl_options": {"check_hostname": False}}
    )
    found = cluster_arguments("a:9042", near, 7)
    child = found["execution_profiles"][EXEC_PROFILE_DEFAULT].load_balancing_policy._child_policy
    assert isinstance(child, DCAwareRoundRobinPolicy)
    assert found["protocol_version"] == 4
    assert found["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert not found["ssl_context"].check_hostname
    missing = cassandra_options({"ssl_options": {"ca_certs": str(tmp_path / "no")}})
    with pytest.raises(SettingsError, match=r"'cassandra_default'.*no, which cannot be used: .*No"):
        cluster_arguments("a:9042", missing, 7)


@pytest.mark.parametrize(
    ("extra", "login", "told"),
    [
        ({"local_datacenter": "x"}, "", "unknown option 'local_datacenter'; valid: protocol_ver"),
        ({"protocol_version": 3}, "", "protocol_version is '3'; valid: 4, 5"),
        ({"load_balancing_policy": "x"}, "", "'x'; valid: TokenAwarePolicy, DCAware"),
        ({"load_balancing_policy": "RoundRobinPolicy", "local_dc": "a"}, "", "has local_dc, which"),
        ({"ssl_options": True}, "", "ssl_options is bool, not a mapping"),
        (
            {"ssl_options": {"ca_cert": "x"}},
            "",
            "unknown option 'ca_cert'; .*mean 'ca_certs'",
        ),
        ({"ssl_options": {"certfile": "x"}}, "", "has certfile but not keyfile"),
        ({}, "keeper", "has username but not password"),
    ],
)
def test_wrong_cassandra_options_are_told(extra: dict[str, Any], login: str, told: str) -> None:
    with pytest.raises(SettingsError, match=f"cassandra_default.*{told}"):
        cassandra_options(extra, login)


def test_a_refusal_of_cassandra_is_not_called_silence() -> None:
    error = NoHostAvailable("no", {"h:1": AuthenticationFailed("Bad credentials")})
    assert "refuses the connection cassandra_default: Bad cred" in str(unavailable("h:1", error))
    gone = NoHostAvailable("no", {"h:1": OSError("Connection refused")})
    assert "h:1 does not answer: h:1: Connection refused" in str(unavailable("h:1", gone))


# PostgreSQL and HDFS
@pytest.mark.parametrize(
    ("read", "extra", "told"),
    [
        (store_options, {"ssl_mode": "x"}, "'streamkeeper_db'.*mean 'sslmode'"),
        (store_options, {"sslmode": "on"}, "sslmode is 'on'; valid: disable, allow"),
        (store_options, {"sslmode": "verify-full"}, "sslmode verify-full but no sslrootcert"),
        (store_options, {"sslmode": "disable", "sslrootcert": "a"}, "sslmode is disable; write"),
        (store_options, {"sslcert": "a"}, "has sslcert but not sslkey"),
        (lake_options, {"rpcport": 1}, "'webhdfs_default'.*did you mean 'rpc_port'"),
        (lake_options, {"hadoop": "x"}, "hadoop is str, not a mapping; write"),
        (lake_options, {"hadoop": {"x.y": 1}}, "'x.y' is no option of Hadoop's; they begin with"),
    ],
)
def test_wrong_options_of_store_and_lake_are_told(
    read: Callable[[Mapping[str, Any]], object], extra: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        read(extra)


def test_lake_options_reach_spark() -> None:
    extra = {"hadoop": {"dfs.nameservices": "one,two", "dfs.client.use.datanode.hostname": True}}
    assert lake_address("two", extra) == "hdfs://two"
    assert lake_address("http://nn", {"rpc_port": 9000}) == "hdfs://nn:9000"
    with pytest.raises(SettingsError, match="rpc_port is 'x'"):
        lake_address("nn", {"rpc_port": "x"})
    settings = Settings(
        lake="hdfs://two",
        lake_options=lake_options(extra),
        spark_secrets={"spark.authenticate.secret": "marker"},
    )
    conf = session_conf(settings)
    assert conf["spark.hadoop.dfs.client.use.datanode.hostname"] == "true"
    assert conf["spark.authenticate.secret"] == "marker"
    assert "marker" not in str(spark_conf(settings)), "this goes into a command line"


# Settings and secrets
def everything() -> Settings:
    return Settings(
        store="postgresql+psycopg://u:st%2Fore@h/x?sslmode=require&sslpassword=pg%20key",
        kafka="k:1",
        kafka_options=kafka_options(SCRAM),
        cassandra_options=cassandra_options({"ssl_options": {"ca_certs": "/a"}}, "u", "cass"),
        lake_options={"dfs.x": "y"},
        spark_secrets={"spark.ssl.keyPassword": "spa"},
    )


def test_all_options_travel_by_the_environment() -> None:
    settings = everything()
    child = settings.environment()
    assert Settings.from_environment(child) == settings
    parents = Settings().environment()
    assert Settings.from_environment(child | parents) == Settings(), "nothing is left of a parent"


def test_secrets_are_found_and_hidden() -> None:
    settings = everything()
    assert set(settings.secrets()) == {"st/ore", "pg key", 'pa"ss\\word', "cass", "spa"}
    shown = f"{settings!r} {settings} {settings.redact(settings.store)}"
    for secret in ("st/ore", "st%2Fore", "pg key", "pg%20key", "pa\\", "cass'", "spa'"):
        assert secret not in shown
    assert "keeper" in shown


@pytest.mark.parametrize("text", ["{", "[]", '"a"', "marker"])
def test_options_that_are_no_json_are_told_without_showing_them(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^STREAMKEEPER_KAFKA_OPTIONS is no JSON object; w.*}"):
        Settings.from_environment({"STREAMKEEPER_KAFKA_OPTIONS": text})


def test_wrong_settings_do_not_show_their_values() -> None:
    with pytest.raises(ValueError, match="spark_secrets") as raised:
        Settings.model_validate({"spark_secrets": {"a": ["marker"]}})
    assert "marker" not in str(raised.value)


def test_what_names_a_secret() -> None:
    secret = {name for name in KAFKA_OPTIONS if is_secret(name)}
    assert secret == {
        "sasl.password",
        "ssl.key.pem",
        "ssl.key.password",
        "ssl.keystore.password",
    }
    assert all(map(is_secret, ["kafka.sasl.jaas.config", "kafka.ssl.keystore.key", "sslpassword"]))


@given(st.text(min_size=3), st.text(), st.text())
def test_no_secret_is_left_in_a_text(secret: str, before: str, after: str) -> None:
    assert secret in HIDDEN or secret not in redact(before + secret + after, [secret])


def test_logs_are_written_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, handler = root.handlers, logging.StreamHandler()
    root.handlers = [handler]
    try:
        redact_logs(["marker"])
        try:
            raise ValueError("the marker in an error")
        except ValueError:
            logging.getLogger("x").exception("a %s in a message", "marker")
    finally:
        root.handlers = before
    told = capsys.readouterr().err
    assert f"a {HIDDEN} in a message" in told
    assert f"ValueError: the {HIDDEN} in an error" in told
    assert "marker" not in told.replace(__file__, "")


def test_a_store_shows_no_password() -> None:
    store = Store("postgresql+psycopg://u:marker@h/x?sslpassword=marker&host=/run")
    assert repr(store) == "Store('postgresql+psycopg://u:***@h/x?host=%2Frun')"


@pytest.mark.parametrize("password", ["a/b", "a#b", "a@b/c"])
def test_a_database_address_with_a_raw_password_is_refused_without_showing_it(
    password: str,
) -> None:
    url = f"postgresql://user:{password}@host:5432/database"
    with pytest.raises(SettingsError, match=r"write / \? # @ : in a password as %2F") as told:
        postgres_urls({"postgres_default": url})
    assert password not in str(told.value)
