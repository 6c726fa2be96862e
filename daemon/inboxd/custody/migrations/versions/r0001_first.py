"""The first schema."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the four tables; give the ledger an identity."""
    op.create_table(
        "files",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("inbox", sa.Text, nullable=False),
        sa.Column("folder", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("dev", sa.BigInteger, nullable=False),
        sa.Column("ino", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("open", sa.SmallInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("batch", sa.String(32)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("not_before", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.Column("claimed_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("outcome", sa.String(12)),
        sa.Column("reason", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("destination", sa.LargeBinary),
        sa.Column("result", sa.Text),
        sa.Column("sha256", sa.String(64)),
        sa.Column("source", sa.Text),
        sa.Column("companions", sa.Text),
        sqlite_with_rowid=False,
    )
    _index("files_open", ["state", "inbox", "id"], "open = 1")
    _index("files_content", ["inbox", "sha256"], "sha256 IS NOT NULL")
    _index("files_errors", ["inbox", "id"], "outcome = 'error'")
    op.create_table(
        "failures",
        sa.Column("file_id", sa.String(32), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, primary_key=True),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("ending", sa.String(16), nullable=False),
        sa.Column("error_class", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("charged", sa.SmallInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "totals",
        sa.Column("inbox", sa.Text, primary_key=True),
        sa.Column("outcome", sa.String(12), primary_key=True),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    meta = op.create_table(
        "meta",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.bulk_insert(meta, [{"key": "identity", "value": uuid.uuid4().hex}])


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "files", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
