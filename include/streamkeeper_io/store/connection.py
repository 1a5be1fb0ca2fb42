"""The connection to PostgreSQL that all parts of the store share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import InterfaceError, OperationalError

from streamkeeper.connections.store import CONNECTION
from streamkeeper.errors import StoreUnavailable

# Bounded waits: a store that hangs must look like a store that is away.
_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "options": "-c statement_timeout=30000 -c lock_timeout=10000"
    " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
    # A user named like the schema would make it the default one, which hides it from migrations.
    " -c search_path=public",
}


class StoreConnection:
    """A lazy engine; every failure to reach the server is StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._engine: Engine | None = None

    def __repr__(self) -> str:
        return f"Store({_shown(self._url)!r})"

    @property
    def engine(self) -> Engine:
        """The engine, made at the first use."""
        if self._engine is None:
            self._engine = create_engine(
                self._url, pool_size=2, max_overflow=3, pool_pre_ping=True, connect_args=_CONNECT
            )
        return self._engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection within one transaction.

        Raises StoreUnavailable when the server does not answer in time.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise _unavailable(self._url, error) from error

    def rows(self, statement: Any, parameters: Any = None) -> list[Any]:
        """Run one statement in its own transaction and return its rows."""
        with self.transaction() as connection:
            return list(connection.execute(statement, parameters or {}))

    def run(self, statement: Any, parameters: Any = None) -> None:
        """Run one statement in its own transaction."""
        with self.transaction() as connection:
            connection.execute(statement, parameters or {})

    def close(self) -> None:
        """Close the pooled connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _shown(url: URL) -> str:
    """Return an address without its password, and without options, of which one may be another."""
    socket = {name: value for name, value in url.query.items() if name == "host"}
    return url.set(query=socket).render_as_string(hide_password=True)


# libpq tells of a refused account or certificate by its text only.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist"
    r"|certificate|SSL error|server does not support SSL",
    re.IGNORECASE,
)


def _unavailable(url: URL, error: OperationalError | InterfaceError) -> StoreUnavailable:
    reason = str(error.orig).strip()
    if _REFUSED.search(reason):
        return StoreUnavailable(
            f"the store at {_shown(url)} refuses the connection {CONNECTION}: {reason}; correct "
            "its login, password or ssl options (STREAMKEEPER_STORE)"
        )
    return StoreUnavailable(
        f"the store at {_shown(url)} does not answer: {reason}; start PostgreSQL or correct the "
        f"connection {CONNECTION} (STREAMKEEPER_STORE)"
    )
