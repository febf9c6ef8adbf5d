"""The shapes of jobs and batches."""

import json
from typing import Any, Final

import marshmallow as ma
from marshmallow import fields, validate

from thumbs.domain import Fit, JobStatus, OutputFormat
from thumbs.web.schemas.parts import (
    AnswerSchema,
    PageQuerySchema,
    StrictInteger,
    WaitHeaderSchema,
    build_choice,
    build_pattern_field,
    build_url_field,
)

MAX_SIDE_PX: Final = 1_024
MAX_METADATA_BYTES: Final = 4_096
MAX_BATCH_JOBS: Final = 100


def check_metadata_size(metadata: dict[str, Any]) -> None:
    """Raise ValidationError when the metadata is larger than an event has room for, as compact ASCII JSON."""
    size_bytes = len(json.dumps(metadata, separators=(",", ":")))
    if size_bytes > MAX_METADATA_BYTES:
        raise ma.ValidationError(f"Must be at most {MAX_METADATA_BYTES} bytes as ASCII JSON; it is {size_bytes}.")


def _pixels(name: str) -> fields.Integer:
    return StrictInteger(
        load_default=100,
        validate=validate.Range(1, MAX_SIDE_PX),
        metadata={"description": f"{name} of the thumbnail in px.", "default": 100},
    )


class JobRequestSchema(ma.Schema):
    """A job to be done."""

    source_url = build_url_field("The original image: http or https, at a public address.", required=True)
    callback_url = build_url_field("Where the signed webhook goes at the end.", load_default=None, allow_none=True)
    width = _pixels("Width")
    height = _pixels("Height")
    fit = build_choice(Fit, "How the picture meets the box.", load_default="cover")
    format = build_choice(
        OutputFormat, "auto: JPEG, or PNG where the source has transparent pixels.", load_default="auto"
    )
    quality = StrictInteger(
        load_default=80, validate=validate.Range(1, 100), metadata={"description": "Ignored for PNG.", "default": 80}
    )
    background = build_pattern_field(
        "#[0-9a-fA-F]{6}",
        "Must be a colour such as #ffffff.",
        load_default="#ffffff",
        metadata={"description": "Under transparency when the format has none; padding of `contain`."},
    )
    metadata = fields.Dict(
        keys=fields.String(),
        validate=check_metadata_size,
        load_default=dict,
        metadata={"description": f"Your own, ≤ {MAX_METADATA_BYTES} bytes; echoed in every answer and event."},
    )


class CreateHeaderSchema(WaitHeaderSchema):
    """The headers of a request that creates something."""

    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        load_default=None,
        validate=validate.Length(1, 255),
        metadata={"description": "Yours: the same key and body lead to the same job, for 24 hours."},
    )


class JobQuerySchema(PageQuerySchema):
    """Which jobs."""

    status = build_choice(JobStatus, "Only jobs of this status.", load_default=None)
    created_after = fields.AwareDateTime(load_default=None)
    created_before = fields.AwareDateTime(load_default=None)


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

    status = build_choice(("none", "pending", "delivered", "failed"), "How the callback stands.", required=True)
    attempt_count = fields.Integer(required=True)
    next_attempt_at = fields.AwareDateTime(required=True, allow_none=True)


class JobSchema(AnswerSchema):
    """A job."""

    id = fields.String(required=True)
    status = build_choice(JobStatus, "queued → running → succeeded or failed.", required=True)
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


class JobPageSchema(AnswerSchema):
    """A page of jobs, newest first."""

    items = fields.List(fields.Nested(JobSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class BatchRequestSchema(ma.Schema):
    """Jobs that belong together."""

    jobs = fields.List(fields.Nested(JobRequestSchema), required=True, validate=validate.Length(1, MAX_BATCH_JOBS))
    callback_url = build_url_field(
        "Where `batch.finished` goes, after the last job.", load_default=None, allow_none=True
    )


class BatchJobSchema(AnswerSchema):
    """A job of a batch."""

    id = fields.String(required=True)
    status = build_choice(JobStatus, "queued → running → succeeded or failed.", required=True)


class BatchSchema(AnswerSchema):
    """A batch."""

    id = fields.String(required=True)
    status = build_choice(("running", "finished"), "finished: every job is final.", required=True)
    callback_url = fields.String(required=True, allow_none=True)
    jobs = fields.List(fields.Nested(BatchJobSchema), required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)
