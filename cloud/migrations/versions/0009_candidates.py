"""Deployments may carry a candidate, which devices measure beside the version."""

import sqlalchemy as sa
from alembic import op

<<<<<<< HEAD:cloud/migrations/versions/0010_candidates.py
revision = "0010"
down_revision = "0009"
=======
revision = "0009"
down_revision = "0008"
>>>>>>> 9d6894621269f72f7f9c2fc6f8173dc957008d2e:cloud/migrations/versions/0009_candidates.py
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployment", sa.Column("candidate", sa.JSON(), nullable=True))
