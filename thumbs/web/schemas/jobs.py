"""The shapes of jobs and batches."""

import json
from typing import Any, ClassVar, Final

import marshmallow as ma
from marshmallow import fields, validate

from thumbs.announcements import MAX_INLINE_BYTES
from thumbs.documents import EXTENSIONS
from thumbs.domain import Fit, JobStatus, OutputFormat, Reuse
from thumbs.errors import JobError, list_job_errors
from thumbs.web.schemas.parts import (
    AnswerSchema,
    Base64,
    HeaderSchema,
    Moment,
    PageQuerySchema,
    StrictBoolean,
    StrictInteger,
    WaitHeaderSchema,
    build_choice,
    build_count,
    build_id,
    build_next_cursor,
    build_pattern_field,
    build_url_field,
    leave_out,
    write_pattern,
)

MAX_SIDE_PX: Final = 1_024
MAX_METADATA_BYTES: Final = 4_096
MAX_BATCH_JOBS: Final = 100
MAX_VARIANTS: Final = 8
VARIANT_NAME: Final = "[A-Za-z0-9_-]{1,32}"

COLOR: Final = "#[0-9a-fA-F]{6}"
COLOR_PATTERN: Final = write_pattern(COLOR)


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


def _tell_pixels(description: str) -> fields.Integer:
    return fields.Integer(
        required=True, metadata={"description": f"{description} In px.", "minimum": 1, "maximum": MAX_SIDE_PX}
    )


class SpecRequestSchema(ma.Schema):
    """What the thumbnail is to be."""

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
        COLOR,
        "Must be a colour such as #ffffff.",
        load_default="#ffffff",
        metadata={"description": "Under transparency when the format has none; padding of `contain`."},
    )


class VariantRequestSchema(SpecRequestSchema):
    """One more thumbnail of the same source."""

    name = build_pattern_field(
        VARIANT_NAME,
        "Must be 1 to 32 of A-Z, a-z, 0-9, _ and -.",
        required=True,
        metadata={"description": "Yours: the job's `variants` are told by it, and it is part of the thumbnail's URL."},
    )


def check_variant_names(variants: list[dict[str, Any]]) -> None:
    """Raise ValidationError when two have one name; capitals make no difference, as in many a store of files."""
    names = [variant["name"].lower() for variant in variants]
    if len(set(names)) != len(names):
        raise ma.ValidationError("Each must have a name of its own, whatever its capitals.")


class SourcedSchema(SpecRequestSchema):
    """What a job is asked for apart from where its source is, which JSON and forms tell differently."""

    variants = fields.List(
        fields.Nested(VariantRequestSchema),
        load_default=list,
        validate=[validate.Length(0, MAX_VARIANTS), check_variant_names],
        metadata={"description": "More thumbnails of the same source, from one fetch and one decode."},
    )
    metadata = fields.Dict(
        keys=fields.String(),
        validate=check_metadata_size,
        load_default=dict,
        metadata={"description": f"Your own, ≤ {MAX_METADATA_BYTES} bytes; echoed in every answer and event."},
    )
    inline = StrictBoolean(
        load_default=False,
        metadata={
            "description": f"Also put the thumbnail into the event, as a `data:` URL, when it has ≤ {MAX_INLINE_BYTES} "
            "bytes."
        },
    )


class JobRequestSchema(SourcedSchema):
    """A job to be done: its source is at a URL, or comes along."""

    takes_form = True
    json_schema: ClassVar = {"oneOf": [{"required": ["source_url"]}, {"required": ["source_data"]}]}

    source_url = build_url_field("The original image: http or https, at a public address.")
    callback_url = build_url_field("Where the signed webhook goes at the end.", load_default=None, allow_none=True)
    source_data = Base64(
        metadata={
            "description": "Instead of `source_url`: the image itself, in base64, ≤ THUMBS_MAX_UPLOAD_BYTES.",
            "format": "byte",
            "minLength": 1,
        }
    )

    @ma.validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_source(self, _values: dict[str, Any], original: Any, **_: Any) -> None:
        """Raise ValidationError unless there is just one source; one that is wrong has told so itself."""
        if not isinstance(original, dict):
            return  # Which is told already.
        given = [name for name in ("source_url", "source_data") if name in original]
        if not given:
            raise ma.ValidationError("Missing data for required field, or for `source_data`.", "source_url")
        if len(given) > 1:
            raise ma.ValidationError("Must be left out where there is a `source_url`.", "source_data")


class JobFormSchema(SourcedSchema):
    """The same as a form; what is no text there is written as JSON."""

    callback_url = build_url_field("Where the signed webhook goes at the end.")
    file = fields.Raw(
        required=True,
        metadata={"type": "string", "format": "binary", "minLength": 1, "description": "The image itself."},
    )


class KeyHeaderSchema(HeaderSchema):
    """The header that makes it safe to send a request again."""

    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        load_default=leave_out,
        validate=validate.Length(1, 255),
        metadata={"description": "Yours: for 24 hours, the same key and body lead to what they led to first."},
    )


class CreateHeaderSchema(KeyHeaderSchema, WaitHeaderSchema):
    """The headers of a request for a job."""


class JobQuerySchema(PageQuerySchema):
    """Which jobs."""

    status = build_choice(JobStatus, "Only jobs of this status.", load_default=leave_out)
    created_after = Moment(
        load_default=leave_out, metadata={"description": "Only jobs that were created after this moment."}
    )
    created_before = Moment(
        load_default=leave_out, metadata={"description": "Only jobs that were created before this moment."}
    )


