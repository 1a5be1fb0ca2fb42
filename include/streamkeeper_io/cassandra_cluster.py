"""Cassandra: the driver's arguments from a connection's options."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from cassandra import AuthenticationFailed
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, NoHostAvailable
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    LoadBalancingPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)

from streamkeeper.connections.cassandra import (
    CONNECTION,
    LOCAL_DC,
    PASSWORD,
    POLICY,
    PROTOCOL,
    TLS,
    USER,
)
from streamkeeper.errors import SettingsError


def cluster_arguments(
    contact_points: str, options: Mapping[str, Any], timeout_s: float
) -> dict[str, Any]:
    """Return the arguments of the driver's `Cluster`.

    Parameters: contact_points, `host:port,...`, all with one port; options, checked; timeout_s, of
    a connection and of a request.
    Raises SettingsError for a certificate or key that cannot be read.
    """
    places = [point.rpartition(":") for point in contact_points.split(",")]
    profile = ExecutionProfile(load_balancing_policy=_policy(options), request_timeout=timeout_s)
    found: dict[str, Any] = {
        "contact_points": [host for host, _, _ in places],
        "port": int(places[0][2]),
        "protocol_version": int(options.get(PROTOCOL, 5)),
        "connect_timeout": timeout_s,
        "execution_profiles": {EXEC_PROFILE_DEFAULT: profile},
    }
    if USER in options:
        found["auth_provider"] = PlainTextAuthProvider(options[USER], options[PASSWORD])
    if TLS in options:
        found["ssl_context"] = _tls(options[TLS])
    return found


def _policy(options: Mapping[str, Any]) -> LoadBalancingPolicy:
    datacenter = options.get(LOCAL_DC)
    near = DCAwareRoundRobinPolicy(datacenter) if datacenter else RoundRobinPolicy()
    match options.get(POLICY):
        case "RoundRobinPolicy":
            return RoundRobinPolicy()
        case "DCAwareRoundRobinPolicy":
            return DCAwareRoundRobinPolicy(datacenter or "")
    return TokenAwarePolicy(near)


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ca_certs"))
        # The driver hands over the node's address; a certificate may be of the name alone.
        context.check_hostname = options.get("check_hostname", "true") == "true"
        if "certfile" in options:
            context.load_cert_chain(
                options["certfile"], options["keyfile"], options.get("keyfile_password")
            )
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(options[n] for n in ("ca_certs", "certfile", "keyfile") if n in options)
        raise SettingsError(
            f"the connection {CONNECTION!r}: its {TLS} name {names}, which cannot be used: {error}"
        ) from None
    return context


def refusal(error: Exception) -> str:
    """Return what a node says that refuses an account or a certificate; empty for other errors."""
    reasons = error.errors.values() if isinstance(error, NoHostAvailable) else [error]
    if not isinstance(getattr(error, "errors", {}), Mapping):
        return ""
    for reason in reasons:
        # The driver tells of a failed handshake as of any connection that failed.
        if isinstance(reason, AuthenticationFailed | ssl.SSLError) or "SSL" in str(reason):
            return str(reason)
    return ""
