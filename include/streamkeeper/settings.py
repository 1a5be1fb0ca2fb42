"""Where the servers are: read from the environment, the same way by every process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, field_validator

from streamkeeper.connections import cassandra_options, kafka_options, postgres_urls
from streamkeeper.connections.lake import hadoop_options
from streamkeeper.errors import SettingsError
from streamkeeper.redaction import is_secret, redact

_PREFIX = "STREAMKEEPER_"


class Settings(BaseModel):
    """Addresses and folders.

    streams: folder of the declarations; files: folder below which watched folders of a relative
    path lie; state: folder for launches, logs and exit codes on this
    host; store: SQLAlchemy URL of PostgreSQL; kafka: bootstrap servers `host:port,...`; lake: HDFS
    address `hdfs://host:port`; cassandra: contact points `host:port,...`; postgres: URLs of the
    databases of sinks, by connection; jars: folder of the locked jars; spark_master: Spark's
    master URL.

    kafka_options (librdkafka's names), cassandra_options, lake_options (Hadoop's names): how these
    servers are reached, with users and passwords, as in their connections (docs/connections.md);
    spark_secrets: properties of Spark that are not to be seen in a command line; statsd: where
    metrics go, as Airflow has it (`streamkeeper.statsd`), empty: nowhere. A child process gets all
    of it by its environment, which only its owner can read; `repr` hides the secrets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    streams: Path = Path("include/streams")
    files: Path = Path()
    state: Path = Path(".local/state")
    store: str = ""
    kafka: str = ""
    lake: str = ""
    cassandra: str = ""
    postgres: dict[str, str] = {}
    jars: Path = Path(".local/jars")
    spark_master: str = "local[*]"
    kafka_options: dict[str, str] = {}
    cassandra_options: dict[str, Any] = {}
    lake_options: dict[str, str] = {}
    spark_secrets: dict[str, str] = {}
    statsd: dict[str, str] = {}

    @field_validator("kafka_options", mode="before")
    @classmethod
    def _kafka(cls, given: Mapping[str, Any]) -> dict[str, str]:
        return kafka_options(given)

    @field_validator("cassandra_options", mode="before")
    @classmethod
    def _cassandra(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return cassandra_options(given)

    @field_validator("postgres", mode="before")
    @classmethod
    def _postgres(cls, given: Mapping[str, Any]) -> dict[str, str]:
        return postgres_urls(given)

    @field_validator("lake_options", mode="before")
    @classmethod
    def _lake(cls, given: Mapping[str, Any]) -> dict[str, str]:
        return hadoop_options(given)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read `STREAMKEEPER_STREAMS`, `STREAMKEEPER_STORE`, ...; what is absent is default.

        Options are JSON objects. Raises SettingsError for options that are malformed or unknown.
        """
        found: dict[str, Any] = {}
        for name in cls.model_fields:
            if text := environ.get(_PREFIX + name.upper()):
                found[name] = _options(name, text) if name in _OPTIONS else text
        return cls.model_validate(found)

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process these settings."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            _PREFIX + name.upper(): json.dumps(value) if name in _OPTIONS else str(value)
            for name, value in values.items()
        }

    def secrets(self) -> tuple[str, ...]:
        """Return every value in here that nobody may read in a log, a page or a command line."""
        return tuple(dict.fromkeys(filter(None, self._secrets())))

    def _secrets(self) -> Iterator[str]:
        for url in map(urlsplit, (self.store, *self.postgres.values())):
            if url.password:
                yield unquote(url.password)
            yield from (value for name, value in parse_qsl(url.query) if is_secret(name))
        for name in _OPTIONS:
            yield from _secret_values(getattr(self, name))

    def redact(self, text: str) -> str:
        """Return a text without these settings' secrets."""
        return redact(text, self.secrets())

    def __repr__(self) -> str:
        return self.redact(super().__repr__())

    __str__ = __repr__

    def need(self, name: str) -> str:
        """Return a setting that must not be empty; SettingsError names the variable to set."""
        value = str(getattr(self, name))
        if not value:
            raise SettingsError(
                f"the setting {name!r} is empty; set {_PREFIX}{name.upper()}, "
                "or start the local servers with `make up`"
            )
        return value

    def postgres_url(self, connection: str) -> str:
        """Return the address of a sink's database; SettingsError names what to set."""
        if connection not in self.postgres:
            raise SettingsError(
                f"no database is set for the connection {connection!r}; set "
                f'{_PREFIX}POSTGRES to {{"{connection}": "postgresql://..."}}, or start the local '
                "servers with `make up`"
            )
        return self.postgres[connection]


_OPTIONS = (
    *("postgres", "kafka_options", "cassandra_options", "lake_options", "spark_secrets"),
    "statsd",
)


def _options(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # The text may hold a password, so it is not shown.
        raise SettingsError(
            f"{_PREFIX}{name.upper()} is no JSON object; write it as "
            '{"security.protocol": "SASL_SSL"}, with the names in docs/connections.md'
        )
    return found


def _secret_values(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secret_values(value)
        elif is_secret(name):
            yield str(value)
