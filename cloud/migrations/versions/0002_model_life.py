"""What models need for their life: cards, aliases, metadata, lineage, search."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    _models()
    _versions()
    _deployments()
    _beside_versions()
    _search()
    _words()


def _words_of_people(table: str) -> None:
    """Add what a person may say of a model or version."""
    plain = sa.text("'{}'")
    op.add_column(table, sa.Column("metadata", sa.JSON(), nullable=False, server_default=plain))
    op.add_column(table, sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))
    op.add_column(table, sa.Column("updated_at", sa.Float(), nullable=False, server_default="0"))
    op.execute(f"UPDATE {table} SET updated_at = created_at")  # noqa: S608 - our own two names


def _models() -> None:
    plain = sa.text("'{}'")
    op.add_column("model", sa.Column("description", sa.Text(), nullable=False, server_default=""))
    op.add_column("model", sa.Column("tags", sa.JSON(), nullable=False, server_default=plain))
    op.add_column(
        "model", sa.Column("last_number", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("model", sa.Column("deleted_at", sa.Float(), nullable=True))
    _words_of_people("model")
    op.execute(
        "UPDATE model SET last_number = coalesce("
        "(SELECT max(version.number) FROM version WHERE version.model = model.name), 0)"
    )


def _versions() -> None:
    _words_of_people("version")
    op.create_table(
        "bundle_use",
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["bundle"], ["bundle.digest"], name=op.f("fk_bundle_use_bundle")),
        sa.PrimaryKeyConstraint("bundle", "model", "version", name=op.f("pk_bundle_use")),
    )
    op.create_index(op.f("ix_bundle_use_model_version"), "bundle_use", ["model", "version"])


def _deployments() -> None:
    """A deployment that was cancelled outlives the bundle that it named."""
    with op.batch_alter_table("deployment") as deployment:
        deployment.drop_constraint(op.f("fk_deployment_bundle"), type_="foreignkey")
        deployment.add_column(sa.Column("alias", sa.String(), nullable=True))


def _beside_versions() -> None:
    op.create_table(
        "card",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_card_model")),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_card")),
    )
    op.create_table(
        "alias",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("moved_at", sa.Float(), nullable=False),
        sa.Column("moved_by", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_alias_model")),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_alias")),
    )
    op.create_table(
        "lineage",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent_model", sa.String(), nullable=True),
        sa.Column("parent_version", sa.Integer(), nullable=True),
        sa.Column("run", sa.String(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("trained_by", sa.String(), nullable=True),
        sa.Column("trained_at", sa.Float(), nullable=True),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.Float(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_lineage")),
    )
    op.create_index(
        op.f("ix_lineage_parent_model_parent_version"),
        "lineage",
        ["parent_model", "parent_version"],
    )


def _search() -> None:
    op.create_table(
        "search_entry",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("model", WORD, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_entry")),
    )
    unique = op.f("ix_search_entry_model_version")
    op.create_index(unique, "search_entry", ["model", "version"], unique=True)
    for column in ("created_at", "updated_at", "size_bytes"):
        name = op.f(f"ix_search_entry_{column}_model_version")
        op.create_index(name, "search_entry", [column, "model", "version"])
    op.create_table(
        "search_fact",
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("field", WORD, nullable=False),
        sa.Column("value", WORD, nullable=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("inherited", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry"], ["search_entry.id"], name=op.f("fk_search_fact_entry"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("entry", "field", "value", name=op.f("pk_search_fact")),
        sqlite_with_rowid=False,
    )
    for column in ("value", "number"):
        name = op.f(f"ix_search_fact_field_{column}_entry")
        op.create_index(name, "search_fact", ["field", column, "entry"])


def _words() -> None:
    op.create_table(
        "search_text",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_text")),
        sa.UniqueConstraint("sha256", name=op.f("uq_search_text_sha256")),
    )
    op.create_table(
        "search_word",
        sa.Column("word", WORD, nullable=False),
        sa.Column("text", sa.BigInteger(), nullable=False),
        _of_text("search_word"),
        sa.PrimaryKeyConstraint("word", "text", name=op.f("pk_search_word")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_search_word_text"), "search_word", ["text"])
    op.create_table(
        "search_entry_text",
        sa.Column("text", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("inherited", sa.Boolean(), nullable=False),
        _of_text("search_entry_text"),
        sa.ForeignKeyConstraint(
            ["entry"],
            ["search_entry.id"],
            name=op.f("fk_search_entry_text_entry"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("text", "entry", "inherited", name=op.f("pk_search_entry_text")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_search_entry_text_entry"), "search_entry_text", ["entry"])


def _of_text(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_text")
    return sa.ForeignKeyConstraint(["text"], ["search_text.id"], name=name, ondelete="CASCADE")
