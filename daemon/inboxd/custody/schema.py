"""The ledger's tables. Their history is in migrations/; a test holds the two together."""

from __future__ import annotations

import uuid

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

#: The newest revision in migrations/versions.
REVISION = "0004"

metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("inbox", Text, nullable=False),
    Column("folder", LargeBinary, nullable=False),  # bytes as the file system has them
    Column("name", LargeBinary, nullable=False),
    Column("dev", BigInteger, nullable=False),
    Column("ino", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("open", SmallInteger, nullable=False, server_default=text("1")),  # 0 in a final state
    Column("batch", String(32)),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("not_before", Double, nullable=False, server_default=text("0")),
    Column("claimed_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("outcome", String(12)),
    Column("reason", Text),
    Column("message", Text),
    Column("destination", LargeBinary),
    Column("result", Text),  # JSON
    Column("sha256", String(64)),
    Column("source", Text),
    Column("companions", Text),  # JSON
    # An id is made in the order of time, so rows of one time lie together.
    sqlite_with_rowid=False,
)

failures = Table(
    "failures",
    metadata,
    Column("file_id", String(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("seconds", Double, nullable=False),
    Column("ending", String(16), nullable=False),
    Column("error_class", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("charged", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: Items of remote sources; `id` is that of the file which an item becomes.
items = Table(
    "items",
    metadata,
    Column("source", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("inbox", Text, nullable=False),
    Column("id", String(32), nullable=False),
    Column("state", String(12), nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("size", BigInteger),
    Column("digest", Text, nullable=False),
    Column("ack", String(12), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("message", Text),
    Column("discovered_at", Double, nullable=False),
    Column("fetched_at", Double),
    Column("acked_at", Double),
    sqlite_with_rowid=False,
)

#: Results that destinations are to have; `file_id` is the file whose handler left it.
sends = Table(
    "sends",
    metadata,
    Column("file_id", String(32), primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("name", LargeBinary, primary_key=True),  # bytes as the file system has them
    Column("id", String(32), nullable=False),
    Column("inbox", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("open", SmallInteger, nullable=False),  # 0 in a final state
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("message", Text),
    Column("due_at", Double, nullable=False),
    Column("ended_at", Double),
    sqlite_with_rowid=False,
)

#: Counts per inbox and outcome, so that status does not read ten million rows.
totals = Table(
    "totals",
    metadata,
    Column("inbox", Text, primary_key=True),
    Column("outcome", String(12), primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

#: As both kinds of database understand them. SQLAlchemy's own word for a partial one names PostgreSQL, and loads its
#: drivers' modules at each start: 2 MiB.
INDEXES = (
    "CREATE INDEX files_open ON files (state, inbox, id) WHERE open = 1",
    "CREATE INDEX files_content ON files (inbox, sha256) WHERE sha256 IS NOT NULL",
    "CREATE INDEX files_waiting ON files (inbox, not_before, id) WHERE state = 'WAITING'",
    "CREATE INDEX files_unprocessed ON files (outcome, id) WHERE outcome <> 'processed'",
    "CREATE UNIQUE INDEX items_file ON items (id)",
    "CREATE INDEX items_open ON items (source, state, not_before, id) WHERE state <> 'ACKED'",
    "CREATE UNIQUE INDEX sends_id ON sends (id)",
    "CREATE INDEX sends_open ON sends (destination, state, not_before, id) WHERE open = 1",
)


def make_tables(connection: Connection) -> None:
    """A ledger that is new, in the caller's transaction; the migrations would come to the same."""
    metadata.create_all(connection, checkfirst=False)
    for index in INDEXES:
        connection.exec_driver_sql(index)
    connection.execute(meta.insert().values(key="identity", value=uuid.uuid4().hex))
    connection.exec_driver_sql(_REVISIONS)
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{REVISION}')")


#: Alembic's own table, where an older inboxd may have made no more than that.
_REVISIONS = """CREATE TABLE IF NOT EXISTS alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)"""