class SpecSchema(AnswerSchema):
    """What was asked for."""

    width = _tell_pixels("Width of the box.")
    height = _tell_pixels("Height of the box.")
    fit = build_choice(Fit, "How the picture meets the box.", required=True)
    format = build_choice(OutputFormat, "The format that was asked for.", required=True)
    quality = fields.Integer(required=True, metadata={"description": "Ignored for PNG.", "minimum": 1, "maximum": 100})
    background = fields.String(required=True, metadata={"pattern": COLOR_PATTERN})


class ThumbnailSchema(AnswerSchema):
    """The finished image."""

    url = fields.String(required=True, metadata={"description": "Where it is; no key is needed.", "format": "uri"})
    content_type = build_choice(EXTENSIONS, "Its format.", required=True)
    width = _tell_pixels("Width.")
    height = _tell_pixels("Height.")
    bytes = build_count("How many bytes it has.")
    sha256 = fields.String(
        required=True, metadata={"description": "Of its bytes, in hexadecimal.", "pattern": "^[0-9a-f]{64}$"}
    )
    thumbhash = fields.String(
        required=True, metadata={"description": "A placeholder in base64.", "pattern": "^[A-Za-z0-9+/]+={0,2}$"}
    )
    dominant_color = fields.String(required=True, metadata={"pattern": COLOR_PATTERN})


class EventThumbnailSchema(ThumbnailSchema):
    """The finished image, as an event tells it."""

    data_url = fields.String(
        metadata={
            "description": f"The image itself, where `inline` asked for it and it has ≤ {MAX_INLINE_BYTES} bytes.",
            "format": "uri",
        }
    )


class SourceSchema(AnswerSchema):
    """The original image."""

    content_type = fields.String(required=True, metadata={"description": "Its format, as its bytes tell."})
    width = build_count("As displayed, after its EXIF orientation, in px.")
    height = build_count("As displayed, after its EXIF orientation, in px.")
    bytes = build_count("How many bytes it has.")


class JobErrorSchema(AnswerSchema):
    """Why a job failed; the codes are a closed list."""

    code = build_choice([error.code for error in list_job_errors()], "Stable code, for programs.", required=True)
    stage = build_choice([error.stage for error in JobError.__subclasses__()], "Where it failed.", required=True)
    message = fields.String(required=True, metadata={"description": "The code in a sentence."})
    retryable = fields.Boolean(required=True, metadata={"description": "Whether it may go well another time."})
    source_status = fields.Integer(
        required=True, allow_none=True, metadata={"description": "What the source's server answered, if it did."}
    )


class CallbackSchema(AnswerSchema):
    """What became of the job's callback: a fact apart from the job's status."""

    status = build_choice(("none", "pending", "delivered", "failed"), "How the callback stands.", required=True)
    attempt_count = build_count("How many attempts there were.")
    next_attempt_at = fields.AwareDateTime(required=True, allow_none=True)


class VariantSchema(AnswerSchema):
    """One more thumbnail of the same source; once the job has succeeded, it has a thumbnail or an error of its own."""

    spec = fields.Nested(SpecSchema, required=True)
    thumbnail = fields.Nested(ThumbnailSchema, required=True, allow_none=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)


class ToldJobSchema(AnswerSchema):
    """What is told of a job, everywhere."""

    id = build_id("job")
    status = build_choice(JobStatus, "queued → running → succeeded or failed.", required=True)
    source_url = fields.String(
        required=True, allow_none=True, metadata={"description": "null where it was uploaded.", "format": "uri"}
    )
    callback_url = fields.String(required=True, allow_none=True, metadata={"format": "uri"})
    spec = fields.Nested(SpecSchema, required=True)
    inline = fields.Boolean(required=True, metadata={"description": "Whether its event is to hold the image, too."})
    metadata = fields.Dict(keys=fields.String(), required=True, metadata={"description": "Yours, as you sent it."})
    thumbnail = fields.Nested(ThumbnailSchema, required=True, allow_none=True)
    variants = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(VariantSchema),
        required=True,
        metadata={"description": "More thumbnails of the same source, by name."},
    )
    source = fields.Nested(SourceSchema, required=True, allow_none=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)
    reused = build_choice(
        Reuse,
        "What was shared with an earlier job for the same: its run (in_flight), or its thumbnail, after the source's "
        "server had said that nothing has changed (revalidated) or without asking it (fresh).",
        required=True,
        allow_none=True,
    )
    run_count = build_count("How often it was run.")
    timings_ms = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "How long each step of the last run took."},
    )
    created_at = fields.AwareDateTime(required=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)
    expires_at = fields.AwareDateTime(required=True, metadata={"description": "When the job is forgotten."})


class EventJobSchema(ToldJobSchema):
    """A job, as its event tells it."""

    thumbnail = fields.Nested(EventThumbnailSchema, required=True, allow_none=True)


class JobSchema(ToldJobSchema):
    """A job."""

    callback = fields.Nested(CallbackSchema, required=True)


class JobPageSchema(AnswerSchema):
    """A page of jobs, newest first."""

    items = fields.List(fields.Nested(JobSchema), required=True)
    next_cursor = build_next_cursor()


class BatchRequestSchema(ma.Schema):
    """Jobs that belong together."""

    jobs = fields.List(fields.Nested(JobRequestSchema), required=True, validate=validate.Length(1, MAX_BATCH_JOBS))
    callback_url = build_url_field(
        "Where `batch.finished` goes, after the last job.", load_default=None, allow_none=True
    )


class BatchJobSchema(AnswerSchema):
    """A job of a batch."""

    id = build_id("job")
    status = build_choice(JobStatus, "queued → running → succeeded or failed.", required=True)


class BatchSchema(AnswerSchema):
    """A batch."""

    id = build_id("bat")
    status = build_choice(("running", "finished"), "finished: every job is final.", required=True)
    callback_url = fields.String(required=True, allow_none=True, metadata={"format": "uri"})
    jobs = fields.List(fields.Nested(BatchJobSchema), required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)
