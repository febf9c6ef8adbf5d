"""Reads request bodies: JSON, or a form where one is taken, of bounded size; never a 500 for what somebody sends."""

from typing import Any, Final, NoReturn

import marshmallow as ma
from flask import Request
from flask_smorest import Blueprint
from gunicorn.http.errors import ParseException
from webargs.core import is_json, missing
from webargs.flaskparser import FlaskParser, abort
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from thumbs.web.forms import FILE_MEMBER, FORM_TYPE, read_form
from thumbs.web.strictjson import parse_json

MAX_BODY_BYTES: Final = 64 * 1024
"""Of a body without what its source takes; the most that a form's fields may have, too."""
MAX_FORM_PARTS: Final = 32
"""A job has a dozen members."""
UNKNOWN_BY_LOCATION: Final = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": ma.RAISE}
"""What is too much is refused in a query as it is in a body: a filter with a typo must not find everything."""


class StrictParser(FlaskParser):
    """webargs' parser with 415 for a wrong type, and 400 for anything that is not sane JSON."""

    DEFAULT_UNKNOWN_BY_LOCATION = UNKNOWN_BY_LOCATION

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """Parse the body; where the schema says that it is optional, nothing at all is fine, of whatever type."""
        if getattr(schema, "is_body_optional", False) and not _read_body(req):
            return missing
        is_form = getattr(schema, "takes_form", False) and req.mimetype == FORM_TYPE
        value = _read_form(req, schema) if is_form else super().load_json(req, schema)
        if isinstance(value, dict):
            _check_lengths(value, schema)
        return value

    def _raw_load_json(self, req: Request) -> Any:
        """Parse the body; webargs calls this for the location `json`."""
        if not is_json(req.mimetype):
            raise UnsupportedMediaType("Send the body as application/json.")
        if req.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
        body = _read_body(req, is_kept=False)
        _check_structure(body)
        value = parse_json(body)
        _check_rest(body, value)
        return value


class StrictBlueprint(Blueprint):
    """A blueprint whose arguments are read by our parser."""

    ARGUMENTS_PARSER = StrictParser()

    def arguments(self, schema: type[ma.Schema] | ma.Schema, **options: Any) -> Any:
        """Read arguments by a schema that is built here, once: webargs would build that of a class for each request."""
        return super().arguments(schema() if isinstance(schema, type) else schema, **options)


def refuse_field(name: str, why: str) -> NoReturn:
    """Refuse the request for a member of its body, when only the view can tell that it is wrong."""
    abort(422, messages={"json": {name: [why]}})


def _read_body(req: Request, *, is_kept: bool = True) -> bytes:
    """Read the body to its end, or to where werkzeug cuts it when its length is not told; kept to be read again."""
    try:
        body = req.get_data(cache=is_kept)
    except (ParseException, OSError):  # The caller has left, or does not know how chunks are written.
        raise BadRequest("The body is not all there, or not sent as its headers say.") from None
    if req.content_length is None and len(body) >= (req.max_content_length or MAX_BODY_BYTES):
        raise RequestEntityTooLarge
    return body


def _read_form(req: Request, schema: ma.Schema) -> dict[str, Any]:
    req.max_form_parts = MAX_FORM_PARTS
    try:
        value = read_form(req, schema)
    except (ValueError, ParseException, OSError):  # No boundary; the caller has left, or writes chunks wrongly.
        raise BadRequest("The form is not all there, or not written as its headers say.") from None
    if sum(map(len, req.form.values())) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return value


def _check_structure(body: bytes) -> None:
    """Refuse a body that is too long and names no source, or has more commas and brackets than one that is not.

    Each of those is an object to us: 14 MB of empty lists would take 300 MB.
    """
    has_source = FILE_MEMBER.encode() in body and sum(map(body.count, (b",", b"[", b"{"))) <= MAX_BODY_BYTES
    if len(body) > MAX_BODY_BYTES and not has_source:
        raise RequestEntityTooLarge


def _check_rest(body: bytes, value: Any) -> None:
    """Refuse a body that is too long without its source; PHP writes `/` as two characters, .NET `+` as six."""
    source = value.get(FILE_MEMBER) if isinstance(value, dict) else None
    escapes = body.count(b"\\/") + 5 * (body.count(b"\\u002b") + body.count(b"\\u002B"))
    source_chars = len(source) + escapes if isinstance(source, str) else 0
    if len(body) - source_chars > MAX_BODY_BYTES:
        raise RequestEntityTooLarge


def _check_lengths(value: dict[str, Any], schema: ma.Schema) -> None:
    """Refuse a list that is too long before its items are looked at: to refuse 20,000 empty jobs took 3 s."""
    for name, field in schema.fields.items():
        given = value.get(field.data_key or name)
        if isinstance(field, ma.fields.List) and isinstance(given, list):
            _check_length(given, field)
            schemas = [field.inner.schema] if isinstance(field.inner, ma.fields.Nested) else []
            for each in given if schemas else ():
                if isinstance(each, dict):
                    _check_lengths(each, *schemas)


def _check_length(given: list[Any], field: ma.fields.List[Any]) -> None:
    try:
        ma.validate.And(*(each for each in field.validators if isinstance(each, ma.validate.Length)))(given)
    except ma.ValidationError as error:
        abort(422, messages={"json": {field.data_key or field.name: error.messages}})
