"""Services: versions that are served in the cloud."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RUN_FIXED = (
    "id", "service", "place", "revision", "model", "version", "bundle", "weight", "actor",
    "from_at",
)  # fmt: skip
"""Columns of a run that never change."""


def upgrade() -> None:
    _services()
    _revisions()
    _keys()
    _runs()
    _append_only()


def _services() -> None:
    op.create_table(
        "service",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("context", sa.String(), nullable=True),
        sa.Column("namespace", sa.String(), nullable=True),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("bind", sa.String(), nullable=False),
        sa.Column("route", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("gateway", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("generation", ROW_ID, nullable=False),
        sa.Column("condition", sa.String(), nullable=False),
        sa.Column("first_number", sa.Integer(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.Column("removed_at", sa.Float(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_service")),
    )
    op.create_index(op.f("ix_service_deleted_at"), "service", ["deleted_at"])


def _revisions() -> None:
    op.create_table(
        "service_revision",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(), nullable=True),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("resources", sa.JSON(), nullable=False),
        sa.Column("scale", sa.JSON(), nullable=False),
        sa.Column("env", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=True),
        sa.Column("secret_names", sa.JSON(), nullable=False),
        sa.Column("node_selector", sa.JSON(), nullable=False),
        sa.Column("base_image", sa.String(), nullable=True),
        sa.Column("image", sa.String(), nullable=True),
        sa.Column("image_digest", sa.String(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("failed_reason", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service"], ["service.name"], name=op.f("fk_service_revision_service")
        ),
        sa.PrimaryKeyConstraint("service", "number", name=op.f("pk_service_revision")),
    )
    op.create_index(
        op.f("ix_service_revision_model_version"), "service_revision", ["model", "version"]
    )


def _keys() -> None:
    op.create_table(
        "service_key",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("per_s", sa.Float(), nullable=True),
        sa.Column("burst", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["service"], ["service.name"], name=op.f("fk_service_key_service")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_key")),
        sa.UniqueConstraint("sha256", name=op.f("uq_service_key_sha256")),
    )
    good = sa.text("revoked_at IS NULL")
    op.create_index(
        "ix_service_key_good",
        "service_key",
        ["service", "name"],
        unique=True,
        sqlite_where=good,
        postgresql_where=good,
    )


def _runs() -> None:
    op.create_table(
        "service_run",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("from_at", sa.Float(), nullable=False),
        sa.Column("until_at", sa.Float(), nullable=True),
        sa.Column("ended_reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_run")),
    )
    is_open = sa.text("until_at IS NULL")
    op.create_index(
        "ix_service_run_open",
        "service_run",
        ["service", "revision"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index("ix_service_run_service", "service_run", ["service", "from_at"])
    op.create_index("ix_service_run_model", "service_run", ["model", "version", "from_at"])


def _append_only() -> None:
    """Have the database itself refuse to rewrite history, as in 0003."""
    if op.get_bind().dialect.name == "postgresql":
        changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in RUN_FIXED)
        guards = {
            "service_run_delete": "DELETE ON service_run FOR EACH ROW",
            "service_run_update": (
                f"UPDATE ON service_run FOR EACH ROW WHEN (OLD.until_at IS NOT NULL OR {changed})"
            ),
        }
        action = "EXECUTE FUNCTION refuse_to_rewrite_history()"
    else:
        changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in RUN_FIXED)
        guards = {
            "service_run_delete": "DELETE ON service_run",
            "service_run_update": (
                f"UPDATE ON service_run WHEN OLD.until_at IS NOT NULL OR {changed}"
            ),
        }
        action = "BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END"
    for name, when in guards.items():
        op.execute(f"CREATE TRIGGER {name} BEFORE {when} {action}")
