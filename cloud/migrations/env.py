"""Runs migrations on the connection that cloud.database.migrate hands over."""

from alembic import context
from sqlmodel import SQLModel

import cloud.tables  # noqa: F401 - fills SQLModel.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
)
with context.begin_transaction():
    context.run_migrations()
