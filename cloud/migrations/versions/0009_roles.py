"""Roles of API keys. Those that are there may do everything, as before."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0009"
# The rollouts' own comes with them; until both are in one tree, this follows 0007.
down_revision = "0008" if any(Path(__file__).parent.glob("0008_*.py")) else "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("role", sa.String(), nullable=False, server_default="admin"))
