"""Deployments may carry a candidate, which devices measure beside the version."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployment", sa.Column("candidate", sa.JSON(), nullable=True))
