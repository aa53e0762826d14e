"""Generations of 64 bits: after a restore they go on far above what devices may have seen."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = (
    ("desired", "generation"),
    ("desired", "published_generation"),
    ("device", "reported_generation"),
)


def upgrade() -> None:
    # SQLite's INTEGER has 64 bits.
    if op.get_bind().dialect.name == "postgresql":
        for table, column in COLUMNS:
            op.alter_column(
                table, column, type_=sa.BigInteger(), existing_type=sa.Integer(), nullable=False
            )
