"""recipes, money and lineage"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ADDED = (
    "revised_prompt",
    "negative_prompt",
    "quality",
    "background",
    "style",
    "reference_image_ids",
    "mask_image_id",
    "retry_of",
    "notice",
    "task",
    "calls",
    "estimated_cost",
    "actual_cost",
    "failure_remedy",
    "failure_retry_after",
    "expected_seconds",
)


def upgrade() -> None:
    with op.batch_alter_table("generations") as generations:
        generations.add_column(sa.Column("revised_prompt", sa.Text(), nullable=True))
        generations.add_column(sa.Column("negative_prompt", sa.Text(), nullable=True))
        generations.add_column(sa.Column("quality", sa.String(length=32), nullable=True))
        generations.add_column(sa.Column("background", sa.String(length=32), nullable=True))
        generations.add_column(sa.Column("style", sa.String(length=64), nullable=True))
        generations.add_column(
            sa.Column("reference_image_ids", sa.JSON(), nullable=False, server_default="[]")
        )
        generations.add_column(sa.Column("mask_image_id", sa.Uuid(), nullable=True))
        generations.add_column(sa.Column("retry_of", sa.Uuid(), nullable=True))
        generations.create_foreign_key(
            "generations_retry_of_fkey", "generations", ["retry_of"], ["id"]
        )
        generations.add_column(sa.Column("notice", sa.Text(), nullable=True))
        generations.add_column(sa.Column("task", sa.String(length=255), nullable=True))
        for name in ("calls", "estimated_cost", "actual_cost"):
            kind = sa.Integer() if name == "calls" else sa.BigInteger()
            generations.add_column(sa.Column(name, kind, nullable=False, server_default="0"))
        generations.add_column(sa.Column("failure_remedy", sa.Text(), nullable=True))
        generations.add_column(sa.Column("failure_retry_after", sa.Float(), nullable=True))
        generations.add_column(sa.Column("expected_seconds", sa.Float(), nullable=True))
    op.create_index(
        "generations_by_status", "generations", ["status", "workspace_id", "requested_by"]
    )

    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("parent_id", sa.Uuid(), nullable=True))
        images.create_foreign_key(
            "images_parent_id_fkey", "images", ["parent_id"], ["id"], ondelete="SET NULL"
        )
    op.create_index(op.f("ix_images_parent_id"), "images", ["parent_id"])

    op.create_table(
        "spendings",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("viewer", sa.String(length=100), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        sa.PrimaryKeyConstraint("workspace_id", "month", "viewer"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("generation_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("viewer", sa.String(length=100), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "reserved",
                "settled",
                "assumed",
                name="entrystate",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.Column("actual", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["generation_id"], ["generations.id"]),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("generation_id"),
    )
    op.create_index("ledger_by_created_at", "ledger", ["workspace_id", "created_at", "id"])


def downgrade() -> None:
    op.drop_table("ledger")
    op.drop_table("spendings")
    op.drop_index(op.f("ix_images_parent_id"), "images")
    with op.batch_alter_table("images") as images:
        images.drop_constraint("images_parent_id_fkey", type_="foreignkey")
        images.drop_column("parent_id")
    op.drop_index("generations_by_status", "generations")
    with op.batch_alter_table("generations") as generations:
        generations.drop_constraint("generations_retry_of_fkey", type_="foreignkey")
        for name in ADDED:
            generations.drop_column(name)
