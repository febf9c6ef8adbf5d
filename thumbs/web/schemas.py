"""The wire's shapes: what a request may hold, strictly, and what answers look like, for OpenAPI.

Answers are rendered by thumbs.documents; a contract test loads each of them with these schemas, unknown fields refused.
"""

import json
from typing import Any, Final

import marshmallow as ma
from marshmallow import fields, validate

from thumbs.domain import DeliveryStatus, Fit, JobStatus, OutputFormat

MAX_URL_BYTES: Final = 2_048
MAX_SIDE_PX: Final = 1_024
MAX_METADATA_BYTES: Final = 4_096
MAX_BATCH_JOBS: Final = 100


class StrictInteger(fields.Integer):
    """A JSON integer: neither "3", nor 3.7, nor true."""

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


def check_metadata_size(metadata: dict[str, Any]) -> None:
    """Raise ValidationError when the metadata is larger than an event has room for, as compact ASCII JSON."""
    size_bytes = len(json.dumps(metadata, separators=(",", ":")))
    if size_bytes > MAX_METADATA_BYTES:
        raise ma.ValidationError(f"Must be at most {MAX_METADATA_BYTES} bytes as ASCII JSON; it is {size_bytes}.")


def check_url_size(url: str) -> None:
    """Raise ValidationError when the URL is longer than an event has room for."""
    if not 1 <= len(url.encode("utf-8", "surrogatepass")) <= MAX_URL_BYTES:
        raise ma.ValidationError(f"Must be 1 to {MAX_URL_BYTES} bytes long, as UTF-8.")


def _url(description: str, **options: Any) -> fields.String:
    return fields.String(validate=check_url_size, metadata={"description": description, "format": "uri"}, **options)


def _one_of(values: Any, description: str, **options: Any) -> fields.String:
    return fields.String(
        validate=validate.OneOf([str(value) for value in values]), metadata={"description": description}, **options
    )


def _pixels(name: str) -> fields.Integer:
    return StrictInteger(
        load_default=100,
        validate=validate.Range(1, MAX_SIDE_PX),
        metadata={"description": f"{name} of the thumbnail in px.", "default": 100},
    )


class JobRequestSchema(ma.Schema):
    """A job to be done."""

    source_url = _url("The original image: http or https, at a public address.", required=True)
    callback_url = _url("Where the signed webhook goes at the end.", load_default=None, allow_none=True)
    width = _pixels("Width")
    height = _pixels("Height")
    fit = _one_of(Fit, "How the picture meets the box.", load_default="cover")
    format = _one_of(OutputFormat, "auto: JPEG, or PNG where the source has transparent pixels.", load_default="auto")
    quality = StrictInteger(
        load_default=80, validate=validate.Range(1, 100), metadata={"description": "Ignored for PNG.", "default": 80}
    )
    background = fields.String(
        load_default="#ffffff",
        validate=validate.Regexp(r"#[0-9a-fA-F]{6}\Z", error="Must be a colour such as #ffffff."),
        metadata={"description": "Under transparency when the format has none; padding of `contain`."},
    )
    metadata = fields.Dict(
        keys=fields.String(),
        validate=check_metadata_size,
        load_default=dict,
        metadata={"description": f"Your own, ≤ {MAX_METADATA_BYTES} bytes; echoed in every answer and event."},
    )


class WaitHeaderSchema(ma.Schema):
    """The header that asks us to wait."""

    class Meta:
        """Other headers are not ours to refuse."""

        unknown = ma.EXCLUDE

    prefer = fields.String(
        data_key="Prefer",
        load_default=None,
        metadata={
            "description": "`wait=N` answers when the job is final, or after N ≤ 25 seconds.",
            "example": "wait=5",
        },
    )


class CreateHeaderSchema(WaitHeaderSchema):
    """The headers of a request that creates something."""

    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        load_default=None,
        validate=validate.Length(1, 255),
        metadata={"description": "Yours: the same key and body lead to the same job, for 24 hours."},
    )


class AnswerSchema(ma.Schema):
    """The base of what we send: readers must expect further members."""

    class Meta:
        """Published as open: members may be added."""

        unknown = ma.EXCLUDE


class SpecSchema(AnswerSchema):
    """What was asked for."""

    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    fit = fields.String(required=True)
    format = fields.String(required=True)
    quality = fields.Integer(required=True)
    background = fields.String(required=True)


