"""The shapes of endpoints. No message repeats a secret, or the value of a header."""

import re
from collections.abc import Mapping
from typing import Any, Final

import marshmallow as ma
from marshmallow import fields, validate

from thumbs.documents import HIDDEN
from thumbs.domain import ANY_EVENT, EVENT_PATTERNS, DisabledReason, EndpointStatus, Health
from thumbs.signing import parse_secret
from thumbs.web.schemas.parts import (
    AnswerSchema,
    Moment,
    StrictInteger,
    build_choice,
    build_count,
    build_id,
    build_next_cursor,
    build_url_field,
    write_pattern,
)

MAX_EVENT_TYPES: Final = 20
MAX_DESCRIPTION_CHARS: Final = 255
MAX_HEADERS: Final = 10
MAX_HEADER_VALUE_CHARS: Final = 1_024
DEFAULT_GRACE_SECONDS: Final = 86_400
MAX_GRACE_SECONDS: Final = 604_800

HEADER_NAME: Final = r"[A-Za-z0-9-]{1,64}"
HEADER_VALUE: Final = r"[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa1-\xff]*[\x21-\x7e\xa1-\xff])?"
"""Visible ASCII or Latin-1; spaces in between, as they are lost at the ends (RFC 9110 section 5.5)."""
SECRET: Final = "whsec_((B{4}){8,20}(B{2}==|B{3}=)?|(B{4}){21}(B{2}==)?)".replace("B", "[A-Za-z0-9+/]")
"""24 to 64 bytes in base64."""
_HEADER_NAME = re.compile(HEADER_NAME)
_OUR_HEADER = re.compile(r"(webhook-|thumbs-|content-).*|host|connection|transfer-encoding|user-agent", re.IGNORECASE)
_HEADER_VALUE = re.compile(HEADER_VALUE)
_UNSTORABLE = re.compile(r"[\0\ud800-\udfff]")
"""PostgreSQL's text holds neither NUL nor half of a surrogate pair."""


# ── checks ──────────────────────────────────────────────────────────────────────────────────────────────


def check_text(text: str) -> None:
    """Raise ValidationError for text that not every database can hold."""
    if _UNSTORABLE.search(text):
        raise ma.ValidationError("Must be text without NUL and without lone surrogates.")


def check_header_name(name: str) -> None:
    """Raise ValidationError for the name of a header that is ours to set, or that cannot be sent."""
    if not _HEADER_NAME.fullmatch(name):
        raise ma.ValidationError("The name of a header has 1 to 64 letters, digits and hyphens.")
    if _OUR_HEADER.fullmatch(name):
        raise ma.ValidationError("This header is ours to set.")


def check_header_value(value: str) -> None:
    """Raise ValidationError for the value of a header that cannot be sent."""
    if len(value) > MAX_HEADER_VALUE_CHARS or not _HEADER_VALUE.fullmatch(value):
        raise ma.ValidationError(
            f"Must be 1 to {MAX_HEADER_VALUE_CHARS} visible characters of ASCII or Latin-1, and spaces between them."
        )


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ValidationError for too many headers, and for one that is there twice."""
    if len(headers) > MAX_HEADERS:
        raise ma.ValidationError(f"Must be at most {MAX_HEADERS}.")
    if len({name.lower() for name in headers}) < len(headers):
        raise ma.ValidationError("Must not have two names that differ in nothing but upper and lower case.")


def check_headers_new(headers: Mapping[str, str]) -> None:
    """Raise ValidationError where the value of a header is what we show instead: there is none yet to keep."""
    if HIDDEN in headers.values():
        raise ma.ValidationError(f"{HIDDEN} stands for a value that is not shown: send the value itself.")


def check_secret(text: str) -> None:
    """Raise ValidationError for a secret that is none."""
    try:
        parse_secret(text)
    except ValueError as error:
        raise ma.ValidationError(str(error)) from None  # Its cause may hold the secret.


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────


class EventTypesField(fields.List[str]):
    """The events that an endpoint is sent, each named once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            build_choice(EVENT_PATTERNS, "An event's type, or a pattern of several."),
            validate=validate.Length(1, MAX_EVENT_TYPES),
            metadata={"description": "Which events it is sent; a ping comes in any case."},
            **options,
        )

    def deserialize(self, *args: Any, **kwargs: Any) -> Any:
        """Check the list as it was sent, then leave out what is there again."""
        names = super().deserialize(*args, **kwargs)
        return tuple(dict.fromkeys(names)) if isinstance(names, list) else names


