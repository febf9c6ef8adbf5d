"""The ledger's tables, as SQLAlchemy Core sees them.

Moments are microseconds since 1970 in a BIGINT, the same on every database: they sort, they index, and no driver's idea
of time zones comes near them. The schema changes only by a migration (thumbs/migrations); a test compares the two.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

SCHEMA_REVISION: Final = "0003"
"""The newest migration; a process refuses to start on an older schema (a guard test compares with Alembic's head)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Turn the moment into its number."""
        return None if value is None else count_microseconds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn the number into its moment."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def count_microseconds(moment: datetime) -> int:
    """Count the microseconds from 1970 to a moment, as the database holds it."""
    return (moment - _EPOCH) // _MICROSECOND


metadata = sa.MetaData()

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("callback_secret", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("event_count", sa.BigInteger, nullable=False, server_default="0"),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("url", sa.String(2048), nullable=False),
    sa.Column("event_types", sa.JSON, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("disabled_reason", sa.String(16)),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("warned_at", Moment),
    sa.Column("deleted_at", Moment),
    sa.Index("ix_endpoints_account", "account_id", "id"),
)

retired_secrets = sa.Table(
    "retired_secrets",
    metadata,
    sa.Column("owner_id", sa.String(32), primary_key=True),
    sa.Column("secret", sa.Text, primary_key=True),
    sa.Column("retired_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_retired_secrets_expires", "expires_at"),
)

lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("host", sa.String(300), nullable=False),
    sa.Column("endpoint_id", sa.String(32)),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("due_at", Moment),
    sa.Column("blocked_until", Moment),
    sa.Column("started_at", Moment),
    sa.Column("is_proven", sa.Boolean, nullable=False),
    sa.Column("is_slow", sa.Boolean, nullable=False),
    sa.Column("is_recovering", sa.Boolean, nullable=False),
    sa.Column("failure_count", sa.Integer, nullable=False),
    sa.Column("failing_since", Moment),
    sa.Column("failed_delivery_id", sa.String(32)),
    sa.Column("has_failed_several", sa.Boolean, nullable=False),
    sa.Column("open_seconds", sa.Float, nullable=False),
    sa.Index("ix_lanes_due", "due_at"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False, index=True),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("last_used_at", Moment),
    sa.Column("revoked_at", Moment),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("callback_url", sa.String(2048)),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_batches_open", "finished_at", "created_at"),
    sa.Index("ix_batches_expires", "expires_at"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("batch_id", sa.String(32), sa.ForeignKey("batches.id")),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("source_url", sa.String(2048)),
    sa.Column("callback_url", sa.String(2048)),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("public_url", sa.String(2048), nullable=False),
    sa.Column("request_id", sa.String(200), nullable=False),
    sa.Column("blob_name", sa.String(64), nullable=False),
    sa.Column("run_count", sa.Integer, nullable=False),
    sa.Column("run_at", Moment, nullable=False),
    sa.Column("dispatched_at", Moment, nullable=False),
    sa.Column("lease_token", sa.String(32)),
    sa.Column("lease_until", Moment),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("started_at", Moment),
    sa.Column("finished_at", Moment),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("thumbnail", sa.JSON(none_as_null=True)),
    sa.Column("source", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("timings_ms", sa.JSON, nullable=False),
    sa.Column("variants", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("is_inline", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reuse_key", sa.String(64)),
    sa.Column("reused", sa.String(16)),
    sa.Index("ix_jobs_account", "account_id", "id"),
    sa.Index("ix_jobs_batch", "batch_id"),
    sa.Index("ix_jobs_blob_name", "blob_name", unique=True),
    sa.Index("ix_jobs_dispatched", "status", "dispatched_at"),
    sa.Index("ix_jobs_due", "status", "run_at"),
    sa.Index("ix_jobs_lease", "status", "lease_until"),
    sa.Index("ix_jobs_reuse", "reuse_key", "status", "run_at"),
    sa.Index("ix_jobs_expires", "expires_at"),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("job_id", sa.String(32), primary_key=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(32), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("etag", sa.String(1024)),
    sa.Column("last_modified", sa.String(64)),
    sa.Column("fresh_until", Moment, nullable=False),
    sa.Index("ix_results_job", "job_id"),
)

source_failures = sa.Table(
    "source_failures",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("failure_count", sa.Integer, nullable=False),
    sa.Column("error", sa.JSON, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_source_failures_expires", "expires_at"),
)

counts = sa.Table(
    "counts",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("labels", sa.String(256), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("job_id", sa.String(32)),
    sa.Column("batch_id", sa.String(32)),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("position", sa.BigInteger),
    sa.Index("ix_events_account", "account_id", "id"),
    sa.Index("ix_events_created", "created_at"),
    sa.Index("ix_events_position", "account_id", "position"),
    sa.Index("ix_events_job", "job_id"),
    sa.Index("ix_events_batch", "batch_id"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("event_id", sa.String(32), sa.ForeignKey("events.id"), nullable=False),
    sa.Column("job_id", sa.String(32)),
    sa.Column("endpoint_id", sa.String(32)),
    sa.Column("url", sa.String(2048), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(32)),
    sa.Column("attempt_count", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", Moment),
    sa.Column("dispatched_at", Moment, nullable=False),
    sa.Column("lease_token", sa.String(32)),
    sa.Column("lease_until", Moment),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("delivered_at", Moment),
    sa.Column("is_callback", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("lane_id", sa.String(64)),
    sa.Column("trigger", sa.String(16), nullable=False, server_default="auto"),
    sa.Column("scheduled_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("resume_at", Moment),
    sa.Index("ix_deliveries_account", "account_id", "id"),
    sa.Index("ix_deliveries_endpoint", "endpoint_id", "id"),
    sa.Index("ix_deliveries_lane", "lane_id", "status", "next_attempt_at"),
    sa.Index("ix_deliveries_event", "event_id"),
    sa.Index("ix_deliveries_job", "job_id"),
    sa.Index("ix_deliveries_due", "status", "next_attempt_at"),
    sa.Index("ix_deliveries_lease", "status", "lease_until"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("delivery_id", sa.String(32), sa.ForeignKey("deliveries.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("trigger", sa.String(16), nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("duration_ms", sa.Integer),
    sa.Column("http_status", sa.Integer),
    sa.Column("error_code", sa.String(32)),
    sa.Column("error_detail", sa.Text),
    sa.Column("response_headers", sa.JSON, nullable=False),
    sa.Column("response_body", sa.Text),
    sa.Column("response_body_truncated", sa.Boolean, nullable=False),
    sa.Index("ix_attempts_delivery", "delivery_id", "number"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("account_id", sa.String(32), sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("resource_id", sa.String(32), nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_idempotency_keys_expires", "expires_at"),
    sa.Index("ix_idempotency_keys_resource", "resource_id"),
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("content_type", sa.String(32), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Index("ix_blobs_expires", "expires_at"),
)

locks = sa.Table(
    "locks",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("token", sa.String(32)),
    sa.Column("until", Moment),
)

heartbeats = sa.Table(
    "heartbeats",
    metadata,
    sa.Column("process", sa.String(16), primary_key=True),
    sa.Column("seen_at", Moment, nullable=False),
)
