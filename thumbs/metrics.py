"""The names of all metrics: what each counts, by which labels, in which unit (docs/metrics.md; a test compares).

Labels have values out of closed lists only: no URL, id or account is ever one.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as Prometheus names it, without `_total` or `_bucket`; one with `buckets` is a histogram."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


JOBS_ENDED: Final = Metric(
    "thumbs_jobs_ended",
    "Jobs that have ended: status, code of the error, and what was shared with an earlier job.",
    ("status", "code", "reused"),
)
STAGE_SECONDS: Final = Metric(
    "thumbs_job_stage_seconds",
    "How long the stages of a job's last run took: queued, fetched, decoded, stored.",
    ("stage",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
JOBS_QUEUED: Final = Metric("thumbs_jobs_queued", "Jobs that wait, also those whose time has not come.")
OLDEST_QUEUED_SECONDS: Final = Metric(
    "thumbs_oldest_queued_seconds", "For how long the oldest job that is due has waited."
)
UPLOADED_BYTES: Final = Metric("thumbs_queued_upload_bytes", "Bytes of the sources that came along with waiting jobs.")

COUNTED: Final = (JOBS_ENDED, STAGE_SECONDS)
"""Counted by every process, and added up in the ledger."""
MEASURED: Final = (JOBS_QUEUED, OLDEST_QUEUED_SECONDS, UPLOADED_BYTES)
"""Looked up when they are asked for."""
