"""Cassandra: options by the names of Airflow's Cassandra provider, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamkeeper.connections.options import Option, need_together, read_options
from streamkeeper.errors import SettingsError

CONNECTION = "cassandra_default"
USER, PASSWORD = "username", "password"
PROTOCOL, POLICY, LOCAL_DC = "protocol_version", "load_balancing_policy", "local_dc"
TLS = "ssl_options"

CASSANDRA_OPTIONS: dict[str, Option] = {
    PROTOCOL: Option("version of the native protocol; default 5", ("4", "5")),
    POLICY: Option(
        "which node is asked; default TokenAwarePolicy",
        ("TokenAwarePolicy", "DCAwareRoundRobinPolicy", "RoundRobinPolicy"),
    ),
    LOCAL_DC: Option("the data centre that is asked"),
}
TLS_OPTIONS: dict[str, Option] = {
    "ca_certs": Option("file of the authorities' certificates, PEM"),
    "certfile": Option("file of the client's certificate, PEM"),
    "keyfile": Option("file of the client's key, PEM"),
    "keyfile_password": Option("the password of the client's key"),
    "check_hostname": Option(
        "compare the certificate with the host's name; default true", ("true", "false")
    ),
}
_ACCOUNT = {USER: Option("the user"), PASSWORD: Option("the user's password")}


def cassandra_options(
    given: Mapping[str, Any], login: str = "", password: str = "", connection: str = CONNECTION
) -> dict[str, Any]:
    """Return the checked options of a connection.

    Parameters: given, the connection's extra, or checked options; login and password, its own.
    Returns texts by name, those of TLS below `ssl_options`, which are there when TLS is wanted.
    Raises SettingsError for unknown options, and for options that contradict one another.
    """
    flat = {name: value for name, value in given.items() if name != TLS}
    account = {USER: login or None, PASSWORD: password or None}
    found: dict[str, Any] = read_options(
        connection, flat | {n: v for n, v in account.items() if v}, CASSANDRA_OPTIONS | _ACCOUNT
    )
    need_together(connection, found, USER, PASSWORD)
    if found.get(POLICY) == "RoundRobinPolicy" and LOCAL_DC in found:
        raise SettingsError(
            f"the connection {connection!r} has {LOCAL_DC}, which RoundRobinPolicy does not use; "
            f"take it away, or write {POLICY} TokenAwarePolicy"
        )
    if TLS in given:
        found[TLS] = _tls(given[TLS], connection)
    return found


def _tls(given: Any, connection: str) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise SettingsError(
            f"the connection {connection!r}: {TLS} is {type(given).__name__}, not a mapping; "
            f'write {{"{TLS}": {{"ca_certs": "/etc/ssl/ca.pem"}}}}'
        )
    found = read_options(f"{connection}, {TLS}", given, TLS_OPTIONS)
    need_together(f"{connection}, {TLS}", found, "certfile", "keyfile")
    if "keyfile_password" in found and "keyfile" not in found:
        raise SettingsError(
            f"the connection {connection!r}: {TLS} has keyfile_password without keyfile"
        )
    return found
