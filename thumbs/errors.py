"""Every error that thumbs raises on purpose, and the closed list of codes that people see.

    ThumbsError
     ├ SettingsError                 a setting is wrong: stops the start
     ├ RequestError                  the caller's fault, told as a problem (RFC 9457)
     │  ├ UrlNotAllowed · NotFound · Unauthorized …
     ├ KeyAlreadyUsed                an idempotency key is taken
     ├ UnavailableError              LedgerUnavailable, QueueUnavailable: later is right
     │  └ BusyError                  DecodersBusy, SourceBusy: the job is handed back
     ├ JobError                      why a job failed, by stage
     │  ├ FetchError · DecodeError · RenderError · StoreError · RunError
     └ AttemptError                  why one delivery attempt failed

Codes are stable and documented in docs/errors.md; a guard test compares. Public messages never carry an address,
a secret or a traceback. Nothing here is an OSError: urllib3 would wrap and retry it.
"""

from typing import ClassVar


class ThumbsError(Exception):
    """The root of every error that thumbs raises on purpose."""


class SettingsError(ThumbsError):
    """A setting has a value that cannot be used; the text names the variable, the value and what is right."""


# ── stores ──────────────────────────────────────────────────────────────────────────────────────────────


class KeyAlreadyUsed(ThumbsError):
    """An idempotency key is taken: whoever asked looks up what it led to."""


class UnavailableError(ThumbsError):
    """Something of ours does not answer; trying again later is right."""


class LedgerUnavailable(UnavailableError):
    """The ledger's database does not answer or refuses to write."""


class QueueUnavailable(UnavailableError):
    """The queue does not take messages; the sweep dispatches later."""


class BusyError(UnavailableError):
    """A run cannot go on for now, through no fault of its job, which is handed back for `delay_seconds`."""

    delay_seconds = 1.0


class DecodersBusy(BusyError):
    """Every decoder is at work for longer than the caller may wait."""


class SourceBusy(BusyError):
    """The source's host is being fetched from as often at once as it may be."""

    def __init__(self, delay_seconds: float) -> None:
        super().__init__("the source's host has no free slot")
        self.delay_seconds = delay_seconds


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────


class RequestError(ThumbsError):
    """A request that cannot be granted; `field` names the JSON member at fault, when there is one."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, *, field: str | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.retry_after_seconds = retry_after_seconds


class UrlNotAllowed(RequestError):
    """The URL is malformed, or policy forbids its scheme, host, port or address."""

    code, status, title = "url_not_allowed", 422, "The URL is not allowed."


class EventTooLong(RequestError):
    """The job's event would be longer than any may be."""

    code, status, title = "validation_failed", 422, "The request is not valid."


class UploadTooLarge(RequestError):
    """The source that came along has more than THUMBS_MAX_UPLOAD_BYTES."""

    code, status, title = "body_too_large", 413, "The request body is too large."


class NotFound(RequestError):
    """There is no such thing, or it belongs to another account."""

    code, status, title = "not_found", 404, "There is no such resource."


class Unauthorized(RequestError):
    """No API key, or one that is not known."""

    code, status, title = "unauthorized", 401, "An API key is required."


class IdempotencyKeyReused(RequestError):
    """The same Idempotency-Key came with another body."""

    code, status, title = "idempotency_key_reused", 422, "The idempotency key was used for another request."


class Conflict(RequestError):
    """The resource is not in a state for this."""

    code, status, title = "conflict", 409, "The resource is not in a state for this."


class Gone(RequestError):
    """What the request is about was deleted, for good."""

    code, status, title = "gone", 410, "The resource is gone."


class Overloaded(RequestError):
    """More than THUMBS_MAX_QUEUED_JOBS jobs wait, or than THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT of the account."""

    code, status, title = "overloaded", 503, "Too many jobs are waiting."


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────


