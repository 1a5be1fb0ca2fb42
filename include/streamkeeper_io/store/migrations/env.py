"""Alembic's environment: migrations run on the connection that the store hands over."""

from alembic import context

from streamkeeper_io.store.tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