class ThumbnailSchema(AnswerSchema):
    """The finished image."""

    url = fields.Url(required=True, require_tld=False)
    content_type = fields.String(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    thumbhash = fields.String(required=True)
    dominant_color = fields.String(required=True)


class SourceSchema(AnswerSchema):
    """The original image."""

    content_type = fields.String(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    bytes = fields.Integer(required=True)


class JobErrorSchema(AnswerSchema):
    """Why a job failed; the codes are a closed list."""

    code = fields.String(required=True)
    stage = fields.String(required=True)
    message = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    source_status = fields.Integer(required=True, allow_none=True)


class CallbackSchema(AnswerSchema):
    """What became of the job's callback: a fact apart from the job's status."""

    status = _one_of(("none", "pending", "delivered", "failed"), "How the callback stands.", required=True)
    attempt_count = fields.Integer(required=True)
    next_attempt_at = fields.AwareDateTime(required=True, allow_none=True)


class JobSchema(AnswerSchema):
    """A job."""

    id = fields.String(required=True)
    status = _one_of(JobStatus, "queued → running → succeeded or failed.", required=True)
    source_url = fields.String(required=True)
    callback_url = fields.String(required=True, allow_none=True)
    spec = fields.Nested(SpecSchema, required=True)
    metadata = fields.Dict(keys=fields.String(), required=True)
    thumbnail = fields.Nested(ThumbnailSchema, required=True, allow_none=True)
    variants = fields.Dict(keys=fields.String(), required=True)
    source = fields.Nested(SourceSchema, required=True, allow_none=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)
    callback = fields.Nested(CallbackSchema, required=True)
    run_count = fields.Integer(required=True)
    timings_ms = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    created_at = fields.AwareDateTime(required=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)
    expires_at = fields.AwareDateTime(required=True)


class AttemptSchema(AnswerSchema):
    """One try of a delivery."""

    id = fields.String(required=True)
    number = fields.Integer(required=True)
    trigger = fields.String(required=True)
    started_at = fields.AwareDateTime(required=True)
    duration_ms = fields.Integer(required=True, allow_none=True)
    http_status = fields.Integer(required=True, allow_none=True)
    error_code = fields.String(required=True, allow_none=True)
    error_detail = fields.String(required=True, allow_none=True)
    response_headers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    response_body = fields.String(required=True, allow_none=True)
    response_body_truncated = fields.Boolean(required=True)


class DeliverySchema(AnswerSchema):
    """One event on its way to one receiver."""

    id = fields.String(required=True)
    event_id = fields.String(required=True)
    job_id = fields.String(required=True, allow_none=True)
    endpoint_id = fields.String(required=True, allow_none=True)
    url = fields.String(required=True)
    status = _one_of(DeliveryStatus, "pending → sending → delivered or failed.", required=True)
    reason = fields.String(required=True, allow_none=True)
    attempt_count = fields.Integer(required=True)
    next_attempt_at = fields.AwareDateTime(required=True, allow_none=True)
    delivered_at = fields.AwareDateTime(required=True, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)


class BatchRequestSchema(ma.Schema):
    """Jobs that belong together."""

    jobs = fields.List(fields.Nested(JobRequestSchema), required=True, validate=validate.Length(1, MAX_BATCH_JOBS))
    callback_url = _url("Where `batch.finished` goes, after the last job.", load_default=None, allow_none=True)


class BatchJobSchema(AnswerSchema):
    """A job of a batch."""

    id = fields.String(required=True)
    status = _one_of(JobStatus, "queued → running → succeeded or failed.", required=True)


class BatchSchema(AnswerSchema):
    """A batch."""

    id = fields.String(required=True)
    status = _one_of(("running", "finished"), "finished: every job is final.", required=True)
    callback_url = fields.String(required=True, allow_none=True)
    jobs = fields.List(fields.Nested(BatchJobSchema), required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)


class PageQuerySchema(ma.Schema):
    """Which page of a list."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    cursor = fields.String(
        load_default=None,
        validate=validate.Regexp(r"[a-z]+_[0-9A-HJKMNP-TV-Z]{26}\Z", error="Must be a `next_cursor` that we gave."),
        metadata={"description": "`next_cursor` of the page before."},
    )


class JobQuerySchema(PageQuerySchema):
    """Which jobs."""

    status = _one_of(JobStatus, "Only jobs of this status.", load_default=None)
    created_after = fields.AwareDateTime(load_default=None)
    created_before = fields.AwareDateTime(load_default=None)


class JobPageSchema(AnswerSchema):
    """A page of jobs, newest first."""

    items = fields.List(fields.Nested(JobSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class DeliveryPageSchema(AnswerSchema):
    """Deliveries, newest first."""

    items = fields.List(fields.Nested(DeliverySchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
