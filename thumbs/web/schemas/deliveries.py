"""The shapes of deliveries and events."""

import marshmallow as ma
from marshmallow import fields, validate

from thumbs.domain import CALLBACKS, DeliveryStatus, EventType, Trigger
from thumbs.web.schemas.parts import AnswerSchema, PageQuerySchema, build_choice, build_pattern_field

# ── deliveries ──────────────────────────────────────────────────────────────────────────────────────────


class DeliveryQuerySchema(PageQuerySchema):
    """Which deliveries."""

    status = build_choice(DeliveryStatus, "Only deliveries of this status.", load_default=None)
    endpoint_id = build_pattern_field(
        f"(ep_ULID|{CALLBACKS})",
        f"Must be an endpoint's id, or `{CALLBACKS}`.",
        load_default=None,
        metadata={"description": f"Only deliveries to this endpoint; `{CALLBACKS}`: to jobs' and batches' own URLs."},
    )
    job_id = build_pattern_field("job_ULID", "Must be a job's id.", load_default=None)


class AttemptSchema(AnswerSchema):
    """One try of a delivery."""

    id = fields.String(required=True)
    number = fields.Integer(required=True)
    trigger = build_choice(Trigger, "The schedule, a redelivery, a recovery, or a ping.", required=True)
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
    status = build_choice(DeliveryStatus, "pending → sending → delivered or failed.", required=True)
    reason = fields.String(required=True, allow_none=True)
    attempt_count = fields.Integer(required=True)
    next_attempt_at = fields.AwareDateTime(required=True, allow_none=True)
    delivered_at = fields.AwareDateTime(required=True, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)


class DeliveryPageSchema(AnswerSchema):
    """Deliveries, newest first."""

    items = fields.List(fields.Nested(DeliverySchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class EventQuerySchema(ma.Schema):
    """Which events."""

    after = build_pattern_field(
        "evt_ULID",
        "Must be an event's id.",
        load_default=None,
        metadata={"description": "Only what became known after this event: `next_cursor` of the answer before."},
    )
    type = build_choice(EventType, "Only events of this type.", load_default=None)
    undelivered = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Only events that no receiver has taken."},
    )
    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))


class EventSchema(AnswerSchema):
    """An event, as it is sent to receivers."""

    id = fields.String(required=True)
    type = build_choice(EventType, "What it tells.", required=True)
    timestamp = fields.AwareDateTime(required=True)
    data = fields.Dict(keys=fields.String(), required=True)


class EventPageSchema(AnswerSchema):
    """Events, oldest first."""

    items = fields.List(fields.Nested(EventSchema), required=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata={"description": "To be sent as `after` next time."}
    )
