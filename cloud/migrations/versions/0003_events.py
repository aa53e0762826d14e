"""Webhooks, idempotency keys, and what the history needs."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PLAUSIBLE_SINCE, PLAUSIBLE_UNTIL = 1_767_225_600.0, 2_524_608_000.0

RUN_FIXED = (
    "id", "device", "module", "model", "version", "bundle", "deployment", "actor", "from_at",
    "from_estimated",
)  # fmt: skip
"""Columns of a run that never change."""


def upgrade() -> None:
    op.create_index("ix_event_subject_kind", "event", ["subject", "kind", "id"])
    for table in ("device", "deployment"):
        op.add_column(
            table, sa.Column("revision", sa.Integer(), server_default="0", nullable=False)
        )
    _runs()
    _fill_runs()
    _idempotency_keys()
    _webhooks()
    _append_only()


def _runs() -> None:
    op.create_table(
        "run",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=True),
        sa.Column("from_at", sa.Float(), nullable=False),
        sa.Column("from_estimated", sa.Boolean(), nullable=False),
        sa.Column("until_at", sa.Float(), nullable=True),
        sa.Column("until_estimated", sa.Boolean(), nullable=False),
        sa.Column("ended_reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    is_open = sa.text("until_at IS NULL")
    op.create_index(
        "ix_run_open",
        "run",
        ["device", "module"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index("ix_run_device", "run", ["device", "from_at"])
    op.create_index("ix_run_model", "run", ["model", "version", "from_at"])
    op.create_index("ix_run_deployment", "run", ["deployment"])


def _fill_runs() -> None:
    """Begin the history with what devices run now, as they last reported."""
    connection = op.get_bind()
    actors = {row.id: row.created_by for row in connection.execute(
        sa.text("SELECT id, created_by FROM deployment")
    )}  # fmt: skip
    found = connection.execute(
        sa.text(
            "SELECT id, reported, reported_at, created_at FROM device "
            "WHERE reported IS NOT NULL AND revoked_at IS NULL"
        )
    ).all()
    run = sa.table("run", *(sa.column(name) for name in (
        *RUN_FIXED[1:], "until_estimated", "ended_reason",
    )))  # fmt: skip
    for device in found:
        reported = device.reported
        if isinstance(reported, str):
            reported = json.loads(reported)
        for module in (reported or {}).get("modules", ()):
            running = module.get("running")
            if not running:
                continue
            since = module.get("since", 0.0)
            heard = device.reported_at or device.created_at
            told = module.get("phase") == "running" and running["bundle"] == module.get("bundle")
            known = told and PLAUSIBLE_SINCE <= since < PLAUSIBLE_UNTIL and since <= heard
            deployment = module.get("deployment") if told else None
            connection.execute(
                run.insert().values(
                    device=device.id,
                    module=module["name"],
                    model=running["model"],
                    version=running["version"],
                    bundle=running["bundle"],
                    deployment=deployment,
                    actor=actors.get(deployment),
                    from_at=since if known else heard,
                    from_estimated=not known,
                    until_estimated=False,
                    ended_reason="",
                )
            )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_key",
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("actor", "key_sha256", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_created_at"), "idempotency_key", ["created_at"])


def _webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("failing_since", sa.Float(), nullable=True),
        sa.Column("disabled_reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )
    op.create_index(op.f("ix_webhook_active"), "webhook", ["active"])
    op.create_table(
        "delivery",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("took_ms", sa.Float(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["webhook"], ["webhook.id"], name=op.f("fk_delivery_webhook")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
    )
    op.create_index("ix_delivery_webhook", "delivery", ["webhook", "id"])
    op.create_table(
        "dead_letter",
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("event", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("queued", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["webhook"], ["webhook.id"], name=op.f("fk_dead_letter_webhook")),
        sa.PrimaryKeyConstraint("webhook", "event", name=op.f("pk_dead_letter")),
    )


def _append_only() -> None:
    """Have the database itself refuse to rewrite history."""
    if op.get_bind().dialect.name == "postgresql":
        _append_only_on_postgresql()
    else:
        _append_only_on_sqlite()


def _append_only_on_sqlite() -> None:
    changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in RUN_FIXED)
    guards = {
        "event_update": "UPDATE ON event",
        "event_delete": "DELETE ON event",
        "run_delete": "DELETE ON run",
        "run_update": f"UPDATE ON run WHEN OLD.until_at IS NOT NULL OR {changed}",
    }
    for name, when in guards.items():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {when} "
            "BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END"
        )


def _append_only_on_postgresql() -> None:
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in RUN_FIXED)
    op.execute(
        "CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the history is append-only'; END $$"
    )
    guards = {
        "event_update": "UPDATE OR DELETE ON event FOR EACH ROW",
        "run_delete": "DELETE ON run FOR EACH ROW",
        "run_update": (f"UPDATE ON run FOR EACH ROW WHEN (OLD.until_at IS NOT NULL OR {changed})"),
    }
    for name, when in guards.items():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {when} EXECUTE FUNCTION refuse_to_rewrite_history()"
        )
