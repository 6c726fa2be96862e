"""The ledger's tables. Their history is in migrations/; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
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

Index(
    "files_open",
    files.c.state,
    files.c.inbox,
    files.c.id,
    sqlite_where=text("open = 1"),
    postgresql_where=text("open = 1"),
)
Index(
    "files_content", files.c.inbox, files.c.sha256,
    sqlite_where=text("sha256 IS NOT NULL"), postgresql_where=text("sha256 IS NOT NULL"),
)  # fmt: skip
Index(
    "files_waiting", files.c.inbox, files.c.not_before, files.c.id,
    sqlite_where=text("state = 'WAITING'"), postgresql_where=text("state = 'WAITING'"),
)  # fmt: skip
Index(
    "files_unprocessed", files.c.outcome, files.c.id,
    sqlite_where=text("outcome <> 'processed'"), postgresql_where=text("outcome <> 'processed'"),
)  # fmt: skip

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

Index("items_file", items.c.id, unique=True)
Index(
    "items_open", items.c.source, items.c.state, items.c.not_before, items.c.id,
    sqlite_where=text("state <> 'ACKED'"), postgresql_where=text("state <> 'ACKED'"),
)  # fmt: skip

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

Index("sends_id", sends.c.id, unique=True)
Index(
    "sends_open", sends.c.destination, sends.c.state, sends.c.not_before, sends.c.id,
    sqlite_where=text("open = 1"), postgresql_where=text("open = 1"),
)  # fmt: skip

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
