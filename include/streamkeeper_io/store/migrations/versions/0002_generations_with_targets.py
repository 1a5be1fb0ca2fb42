"""Generations with targets, requests for new ones, offsets accepted as lost"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "generations",
        sa.Column(
            "target",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        schema="streamkeeper",
    )
    op.add_column(
        "generations",
        sa.Column("request", sa.Integer(), server_default=sa.text("0"), nullable=False),
        schema="streamkeeper",
    )
    op.create_table(
        "requests",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column(
            "start",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column(
            "asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("stream", "number"),
        schema="streamkeeper",
    )
    op.create_table(
        "lost",
        sa.Column("number", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("span", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "accepted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("number"),
        schema="streamkeeper",
    )
    op.create_index("lost_by_stream", "lost", ["stream"], unique=False, schema="streamkeeper")