def _build_url(**options: Any) -> fields.String:
    return build_url_field("Where the events go: https, or what THUMBS_CALLBACK_SCHEMES allows.", **options)


def _build_description(**options: Any) -> fields.String:
    return fields.String(
        allow_none=True,
        validate=[validate.Length(max=MAX_DESCRIPTION_CHARS), check_text],
        metadata={"description": "Yours.", "pattern": r"^[^\x00]*$"},
        **options,
    )


def _build_headers(description: str, *checks: Any, **options: Any) -> fields.Dict:
    return fields.Dict(
        keys=fields.String(validate=check_header_name, metadata={"pattern": write_pattern(HEADER_NAME)}),
        values=fields.String(
            validate=check_header_value,
            metadata={"pattern": write_pattern(HEADER_VALUE), "maxLength": MAX_HEADER_VALUE_CHARS},
        ),
        validate=[check_headers, *checks],
        metadata={"description": description, "maxProperties": MAX_HEADERS},
        **options,
    )


class EndpointRequestSchema(ma.Schema):
    """A receiver to be registered."""

    url = _build_url(required=True)
    event_types = EventTypesField(load_default=(ANY_EVENT,))
    description = _build_description(load_default=None)
    headers = _build_headers("Sent with every webhook; the values are not shown.", check_headers_new, load_default=dict)
    secret = fields.String(
        load_default=None,
        validate=check_secret,
        metadata={
            "description": "`whsec_` and 24 to 64 bytes in base64; without it, one is drawn.",
            "pattern": write_pattern(SECRET),
        },
    )


class EndpointChangeSchema(ma.Schema):
    """What is to be changed of a receiver."""

    url = _build_url()
    event_types = EventTypesField()
    description = _build_description()
    headers = _build_headers(f"All of them; a value `{HIDDEN}` keeps the one that the header has.")


class NothingSchema(ma.Schema):
    """No body, or an empty object."""

    is_body_optional = True


class RotateRequestSchema(ma.Schema):
    """How a secret is to be rotated."""

    is_body_optional = True

    grace_seconds = StrictInteger(
        load_default=DEFAULT_GRACE_SECONDS,
        validate=validate.Range(0, MAX_GRACE_SECONDS),
        metadata={"description": "How long the secret before signs, too.", "default": DEFAULT_GRACE_SECONDS},
    )


class RecoverRequestSchema(ma.Schema):
    """The time in which the events were made that are to be sent again."""

    since = Moment(required=True, metadata={"description": "From when on; with an offset."})
    until = Moment(load_default=None, metadata={"description": "Now, when it is left out."})


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────


def _tell_secret() -> fields.String:
    told = {"description": "Shown here, and never again.", "pattern": write_pattern(SECRET)}
    return fields.String(required=True, metadata=told)


class EndpointSchema(AnswerSchema):
    """A registered receiver."""

    id = build_id("ep")
    url = fields.String(required=True, metadata={"format": "uri"})
    event_types = fields.List(build_choice(EVENT_PATTERNS, "An event's type, or a pattern of several."), required=True)
    description = fields.String(required=True, allow_none=True)
    headers = fields.Dict(
        keys=fields.String(), values=fields.String(), required=True, metadata={"description": "Values are not shown."}
    )
    status = build_choice(EndpointStatus, "Whether it is sent anything.", required=True)
    disabled_reason = build_choice(
        DisabledReason, "By its owner, by its 410, or after days of failures.", required=True, allow_none=True
    )
    health = build_choice(Health, "How its deliveries go; open: its breaker is.", required=True)
    created_at = fields.AwareDateTime(required=True)


class NewEndpointSchema(EndpointSchema):
    """A receiver that was just registered, with its secret."""

    secret = _tell_secret()


class EndpointPageSchema(AnswerSchema):
    """Endpoints, newest first."""

    items = fields.List(fields.Nested(EndpointSchema), required=True)
    next_cursor = build_next_cursor()


class PingSchema(AnswerSchema):
    """A ping on its way."""

    event_id = build_id("evt")
    delivery_id = build_id("dlv")


class RotationSchema(AnswerSchema):
    """A new secret."""

    secret = _tell_secret()
    previous_expires_at = fields.AwareDateTime(required=True)


class RecoverySchema(AnswerSchema):
    """What is sent again."""

    matched = build_count("How many deliveries.")
