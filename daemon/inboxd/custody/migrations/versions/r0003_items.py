"""Items of remote sources."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table, and find what is due without reading what the sources know already."""
    op.create_table(
        "items",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("inbox", sa.Text, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("ack", sa.String(12), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("discovered_at", sa.Double, nullable=False),
        sa.Column("fetched_at", sa.Double),
        sa.Column("acked_at", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_index("items_file", "items", ["id"], unique=True)
    unknown = sa.text("state <> 'ACKED'")
    columns = ["source", "state", "not_before", "id"]
    op.create_index("items_open", "items", columns, sqlite_where=unknown, postgresql_where=unknown)
