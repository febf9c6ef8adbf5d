"""Add variants, uploads and reuse to jobs, and counts.

The release before goes on beside it: what it does not know has a default.

What it does not know, it cannot do, either: a worker of that release leaves variants out, and fails a job whose source
came along. So workers are to be of this release before web takes such jobs (docs/architecture.md).
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("source_url", existing_type=sa.String(length=2048), nullable=True)
        jobs.add_column(sa.Column("variants", sa.JSON(), server_default="{}", nullable=False))
        jobs.add_column(sa.Column("is_inline", sa.Boolean(), server_default=sa.false(), nullable=False))
        jobs.add_column(sa.Column("reuse_key", sa.String(length=64), nullable=True))
        jobs.add_column(sa.Column("reused", sa.String(length=16), nullable=True))
    op.create_index("ix_jobs_reuse", "jobs", ["reuse_key", "status", "run_at"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    _create_results()


def _create_results() -> None:
    op.create_table(
        "results",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("etag", sa.String(length=1024), nullable=True),
        sa.Column("last_modified", sa.String(length=64), nullable=True),
        sa.Column("fresh_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_results_job", "results", ["job_id"], unique=False)
    op.create_table(
        "source_failures",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_source_failures_expires", "source_failures", ["expires_at"], unique=False)
    op.create_table(
        "counts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.String(length=256), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels"),
    )
