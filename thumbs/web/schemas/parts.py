"""What the shapes of several subjects are made of: fields, the base of answers, pages, and the headers of requests."""

import re
from collections.abc import Mapping
from typing import Any, Final

import marshmallow as ma
from marshmallow import fields, validate

MAX_URL_BYTES: Final = 2_048
ULID_PATTERN: Final = "[0-7][0-9A-HJKMNP-TV-Z]{25}"


class StrictInteger(fields.Integer):
    """A JSON integer: neither "3", nor 3.7, nor true."""

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


def check_url_size(url: str) -> None:
    """Raise ValidationError when the URL is longer than an event has room for."""
    if not 1 <= len(url.encode("utf-8", "surrogatepass")) <= MAX_URL_BYTES:
        raise ma.ValidationError(f"Must be 1 to {MAX_URL_BYTES} bytes long, as UTF-8.")


def build_url_field(description: str, **options: Any) -> fields.String:
    """Build the field of a URL; whether policy allows it is for the use case to say."""
    return fields.String(validate=check_url_size, metadata={"description": description, "format": "uri"}, **options)


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

    # JSON Schema's patterns are JavaScript's, and not anchored.
    return fields.String(validate=check, metadata={**(metadata or {}), "pattern": f"^{whole.pattern}$"}, **options)


class WaitHeaderSchema(ma.Schema):
    """The header that asks us to wait."""

    class Meta:
        """Other headers are not ours to refuse."""

        unknown = ma.EXCLUDE

    prefer = fields.String(
        data_key="Prefer",
        load_default=None,
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


class PageQuerySchema(ma.Schema):
    """Which page of a list."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    cursor = build_pattern_field(
        "[a-z]+_ULID",
        "Must be a `next_cursor` that we gave.",
        load_default=None,
        metadata={"description": "`next_cursor` of the page before."},
    )
