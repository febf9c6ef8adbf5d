"""Add endpoints, lanes, and each account's order of events. Additive: the release before goes on beside it.

What that release writes meanwhile, deliveries without a lane and events without a position, the sweep adopts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    _create_endpoints()
    _create_lanes()
    _add_positions()
    _add_to_deliveries()


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("event_types", sa.JSON(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("disabled_reason", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("warned_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_endpoints_account", "endpoints", ["account_id", "id"], unique=False)
    op.create_table(
        "retired_secrets",
        sa.Column("owner_id", sa.String(length=32), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "secret"),
    )
    op.create_index("ix_retired_secrets_expires", "retired_secrets", ["expires_at"], unique=False)


def _create_lanes() -> None:
    op.create_table(
        "lanes",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=False),
        sa.Column("endpoint_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("blocked_until", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("is_proven", sa.Boolean(), nullable=False),
        sa.Column("is_slow", sa.Boolean(), nullable=False),
        sa.Column("is_recovering", sa.Boolean(), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("failed_delivery_id", sa.String(length=32), nullable=True),
        sa.Column("has_failed_several", sa.Boolean(), nullable=False),
        sa.Column("open_seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_lanes_due", "lanes", ["due_at"], unique=False)


def _add_positions() -> None:
    """Number each account's events in the order of their ids, which is that of their making."""
    op.add_column("accounts", sa.Column("event_count", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("events", sa.Column("position", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE events SET position = numbered.n FROM "
        "(SELECT id, row_number() OVER (PARTITION BY account_id ORDER BY id) AS n FROM events) AS numbered "
        "WHERE numbered.id = events.id"
    )
    op.execute("UPDATE accounts SET event_count = (SELECT count(*) FROM events WHERE events.account_id = accounts.id)")
    op.create_index("ix_events_created", "events", ["created_at"], unique=False)
    op.create_index("ix_events_position", "events", ["account_id", "position"], unique=False)


def _add_to_deliveries() -> None:
    """Every delivery so far is one to a callback, and every attempt was made by the schedule.

    Those that are over do not come back to it, so they are not written: a table without a rewrite is soon done.
    """
    for column in (
        sa.Column("is_callback", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("lane_id", sa.String(length=64), nullable=True),
        sa.Column("trigger", sa.String(length=16), server_default="auto", nullable=False),
        sa.Column("scheduled_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resume_at", sa.BigInteger(), nullable=True),
    ):
        op.add_column("deliveries", column)
    op.execute("UPDATE deliveries SET scheduled_count = attempt_count WHERE status IN ('pending', 'sending')")
    op.create_index("ix_deliveries_endpoint", "deliveries", ["endpoint_id", "id"], unique=False)
    op.create_index("ix_deliveries_lane", "deliveries", ["lane_id", "status", "next_attempt_at"], unique=False)
