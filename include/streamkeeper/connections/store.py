"""PostgreSQL: options by libpq's names, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamkeeper.connections.options import Option, need_together, read_options
from streamkeeper.errors import SettingsError

CONNECTION = "streamkeeper_db"
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

STORE_OPTIONS: dict[str, Option] = {
    "host": Option("folder of the server's Unix socket, when the connection has no host"),
    "sslmode": Option("whether to speak TLS, and what to check", _MODES),
    "sslrootcert": Option("file of the authorities' certificates, PEM, or `system`"),
    "sslcert": Option("file of the client's certificate, PEM"),
    "sslkey": Option("file of the client's key, PEM"),
    "sslpassword": Option("the password of the client's key"),
    "sslcrl": Option("file of the certificates that are revoked"),
    "channel_binding": Option("", ("disable", "prefer", "require")),
    "gssencmode": Option("Kerberos encryption", ("disable", "prefer", "require")),
    "krbsrvname": Option("Kerberos: the server's service"),
    "target_session_attrs": Option("which of several servers", ("any", "read-write", "primary")),
    "application_name": Option("the name that the server shows"),
}


def store_options(given: Mapping[str, Any], connection: str = CONNECTION) -> dict[str, str]:
    """Return the checked options of a connection, by libpq's names, its socket's folder left out.

    Raises SettingsError for unknown options, and for options that contradict one another.
    """
    found = read_options(connection, given, STORE_OPTIONS)
    found.pop("host", None)
    need_together(connection, found, "sslcert", "sslkey")
    mode = found.get("sslmode", "prefer")
    unused = [n for n in found if n.startswith("ssl") and n != "sslmode"]
    if unused and mode in ("disable", "allow"):
        raise SettingsError(
            f"the connection {connection!r} has {', '.join(unused)}, but sslmode is {mode}; write "
            "sslmode verify-full, or take them away"
        )
    if mode.startswith("verify-") and "sslrootcert" not in found:
        raise SettingsError(
            f"the connection {connection!r} has sslmode {mode} but no sslrootcert to check "
            "against; name the file of the authority's certificate, or write `system`"
        )
    return found
