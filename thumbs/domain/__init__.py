"""The values that thumbs talks about, their statuses, and their legal moves.

Everything here is pure: frozen values and functions of their arguments. It owns no side effect and knows no library.
Time and chance come in as arguments. The words are the glossary's (docs/architecture.md).
"""

from thumbs.domain.accounts import Account, ApiKey
from thumbs.domain.images import (
    Blob,
    DecodeLimits,
    FetchedSource,
    Fit,
    OutputFormat,
    Picture,
    Source,
    Thumbnail,
    ThumbnailSpec,
)
from thumbs.domain.jobs import (
    FINAL_JOB_STATUSES,
    JOB_MOVES,
    Batch,
    Failure,
    IdempotencyKey,
    Job,
    JobFilter,
    JobStatus,
    Lease,
    NewJob,
    Outcome,
)
from thumbs.domain.webhooks import (
    DELIVERY_MOVES,
    Announcement,
    Answer,
    Attempt,
    Conclusion,
    Delivery,
    DeliveryStatus,
    Event,
    EventType,
    LeasedDelivery,
    NextStep,
    Trigger,
)

__all__ = [
    "DELIVERY_MOVES",
    "FINAL_JOB_STATUSES",
    "JOB_MOVES",
    "Account",
    "Announcement",
    "Answer",
    "ApiKey",
    "Attempt",
    "Batch",
    "Blob",
    "Conclusion",
    "DecodeLimits",
    "Delivery",
    "DeliveryStatus",
    "Event",
    "EventType",
    "Failure",
    "FetchedSource",
    "Fit",
    "IdempotencyKey",
    "Job",
    "JobFilter",
    "JobStatus",
    "Lease",
    "LeasedDelivery",
    "NewJob",
    "NextStep",
    "Outcome",
    "OutputFormat",
    "Picture",
    "Source",
    "Thumbnail",
    "ThumbnailSpec",
    "Trigger",
]
