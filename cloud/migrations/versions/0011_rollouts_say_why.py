"""Rollouts keep what is in their way; their devices, when they were let in and may download."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    troubles = sa.Column("troubles", sa.JSON(), nullable=False, server_default="{}")
    op.add_column("rollout", troubles)
    for name in ("admitted_at", "not_before", "not_after"):
        op.add_column("rollout_device", sa.Column(name, sa.Float(), nullable=True))
