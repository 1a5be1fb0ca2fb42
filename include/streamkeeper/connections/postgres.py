"""PostgreSQL as a sink: options by libpq's names, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from streamkeeper.connections.store import store_options
from streamkeeper.errors import SettingsError

CONNECTION = "postgres_default"
"""The connection of sinks that name none."""
_SCHEMES = ("postgresql", "postgresql+psycopg")


def postgres_options(given: Mapping[str, Any], connection: str = CONNECTION) -> dict[str, str]:
    """Return the checked options of a connection; they are those of the store's.

    Raises SettingsError for unknown options, and for options that contradict one another.
    """
    return store_options(given, connection)


def postgres_urls(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the addresses of databases by connection, checked.

    Raises SettingsError, which shows no address, for one may hold a password.
    """
    for connection, url in given.items():
        if not isinstance(url, str) or urlsplit(url).scheme not in _SCHEMES:
            raise SettingsError(
                f"the address of the connection {connection!r} is none of PostgreSQL's; write it "
                "as postgresql://user:password@host:5432/database"
            )
        if not _can_be_split(url):
            raise SettingsError(
                f"the address of the connection {connection!r} has a password or port that cannot "
                "be told from the rest; write / ? # @ : in a password as %2F %3F %23 %40 %3A"
            )
    return dict(given)


def _can_be_split(url: str) -> bool:
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError:
        return False
    return "@" not in parts.path + parts.query + parts.fragment and not parts.fragment
