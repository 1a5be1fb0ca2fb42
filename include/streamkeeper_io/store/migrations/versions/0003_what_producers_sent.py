"""What producers sent, by launch and event hour"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "produced",
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column(
            "faults",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "told_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        schema="streamkeeper",
    )
    op.create_index(
        "produced_by_launch",
        "produced",
        ["stream", "epoch", "hour"],
        unique=True,
        schema="streamkeeper",
        postgresql_nulls_not_distinct=True,
    )
