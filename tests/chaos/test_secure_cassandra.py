"""Accounts and TLS of Cassandra: here, for they take a node more."""

from __future__ import annotations

from pathlib import Path

import pytest
from secure import SecureCassandra, make_certificate

from streamkeeper.errors import CassandraUnavailable
from streamkeeper.settings import Settings
from streamkeeper_apps.local.java import find_java
from streamkeeper_apps.local.places import Places
from streamkeeper_io.cassandra import session

CHECKOUT = Path(__file__).parents[2]


def test_cassandra_with_an_account_over_tls(tmp_path: Path) -> None:
    places = Places.at(tmp_path, CHECKOUT / ".local" / "jars")
    server = SecureCassandra(places, find_java(tmp_path / "java"))
    right = server.options(server.password, server.ca)
    wrong_word = server.options("marked-word", server.ca)
    try:
        server.start()
        server.wait_ready()
        settings = Settings(cassandra=server.address, cassandra_options=right)
        with session(settings) as opened:
            (row,) = opened.execute("select role from system_auth.roles")
            assert row.role == "cassandra"
        wrong_ca = server.options(server.password, make_certificate(server, "other"))
        for options, told in ((wrong_word, "incorrect"), (wrong_ca, "CERTIFICATE_VERIFY_FAILED")):
            with (
                pytest.raises(
                    CassandraUnavailable,
                    match=f"refuses the connection cassandra_default: .*{told}",
                ) as raised,
                session(server.address, options),
            ):
                pass
            assert "marked-word" not in str(raised.value)
        # Without an account, or in plain text, it lets nobody in.
        for options in ({}, {"ssl_options": right["ssl_options"]}):
            with pytest.raises(CassandraUnavailable), session(server.address, options):
                pass
    finally:
        server.stop()
