"""The store: Streamkeeper's own state in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from streamkeeper_io.store.generation_records import GenerationRecords
from streamkeeper_io.store.hour_records import HourRecords
from streamkeeper_io.store.launch_records import LaunchRecords
from streamkeeper_io.store.producer_records import ProducerRecords
from streamkeeper_io.store.tables import SCHEMA

__all__ = ["Store"]


class Store(LaunchRecords, GenerationRecords, HourRecords, ProducerRecords):
    """Launches, locks, desired state, generations, requests, batches, looks, revisions, mails.

    Parameters: url, SQLAlchemy's URL of a PostgreSQL database (`postgresql+psycopg://...`); it is
    reached at the first call. Every method raises StoreUnavailable when it does not answer.
    """

    def migrate(self) -> None:
        """Create the schema `streamkeeper` or bring it to the newest version."""
        # Alembic takes half a second to import; whoever does not migrate need not wait for it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.transaction() as connection:
            connection.execute(text(f"create schema if not exists {SCHEMA}"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