class JobError(ThumbsError):
    """Why a run of a job failed: stable code, stage, public message, and whether another run may help.

    `detail` is for our own logs. `source_status` is the source's HTTP status where it answered.
    `retry_after_seconds` is the source's own wish (RFC 9110 section 10.2.3).
    """

    code: ClassVar[str]
    stage: ClassVar[str]
    message: ClassVar[str]
    retryable: bool = False

    def __init__(
        self, detail: str = "", *, source_status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{self.code}: {detail}" if detail else self.code)
        self.detail = detail
        self.source_status = source_status
        self.retry_after_seconds = retry_after_seconds


class FetchError(JobError):
    """The source could not be fetched."""

    stage = "fetch"


class SourceForbidden(FetchError):
    """Blocked address, scheme or port, or a name that does not resolve: one code, so that it is no oracle."""

    code, message = "source_forbidden", "The source URL may not be fetched, or its name does not exist."


class SourceUnreachable(FetchError):
    """The connection was refused, reset or broke off."""

    code, message, retryable = "source_unreachable", "The source's server could not be reached.", True


class SourceTimeout(FetchError):
    """The source did not arrive within THUMBS_FETCH_TIMEOUT_SECONDS."""

    code, message, retryable = "source_timeout", "The source did not arrive in time.", True


class SourceTlsError(FetchError):
    """The TLS handshake or the certificate was not acceptable."""

    code, message = "source_tls_error", "The source's TLS certificate or handshake is not acceptable."


RETRYABLE_SOURCE_STATUSES = frozenset({408, 425, 429})
"""Source answers below 500 that may be different next time (RFC 9110, RFC 6585, RFC 8470)."""


class SourceHttpError(FetchError):
    """The source answered something else than the image; 408, 425, 429 and 5xx are retried."""

    code, message = "source_http_error", "The source answered with an HTTP error."

    def __init__(
        self, detail: str = "", *, source_status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(detail, source_status=source_status, retry_after_seconds=retry_after_seconds)
        status = source_status or 0
        self.retryable = status >= 500 or status in RETRYABLE_SOURCE_STATUSES


class SourceTooLarge(FetchError):
    """The source has more than THUMBS_MAX_SOURCE_BYTES."""

    code, message = "source_too_large", "The source has more bytes than the limit."


class SourceTooManyRedirects(FetchError):
    """The source redirects more often than we follow."""

    code, message = "source_too_many_redirects", "The source redirects too often."


class SourceEmpty(FetchError):
    """The source answered without a body."""

    code, message = "source_empty", "The source is empty."


class DecodeError(JobError):
    """The source's bytes could not be turned into a picture."""

    stage = "decode"


class UnsupportedFormat(DecodeError):
    """Not an image, or one in a format that is not accepted."""

    code, message = "unsupported_format", "The source is not an image in a supported format."


class ImageTooLarge(DecodeError):
    """Too many pixels, too long a side, or more memory than a decoder may have."""

    code, message = "image_too_large", "The image has more pixels than the limit."


class ImageTooComplex(DecodeError):
    """Too many JPEG scans, segments or PNG chunks, or too many steps to read it."""

    code, message = "image_too_complex", "The image is built from too many parts."


class ImageCorrupt(DecodeError):
    """The image's data is damaged or cut short."""

    code, message = "image_corrupt", "The image is damaged or cut short."


class DecoderTimeout(DecodeError):
    """Decoding took longer than THUMBS_DECODE_TIMEOUT_SECONDS; the decoder was killed."""

    code, message = "decoder_timeout", "The image took too long to decode."


class DecoderCrashed(DecodeError):
    """The decoder process died; tried once more."""

    code, message, retryable = "decoder_crashed", "The image made the decoder stop.", True


class RenderError(JobError):
    """The picture could not be made into the thumbnail."""

    stage = "render"


class RenderFailed(RenderError):
    """Resizing or encoding failed."""

    code, message = "render_failed", "The thumbnail could not be made from the image."


class StoreError(JobError):
    """The thumbnail could not be stored."""

    stage = "store"


class StorageUnavailable(StoreError):
    """The blob store does not take the thumbnail."""

    code, message, retryable = "storage_unavailable", "The thumbnail could not be stored.", True


class RunError(JobError):
    """The job ended for a reason that is not its source's."""

    stage = "run"


class WorkerLost(RunError):
    """The job's workers died as often as it may be run."""

    code, message = "worker_lost", "The workers that ran the job were lost."


class Cancelled(RunError):
    """The caller deleted the job before it ran."""

    code, message = "cancelled", "The job was cancelled."


class Expired(RunError):
    """The job waited longer than it is kept."""

    code, message = "expired", "The job expired before it could be run."


def list_job_errors() -> list[type[JobError]]:
    """List every error class that can end a job, in the order in which they are documented."""
    return [error for stage in JobError.__subclasses__() for error in stage.__subclasses__()]


# ── deliveries ──────────────────────────────────────────────────────────────────────────────────────────


class AttemptError(ThumbsError):
    """Why a delivery attempt got no 2xx; `code` as in docs/webhooks.md."""

    code: ClassVar[str]

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"{self.code}: {detail}" if detail else self.code)
        self.detail = detail


class InvalidDestination(AttemptError):
    """Name not found, blocked address or bad URL: one code, so that it is no oracle."""

    code = "invalid_destination"


class ConnectionFailed(AttemptError):
    """Refused, reset or broken off before the answer's head was complete."""

    code = "connection_error"


class TlsFailed(AttemptError):
    """The TLS handshake or the certificate was not acceptable."""

    code = "tls_error"


class AttemptTimeout(AttemptError):
    """The answer's head was not complete within THUMBS_WEBHOOK_TIMEOUT_SECONDS."""

    code = "timeout"
