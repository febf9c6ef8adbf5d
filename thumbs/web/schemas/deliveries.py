"""The shapes of deliveries and events."""

import marshmallow as ma
from marshmallow import fields

from thumbs.domain import CALLBACKS, DeliveryStatus, EventType, Trigger
from thumbs.web.schemas.endpoints import EndpointSchema
from thumbs.web.schemas.jobs import BatchSchema, EventJobSchema
from thumbs.web.schemas.parts import (
    AnswerSchema,
    PageQuerySchema,
    build_choice,
    build_count,
    build_id,
    build_limit,
    build_next_cursor,
    build_pattern_field,
    leave_out,
    write_pattern,
)

# ── deliveries ──────────────────────────────────────────────────────────────────────────────────────────


class DeliveryQuerySchema(PageQuerySchema):
    """Which deliveries."""

    status = build_choice(DeliveryStatus, "Only deliveries of this status.", load_default=leave_out)
    endpoint_id = build_pattern_field(
        f"(ep_ULID|{CALLBACKS})",
        f"Must be an endpoint's id, or `{CALLBACKS}`.",
        load_default=leave_out,
        metadata={"description": f"Only deliveries to this endpoint; `{CALLBACKS}`: to jobs' and batches' own URLs."},
    )
    job_id = build_pattern_field(
        "job_ULID",
        "Must be a job's id.",
        load_default=leave_out,
        metadata={"description": "Only deliveries of this job's event."},
    )


class AttemptSchema(AnswerSchema):
    """One try of a delivery."""

    id = build_id("att")
    number = build_count("Counts the delivery's attempts, from 1.")
    trigger = build_choice(Trigger, "The schedule, a redelivery, a recovery, or a ping.", required=True)
    started_at = fields.AwareDateTime(required=True)
    duration_ms = build_count("Null while it is under way.", allow_none=True)
    http_status = fields.Integer(
        required=True, allow_none=True, metadata={"description": "What the receiver answered, if it did."}
    )
    error_code = fields.String(
        required=True, allow_none=True, metadata={"description": "Why it failed: null when it did not, or not yet."}
    )
    error_detail = fields.String(required=True, allow_none=True)
    response_headers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    response_body = fields.String(
        required=True, allow_none=True, metadata={"description": "The first 4,096 bytes of it."}
    )
    response_body_truncated = fields.Boolean(required=True)


class DeliverySchema(AnswerSchema):
    """One event on its way to one receiver."""

    id = build_id("dlv")
    event_id = build_id("evt")
    job_id = build_id("job", "Null when the event is not a job's.", allow_none=True)
    endpoint_id = build_id("ep", "Null when it goes to the URL that came with a job or batch.", allow_none=True)
    url = fields.String(required=True, metadata={"format": "uri"})
    status = build_choice(DeliveryStatus, "pending → sending → delivered or failed.", required=True)
    reason = fields.String(required=True, allow_none=True, metadata={"description": "Why it failed, when it has."})
    attempt_count = build_count("How many attempts there were.")
    next_attempt_at = fields.AwareDateTime(required=True, allow_none=True)
    delivered_at = fields.AwareDateTime(required=True, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)


class DeliveryPageSchema(AnswerSchema):
    """Deliveries, newest first."""

    items = fields.List(fields.Nested(DeliverySchema), required=True)
    next_cursor = build_next_cursor()


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class EventQuerySchema(ma.Schema):
    """Which events."""

    after = build_pattern_field(
        "evt_ULID",
        "Must be an event's id.",
        load_default=leave_out,
        metadata={"description": "Only what became known after this event: `next_cursor` of the answer before."},
    )
    type = build_choice(EventType, "Only events of this type.", load_default=leave_out)
    undelivered = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Only events that no receiver has taken."},
    )
    limit = build_limit()


class EventDataSchema(AnswerSchema):
    """What an event is about; which of these there are depends on its type."""

    job = fields.Nested(EventJobSchema, metadata={"description": "Of `job.succeeded` and `job.failed`."})
    batch = fields.Nested(BatchSchema, metadata={"description": "Of `batch.finished`."})
    endpoint_id = fields.String(metadata={"description": "Of `ping`.", "pattern": write_pattern("ep_ULID")})
    endpoint = fields.Nested(EndpointSchema, metadata={"description": "Of `endpoint.failing` and `endpoint.disabled`."})
    failing_since = fields.AwareDateTime(
        allow_none=True, metadata={"description": "Of `endpoint.failing` and `endpoint.disabled`."}
    )


class EventSchema(AnswerSchema):
    """An event, as it is sent to receivers."""

    id = build_id("evt")
    type = build_choice(EventType, "What it tells.", required=True)
    timestamp = fields.AwareDateTime(required=True)
    data = fields.Nested(EventDataSchema, required=True)


class EventPageSchema(AnswerSchema):
    """Events, oldest first."""

    items = fields.List(fields.Nested(EventSchema), required=True)
    next_cursor = build_next_cursor("To be sent as `after` next time.")
