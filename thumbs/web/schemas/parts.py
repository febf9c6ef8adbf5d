"""What the shapes of several subjects are made of: fields, the base of answers, problems, pages, and headers."""

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import marshmallow as ma
from marshmallow import fields, validate

MAX_URL_BYTES: Final = 2_048
ULID_PATTERN: Final = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_QUERY_INTEGER = re.compile(r"-?[0-9]{1,9}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)


def leave_out() -> None:
    """Be the default of a parameter that may be left out: as a value, None would make null one that may be sent."""


class StrictInteger(fields.Integer):
    """A JSON integer, as JSON Schema has it: 3 and 3.0, but neither "3", nor 3.7, nor true."""

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class StrictBoolean(fields.Boolean):
    """true or false, and none of the words and numbers that marshmallow takes for them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class Base64(fields.String):
    """Bytes in base64 (RFC 4648 section 4); those of a form's file come as they are."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        body = value if isinstance(value, bytes) else _decode(super()._deserialize(value, attr, data, **kwargs))
        if not body:
            raise ma.ValidationError("Must not be empty.")
        return body


def _decode(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ma.ValidationError("Must be base64 (RFC 4648 section 4), without line breaks.") from error


class QueryInteger(fields.Integer):
    """An integer in a query: neither `1_0` nor ` 10`, which Python would read as one."""

    def _validated(self, value: Any) -> Any:
        if not _QUERY_INTEGER.fullmatch(str(value)):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Moment(fields.AwareDateTime):
    """A moment as RFC 3339 writes it: ISO 8601 knows weeks and ordinal days, too, and Python reads those."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        return super()._deserialize(value.upper(), attr, data, **kwargs)


def check_url_size(url: str) -> None:
    """Raise ValidationError when the URL is longer than an event has room for."""
    if not 1 <= len(url.encode("utf-8", "surrogatepass")) <= MAX_URL_BYTES:
        raise ma.ValidationError(f"Must be 1 to {MAX_URL_BYTES} bytes long, as UTF-8.")


def build_url_field(description: str, **options: Any) -> fields.String:
    """Build the field of a URL; whether policy allows it is for the use case to say."""
    told = {"description": description, "format": "uri", "maxLength": MAX_URL_BYTES}
    return fields.String(validate=check_url_size, metadata=told, **options)


def build_id(prefix: str, description: str = "", **options: Any) -> fields.String:
    """Build the field of an id that an answer tells."""
    told = {"pattern": write_pattern(f"{prefix}_ULID")} | ({"description": description} if description else {})
    return fields.String(required=True, metadata=told, **options)


def build_count(description: str, **options: Any) -> fields.Integer:
    """Build the field of a number that an answer tells, and that is never negative."""
    return fields.Integer(required=True, metadata={"description": description, "minimum": 0}, **options)


def write_pattern(pattern: str) -> str:
    """Write a pattern as JSON Schema has them, JavaScript's and not anchored; ULID stands for one of those."""
    return f"^{pattern.replace('ULID', ULID_PATTERN)}$"


def build_choice(values: Any, description: str, **options: Any) -> fields.String:
    """Build the field of a word out of a closed list."""
    return fields.String(
        validate=validate.OneOf([str(value) for value in values]), metadata={"description": description}, **options
    )


def build_pattern_field(
    pattern: str, error: str, metadata: Mapping[str, Any] | None = None, **options: Any
) -> fields.String:
    """Build the field of text of one form; in `pattern`, ULID stands for one of those."""
    whole = re.compile(pattern.replace("ULID", ULID_PATTERN))

    def check(text: str) -> None:
        if not whole.fullmatch(text):
            raise ma.ValidationError(error)

    return fields.String(validate=check, metadata={**(metadata or {}), "pattern": write_pattern(pattern)}, **options)


class HeaderSchema(ma.Schema):
    """The base of the headers that a request may have."""

    class Meta:
        """Other headers are not ours to refuse."""

        unknown = ma.EXCLUDE


class WaitHeaderSchema(HeaderSchema):
    """The header that asks us to wait."""

    prefer = fields.String(
        data_key="Prefer",
        load_default=leave_out,
        metadata={
            "description": "`wait=N` waits up to N ≤ 25 seconds for what is not there yet.",
            "example": "wait=5",
        },
    )


class AnswerSchema(ma.Schema):
    """The base of what we send: readers must expect further members."""

    class Meta:
        """Published as open: members may be added."""

        unknown = ma.EXCLUDE


class ProblemSchema(AnswerSchema):
    """A problem document (RFC 9457)."""

    type = fields.String(
        required=True,
        metadata={"description": "Names the kind of problem; ends with its code.", "format": "uri-reference"},
    )
    title = fields.String(required=True, metadata={"description": "The kind of problem in a sentence."})
    status = fields.Integer(required=True, metadata={"description": "The HTTP status.", "minimum": 400, "maximum": 599})
    code = fields.String(required=True, metadata={"description": "Stable code, for programs.", "pattern": "^[a-z_]+$"})
    detail = fields.String(required=True, metadata={"description": "What is wrong here, and what would be right."})
    errors = fields.Dict(
        keys=fields.String(), metadata={"description": "By place (`json`, `query`) and field: what is wrong with it."}
    )
    request_id = fields.String(required=True, metadata={"description": "Also in our log lines.", "maxLength": 200})


def build_limit() -> fields.Integer:
    """Build the parameter that says how long a page may be."""
    return QueryInteger(load_default=20, validate=validate.Range(1, 100), metadata={"description": "How many at most."})


def build_next_cursor(
    description: str = "To be sent as `cursor` for the next page; null on the last.",
) -> fields.String:
    """Build the field that says where the next page starts."""
    return fields.String(required=True, allow_none=True, metadata={"description": description})


class PageQuerySchema(ma.Schema):
    """Which page of a list."""

    limit = build_limit()
    cursor = build_pattern_field(
        "[a-z]+_ULID",
        "Must be a `next_cursor` that we gave.",
        load_default=leave_out,
        metadata={"description": "`next_cursor` of the page before."},
    )
