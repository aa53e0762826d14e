"""Roles of API keys. Those that are there may do everything, as before."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("role", sa.String(), nullable=False, server_default="admin"))
