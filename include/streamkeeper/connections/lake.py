"""HDFS: address and Hadoop options of a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamkeeper.connections.options import Option, read_options
from streamkeeper.errors import SettingsError

CONNECTION = "webhdfs_default"
HADOOP, RPC_PORT = "hadoop", "rpc_port"
_RPC_PORT = 8020
LAKE_OPTIONS: dict[str, Option] = {
    RPC_PORT: Option("the NameNode's port for clients; default 8020"),
    HADOOP: Option("Hadoop's own options, as in core-site.xml and hdfs-site.xml"),
}
_PREFIXES = ("dfs.", "hadoop.", "ipc.", "fs.", "io.", "net.")
# What the WebHDFS hook needs in the same connection.
_HOOKS_OWN = frozenset({"use_ssl", "verify", "cert", "key", "cookies", "headers"})


def lake_options(given: Mapping[str, Any], connection: str = CONNECTION) -> dict[str, str]:
    """Return Hadoop's options of a connection's extra.

    Raises SettingsError for unknown options, and for an option that is none of Hadoop's.
    """
    flat = {name: value for name, value in given.items() if name != HADOOP}
    read_options(connection, flat, LAKE_OPTIONS, ignored=_HOOKS_OWN)
    options = given.get(HADOOP, {})
    if not isinstance(options, Mapping):
        raise SettingsError(
            f"the connection {connection!r}: {HADOOP} is {type(options).__name__}, not a mapping; "
            'write {"hadoop": {"hadoop.security.authentication": "kerberos"}}'
        )
    return hadoop_options(options, connection)


def hadoop_options(options: Mapping[str, Any], connection: str = CONNECTION) -> dict[str, str]:
    """Return Hadoop's options as texts; SettingsError for a name that none of them begins with."""
    found = {}
    for name, value in options.items():
        if not name.startswith(_PREFIXES):
            raise SettingsError(
                f"the connection {connection!r}: {name!r} is no option of Hadoop's; they begin "
                f"with {', '.join(_PREFIXES)}"
            )
        found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def lake_address(host: str, given: Mapping[str, Any], connection: str = CONNECTION) -> str:
    """Return `hdfs://...`: with a port for a NameNode, without one for a name service."""
    name = host.rpartition("://")[2]
    services = str((given.get(HADOOP) or {}).get("dfs.nameservices", "")).split(",")
    if name in (service.strip() for service in services):
        return f"hdfs://{name}"
    port = str(given.get(RPC_PORT, _RPC_PORT))
    if not port.isdigit():
        raise SettingsError(
            f"the connection {connection!r}: {RPC_PORT} is {port!r}; write a number, such as 8020"
        )
    return f"hdfs://{name}:{port}"
