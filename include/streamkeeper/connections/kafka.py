"""Kafka: options by librdkafka's names, checked, and translated into Java's for Spark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamkeeper.connections.options import Option, need_together, read_options, refuse_both
from streamkeeper.errors import SettingsError

CONNECTION = "kafka_default"
SERVERS = "bootstrap.servers"
_PROTOCOL, _MECHANISM = "security.protocol", "sasl.mechanism"
_USER, _PASSWORD = "sasl.username", "sasl.password"
_SERVICE, _PRINCIPAL, _KEYTAB = (
    f"sasl.kerberos.{n}" for n in ("service.name", "principal", "keytab")
)
_CA, _CA_PEM = "ssl.ca.location", "ssl.ca.pem"
_CERT, _CERT_PEM = "ssl.certificate.location", "ssl.certificate.pem"
_KEY, _KEY_PEM, _KEY_PASSWORD = "ssl.key.location", "ssl.key.pem", "ssl.key.password"
_STORE, _STORE_PASSWORD = "ssl.keystore.location", "ssl.keystore.password"
_CHECK_HOST = "ssl.endpoint.identification.algorithm"
_PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

KAFKA_OPTIONS: dict[str, Option] = {
    SERVERS: Option("the brokers, `host:port,...`"),
    _PROTOCOL: Option("how to speak", ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
    _MECHANISM: Option("how to log in", (*_PASSWORD_MECHANISMS, "GSSAPI")),
    _USER: Option("the user"),
    _PASSWORD: Option("the user's password"),
    _SERVICE: Option("Kerberos: the brokers' service"),
    _PRINCIPAL: Option("Kerberos: who logs in"),
    _KEYTAB: Option("Kerberos: the file of the key"),
    _CA: Option("file of the authorities' certificates, PEM"),
    _CA_PEM: Option("the authorities' certificates themselves, PEM"),
    _CERT: Option("file of the client's certificate, PEM"),
    _CERT_PEM: Option("the client's certificate itself, PEM"),
    _KEY: Option("file of the client's key, PEM (PKCS#8)"),
    _KEY_PEM: Option("the client's key itself, PEM (PKCS#8)"),
    _KEY_PASSWORD: Option("the password of the client's key"),
    _STORE: Option("file of the client's key and certificate, PKCS#12"),
    _STORE_PASSWORD: Option("the password of that file"),
    _CHECK_HOST: Option("compare the certificate with the host's name", ("https", "none")),
    "client.id": Option("the name that brokers log; not for Spark, whose clients name themselves"),
    "client.rack": Option("where the client stands, to read from near replicas"),
    "reconnect.backoff.ms": Option("pause before a new connection, ms"),
    "reconnect.backoff.max.ms": Option("longest such pause, ms"),
    "metadata.max.age.ms": Option("how long metadata are believed, ms"),
    "connections.max.idle.ms": Option("when idle connections are closed, ms"),
    "socket.keepalive.enable": Option("TCP keep-alive; not for Spark", ("true", "false")),
    "broker.address.family": Option("not for Spark", ("any", "v4", "v6")),
}
# What the provider's consumer hooks need in the same connection.
_CONSUMERS_OWN = frozenset(
    {
        "group.id",
        "group.instance.id",
        "enable.auto.commit",
        "auto.commit.interval.ms",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "isolation.level",
        "partition.assignment.strategy",
    }
)
_SAME_IN_JAVA = (
    _PROTOCOL,
    _MECHANISM,
    "client.rack",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "metadata.max.age.ms",
    "connections.max.idle.ms",
)
_LOGIN = "org.apache.kafka.common.security"


def kafka_options(given: Mapping[str, Any], connection: str = CONNECTION) -> dict[str, str]:
    """Return the checked options of a connection, by librdkafka's names.

    Parameters: given, the connection's extra; the servers, and what only consumers know, are left
    out.
    Raises SettingsError for unknown options, and for options that contradict one another.
    """
    renamed = dict(given)
    if "sasl.mechanisms" in renamed:
        refuse_both(connection, renamed, _MECHANISM, "sasl.mechanisms")
        renamed[_MECHANISM] = renamed.pop("sasl.mechanisms")
    found = read_options(connection, renamed, KAFKA_OPTIONS, ignored=_CONSUMERS_OWN)
    found.pop(SERVERS, None)
    protocol = found.get(_PROTOCOL, "PLAINTEXT")
    _refuse_others(connection, found, protocol, "sasl.", "SASL")
    _refuse_others(connection, found, protocol, "ssl.", "SSL")
    _check_tls(connection, found)
    if "SASL" in protocol:
        _check_login(connection, found)
    return found


def _refuse_others(
    connection: str, found: Mapping[str, str], protocol: str, prefix: str, part: str
) -> None:
    unused = [name for name in found if name.startswith(prefix)]
    if unused and part not in protocol:
        fitting = [v for v in KAFKA_OPTIONS[_PROTOCOL].values if part in v]
        raise SettingsError(
            f"the connection {connection!r} has {', '.join(unused)}, but {_PROTOCOL} is "
            f"{protocol}, which does not use them; write one of {', '.join(fitting)}, or take "
            "them away"
        )


def _check_tls(connection: str, found: Mapping[str, str]) -> None:
    refuse_both(connection, found, _CA, _CA_PEM)
    refuse_both(connection, found, _CERT, _CERT_PEM, _STORE)
    refuse_both(connection, found, _KEY, _KEY_PEM, _STORE)
    need_together(connection, found, _STORE, _STORE_PASSWORD)
    certificate, key = ({a, b} & set(found) for a, b in ((_CERT, _CERT_PEM), (_KEY, _KEY_PEM)))
    if bool(certificate) != bool(key):
        raise SettingsError(
            f"the connection {connection!r} has {next(iter(certificate | key))} alone; a client's "
            "certificate and its key go together"
        )


def _check_login(connection: str, found: Mapping[str, str]) -> None:
    if _MECHANISM not in found:
        raise SettingsError(
            f"the connection {connection!r} has no {_MECHANISM}, which {found[_PROTOCOL]} needs; "
            f"valid: {', '.join(KAFKA_OPTIONS[_MECHANISM].values)}"
        )
    kerberos = found[_MECHANISM] == "GSSAPI"
    wanted = (_SERVICE,) if kerberos else (_USER, _PASSWORD)
    missing = [name for name in wanted if not found.get(name)]
    if missing:
        raise SettingsError(
            f"the connection {connection!r} has no {' and no '.join(missing)}, which "
            f"{_MECHANISM} {found[_MECHANISM]} needs; add it to the extra"
        )
    foreign = (_USER, _PASSWORD) if kerberos else (_SERVICE, _PRINCIPAL, _KEYTAB)
    unused = [name for name in foreign if name in found]
    if unused:
        raise SettingsError(
            f"the connection {connection!r} has {', '.join(unused)}, which {_MECHANISM} "
            f"{found[_MECHANISM]} does not use; take them away, or choose another mechanism"
        )


def spark_kafka_options(
    options: Mapping[str, str], read: Callable[[str], str], connection: str = CONNECTION
) -> dict[str, str]:
    """Return the options of Spark's Kafka source, by Java's names behind `kafka.`.

    Parameters: options, checked; read, returns the text of a file: Java wants a client's
    certificate and its key in one place, so both are handed over as texts.
    Raises SettingsError for a key that Java does not read.
    """
    java = {name: options[name] for name in _SAME_IN_JAVA if name in options}
    if options.get(_MECHANISM) in _PASSWORD_MECHANISMS:
        java["sasl.jaas.config"] = _password_login(options)
    elif options.get(_MECHANISM) == "GSSAPI":
        java["sasl.kerberos.service.name"] = options[_SERVICE]
        java["sasl.jaas.config"] = _kerberos_login(options)
    if _CHECK_HOST in options:
        java[_CHECK_HOST] = options[_CHECK_HOST].replace("none", "")
    java |= _trusted(options) | _own_key(options, read, connection)
    return {f"kafka.{name}": value for name, value in java.items()}


def _password_login(options: Mapping[str, str]) -> str:
    scram = options[_MECHANISM].startswith("SCRAM")
    module = f"{_LOGIN}.scram.ScramLoginModule" if scram else f"{_LOGIN}.plain.PlainLoginModule"
    return (
        f"{module} required username={_quoted(options[_USER])} "
        f"password={_quoted(options[_PASSWORD])};"
    )


def _kerberos_login(options: Mapping[str, str]) -> str:
    module = "com.sun.security.auth.module.Krb5LoginModule"
    if _KEYTAB not in options:
        return f"{module} required useTicketCache=true;"
    principal = f" principal={_quoted(options[_PRINCIPAL])}" if _PRINCIPAL in options else ""
    keytab = _quoted(options[_KEYTAB])
    return f"{module} required useKeyTab=true storeKey=true keyTab={keytab}{principal};"


def _quoted(text: str) -> str:
    """Write a value as Java's login configuration reads it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _trusted(options: Mapping[str, str]) -> dict[str, str]:
    if _CA in options:
        return {"ssl.truststore.type": "PEM", "ssl.truststore.location": options[_CA]}
    if _CA_PEM in options:
        return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": options[_CA_PEM]}
    return {}


def _own_key(
    options: Mapping[str, str], read: Callable[[str], str], connection: str
) -> dict[str, str]:
    if _STORE in options:
        return {
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": options[_STORE],
            "ssl.keystore.password": options[_STORE_PASSWORD],
        }
    if not {_KEY, _KEY_PEM} & set(options):
        return {}
    key = options[_KEY_PEM] if _KEY_PEM in options else read(options[_KEY])
    if "BEGIN PRIVATE KEY" not in key and "BEGIN ENCRYPTED PRIVATE KEY" not in key:
        raise SettingsError(
            f"the connection {connection!r}: the client's key is not PKCS#8, which Spark's client "
            "needs; convert it: openssl pkcs8 -topk8 -nocrypt -in client.key -out client.pk8"
        )
    chain = options[_CERT_PEM] if _CERT_PEM in options else read(options[_CERT])
    password = {_KEY_PASSWORD: options[_KEY_PASSWORD]} if _KEY_PASSWORD in options else {}
    pem = {"ssl.keystore.certificate.chain": chain, "ssl.keystore.key": key}
    return {"ssl.keystore.type": "PEM"} | pem | password
