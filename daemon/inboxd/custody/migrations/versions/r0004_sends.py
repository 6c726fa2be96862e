"""Results that destinations are to have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table, and find what is open without reading what was sent long ago."""
    op.create_table(
        "sends",
        sa.Column("file_id", sa.String(32), primary_key=True),
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("name", sa.LargeBinary, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("inbox", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("open", sa.SmallInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_index("sends_id", "sends", ["id"], unique=True)
    unended = sa.text("open = 1")
    columns = ["destination", "state", "not_before", "id"]
    op.create_index("sends_open", "sends", columns, sqlite_where=unended, postgresql_where=unended)
