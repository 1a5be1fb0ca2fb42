"""Connections of a Python process of Spark: one a cluster, shared by all that it reads and writes.

Spark keeps such processes and gives them one task after the other.
"""

from __future__ import annotations

import functools
import json

from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, Session

from streamkeeper_io.cassandra import connect
from streamkeeper_spark.datasources.cassandra.options import Options
from streamkeeper_spark.datasources.cassandra.pages import RawPages, raw_page


def shared_session(options: Options) -> Session:
    """Return the process's session to a cluster; CassandraUnavailable."""
    return _session(options.contact_points, options.connection)


@functools.lru_cache(maxsize=4)
def _session(contact_points: str, connection: str) -> Session:
    return connect(contact_points, json.loads(connection))


@functools.lru_cache(maxsize=4)
def page_session(shared: Session) -> tuple[Session, ExecutionProfile]:
    """Return a session beside a shared one that gives pages as they came, and its profile."""
    session = shared.cluster.connect()
    session.client_protocol_handler = RawPages
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_page)
    return session, profile
