"""Jobs and batches, their statuses and legal moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from thumbs.domain.images import Source, Thumbnail, ThumbnailSpec
from thumbs.errors import JobError


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


FINAL_JOB_STATUSES = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED})
OPEN_JOB_STATUSES = frozenset(JobStatus) - FINAL_JOB_STATUSES


JOB_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset({JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
}
"""The legal moves of a job; the ledger's conditional UPDATEs name them."""


class Reuse(StrEnum):
    """What a job shared with an earlier one: its run, its thumbnail after asking the source, or without asking."""

    IN_FLIGHT = "in_flight"
    REVALIDATED = "revalidated"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed, as its caller sees it."""

    code: str
    stage: str
    message: str
    retryable: bool
    source_status: int | None = None

    @classmethod
    def of(cls, error: JobError) -> "Failure":
        """Build what the caller is told of an error."""
        return cls(error.code, error.stage, error.message, error.retryable, error.source_status)


@dataclass(frozen=True, slots=True)
class Variant:
    """One more thumbnail of the same source: what was asked for, and what became of it once the job has succeeded."""

    spec: ThumbnailSpec
    thumbnail: Thumbnail | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request that passed every check, not recorded yet; it has either a URL or the source itself."""

    source_url: str | None
    callback_url: str | None
    spec: ThumbnailSpec
    metadata: Mapping[str, Any]
    public_url: str
    request_id: str
    source_data: bytes | None = field(default=None, repr=False)
    variants: Mapping[str, ThumbnailSpec] = field(default_factory=dict)
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted request, as the ledger holds it.

    `blob_name` is the unguessable part of the thumbnail's URL, drawn with the job. `public_url` is the base of the
    URLs that its caller gets. `run_at` is the earliest time of the next run while it is queued. Without a `source_url`,
    its source was uploaded. `reuse_key` is the same for jobs that ask for the same of the same source, and None for
    those that never share; `reused` tells what was not done anew.
    """

    id: str
    account_id: str
    status: JobStatus
    source_url: str | None
    callback_url: str | None
    spec: ThumbnailSpec
    metadata: Mapping[str, Any]
    public_url: str
    request_id: str
    blob_name: str
    run_count: int
    created_at: datetime
    expires_at: datetime
    run_at: datetime
    batch_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    thumbnail: Thumbnail | None = None
    source: Source | None = None
    error: Failure | None = None
    timings_ms: Mapping[str, int] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    is_inline: bool = False
    reuse_key: str | None = None
    reused: Reuse | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that were accepted together, all or none; `finished_at` is when their common event was made."""

    id: str
    account_id: str
    callback_url: str | None
    created_at: datetime
    expires_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key, what it asked for (SHA-256, hexadecimal), and the id of the job or batch that it led to."""

    account_id: str
    key: str
    request_sha256: str
    resource_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its thumbnails or a failure, with the source's facts as far as they are known.

    `inline` is the thumbnail's bytes, where the job asked for them in its event and they are few enough.
    """

    status: JobStatus
    thumbnail: Thumbnail | None = None
    source: Source | None = None
    error: Failure | None = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    inline: bytes | None = field(default=None, repr=False)
    reused: Reuse | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """That a job's thumbnails may be used again: `key` names the work, `caching` its source's answer.

    Without asking the source until `fresh_until`; later when it says that nothing has changed.
    """

    key: str
    job_id: str
    url: str
    etag: str | None
    last_modified: str | None
    fresh_until: datetime


@dataclass(frozen=True, slots=True)
class SourceFailures:
    """That a source has failed lately: in so many jobs in a row, the last time like this."""

    count: int
    last: Failure


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list holds; `before_id` is where the page before ended."""

    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's time-limited right to a row; a move with a stale token changes nothing."""

    id: str
    token: str
    until: datetime
