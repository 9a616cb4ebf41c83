"""trash, versions and direct uploads"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
        images.drop_constraint("one_image_per_bytes", type_="unique")
    op.create_index(
        "one_image_per_bytes",
        "images",
        ["workspace_id", "sha256"],
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index("images_by_deleted_at", "images", ["deleted_at"])
    op.create_index(op.f("ix_images_object_key"), "images", ["object_key"])

    op.add_column("attachments", sa.Column("published_sha256", sa.String(64), nullable=True))

    op.create_table(
        "image_versions",
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("byte_size", sa.Integer(), nullable=False),
        sa.Column("source_media_type", sa.String(length=64), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("has_alpha", sa.Boolean(), nullable=False),
        sa.Column("declares_ai", sa.Boolean(), nullable=False),
        sa.Column("has_c2pa", sa.Boolean(), nullable=False),
        sa.Column("dominant_color", sa.String(length=7), nullable=False),
        sa.Column("thumbhash", sa.String(length=64), nullable=False),
        sa.Column("perceptual_hash", sa.String(length=16), nullable=False),
        sa.Column("object_key", sa.String(length=255), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["object_key"], ["objects.key"]),
        sa.PrimaryKeyConstraint("image_id", "sha256"),
    )
    op.create_index(op.f("ix_image_versions_object_key"), "image_versions", ["object_key"])

    op.create_table(
        "former_places",
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("alt_text_override", sa.String(length=1000), nullable=True),
        sa.ForeignKeyConstraint(["content_id"], ["contents.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "content_id"),
    )

    op.create_table(
        "direct_uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("alt_text", sa.String(length=1000), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("byte_size", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("image_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_direct_uploads_expires_at"), "direct_uploads", ["expires_at"])


def downgrade() -> None:
    trashed = op.get_bind().scalar(
        sa.text("SELECT count(*) FROM images WHERE deleted_at IS NOT NULL")
    )
    if trashed:
        raise RuntimeError(f"{trashed} images are in the trash. Restore or purge them first.")
    op.drop_table("direct_uploads")
    op.drop_table("former_places")
    op.drop_table("image_versions")
    op.drop_column("attachments", "published_sha256")
    op.drop_index("images_by_deleted_at", "images")
    op.drop_index(op.f("ix_images_object_key"), "images")
    op.drop_index("one_image_per_bytes", "images")
    with op.batch_alter_table("images") as images:
        images.drop_column("deleted_at")
        images.create_unique_constraint("one_image_per_bytes", ["workspace_id", "sha256"])
