"""Alembic's entry: run the migrations on the connection that the ledger hands over."""

from alembic import context

from inboxd.custody.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
context.run_migrations()
