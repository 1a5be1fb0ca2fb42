"""The store's tables, in PostgreSQL's schema `streamkeeper`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "streamkeeper"
metadata = MetaData(schema=SCHEMA)
INSTANT = DateTime(timezone=True)
EMPTY = text("'{}'::jsonb")

epochs = Sequence("epochs", metadata=metadata, start=1)

launches = Table(
    "launches",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False, server_default=""),
    Column("folder", Text, nullable=False, server_default=""),
    Column("process", JSONB),
    Column("began_at", INSTANT, nullable=False, server_default=func.now()),
    Column("heartbeat_at", INSTANT),
    Column("progress", JSONB, nullable=False, server_default=EMPTY),
    Column("stop_requested_at", INSTANT),
    Column("stop_requested_by", Text, nullable=False, server_default=""),
    Column("ended_at", INSTANT),
    Column("exit_code", Integer),
    Column("reason", Text, nullable=False, server_default=""),
    Index("launches_by_name", "kind", "name", "epoch"),
)

locks = Table(
    "locks",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("epoch", BigInteger, ForeignKey(launches.c.epoch), nullable=False),
    PrimaryKeyConstraint("kind", "name"),
)

desired = Table(
    "desired",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("since", INSTANT, nullable=False, server_default=func.now()),
)

generations = Table(
    "generations",
    metadata,
    Column("generation", Text, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("start", JSONB, nullable=False),
    Column("target", JSONB, nullable=False, server_default=EMPTY),
    Column("request", Integer, nullable=False, server_default=text("0")),
    Column("epoch", BigInteger, nullable=False),
    Column("began_at", INSTANT, nullable=False, server_default=func.now()),
    Index("generations_by_query", "stream", "query", "epoch"),
)

# New generations that a person asked for; the driver makes them at its next start.
requests = Table(
    "requests",
    metadata,
    Column("stream", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("start", JSONB, nullable=False, server_default=EMPTY),
    Column("by", Text, nullable=False),
    Column("asked_at", INSTANT, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("stream", "number"),
)

# Offsets that a person accepted as unreadable.
lost = Table(
    "lost",
    metadata,
    Column("number", Integer, Identity(), primary_key=True),
    Column("stream", Text, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("span", JSONB, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("accepted_at", INSTANT, nullable=False, server_default=func.now()),
    Index("lost_by_stream", "stream"),
)

# An index of the manifests in the lake, which remain the truth; it can be made again from them.
batches = Table(
    "batches",
    metadata,
    Column("stream", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("batch", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("manifest", JSONB, nullable=False),
    PrimaryKeyConstraint("stream", "zone", "generation", "batch"),
)

batch_hours = Table(
    "batch_hours",
    metadata,
    Column("stream", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("hour", INSTANT, nullable=False),
    Column("generation", Text, nullable=False),
    Column("batch", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    PrimaryKeyConstraint("stream", "zone", "hour", "generation", "batch"),
)

looks = Table(
    "looks",
    metadata,
    Column("stream", Text, nullable=False),
    Column("hour", INSTANT, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("taken_at", INSTANT, nullable=False),
    Column("end_offsets", JSONB, nullable=False),
    PrimaryKeyConstraint("stream", "hour"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("stream", Text, nullable=False),
    Column("hour", INSTANT, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("write_number", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("merged", JSONB, nullable=False),
    Column("files", JSONB, nullable=False),
    Column("staging", Text, nullable=False, server_default=""),
    Column("counts", JSONB, nullable=False, server_default=EMPTY),
    Column("missing", JSONB, nullable=False, server_default=EMPTY),
    Column("stores_pending", Boolean, nullable=False, server_default=text("true")),
    Column("committed_at", INSTANT, nullable=False),
    PrimaryKeyConstraint("stream", "hour", "revision"),
)

marks = Table(
    "marks",
    metadata,
    Column("stream", Text, nullable=False),
    Column("sink", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("batch", BigInteger, nullable=False),
    Column("moved_at", INSTANT, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("stream", "sink", "generation"),
)

mails = Table(
    "mails",
    metadata,
    Column("stream", Text, nullable=False),
    Column("hour", INSTANT, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("mailed_at", INSTANT, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("stream", "hour", "revision"),
)

# What producers sent, by launch and event hour; no hour: the event time cannot be told.
produced = Table(
    "produced",
    metadata,
    Column("epoch", BigInteger, nullable=False),
    Column("stream", Text, nullable=False),
    Column("hour", INSTANT),
    Column("sent", BigInteger, nullable=False),
    Column("acked", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("faults", JSONB, nullable=False, server_default=EMPTY),
    Column("told_at", INSTANT, nullable=False, server_default=func.now()),
    Index(
        "produced_by_launch",
        *("stream", "epoch", "hour"),
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
)
