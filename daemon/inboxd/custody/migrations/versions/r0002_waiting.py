"""Find what is due, and what went wrong, without reading the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Index WAITING rows by their time, and every outcome but `processed` by id; the latter replaces files_errors."""
    op.drop_index("files_errors", "files")
    _index("files_waiting", ["inbox", "not_before", "id"], "state = 'WAITING'")
    _index("files_unprocessed", ["outcome", "id"], "outcome <> 'processed'")


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "files", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
