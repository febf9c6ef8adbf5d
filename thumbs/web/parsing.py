"""Reads request bodies: JSON in UTF-8 only, of bounded depth, and never a 500 for what somebody sends."""

import json
import math
from typing import Any, Final, NoReturn

import marshmallow as ma
from flask import Request
from flask_smorest import Blueprint
from gunicorn.http.errors import ParseException
from webargs.core import is_json, missing
from webargs.flaskparser import FlaskParser, abort
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

MAX_BODY_BYTES: Final = 64 * 1024
MAX_JSON_DEPTH: Final = 32
UNKNOWN_BY_LOCATION: Final = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": ma.RAISE}
"""What is too much is refused in a query as it is in a body: a filter with a typo must not find everything."""


class StrictParser(FlaskParser):
    """webargs' parser with 415 for a wrong type, and 400 for anything that is not sane JSON."""

    DEFAULT_UNKNOWN_BY_LOCATION = UNKNOWN_BY_LOCATION

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """Parse the body; where the schema says that it is optional, nothing at all is fine, of whatever type."""
        if getattr(schema, "is_body_optional", False) and not _read_body(req):
            return missing
        value = super().load_json(req, schema)
        if isinstance(value, dict):
            _check_lengths(value, schema)
        return value

    def _raw_load_json(self, req: Request) -> Any:
        """Parse the body; webargs calls this for the location `json`."""
        if not is_json(req.mimetype):
            raise UnsupportedMediaType("Send the body as application/json.")
        if req.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
        try:
            value = json.loads(
                _read_body(req).decode("utf-8"),
                object_pairs_hook=_build_object,
                parse_constant=_refuse_constant,
                parse_float=_parse_float,
            )
        except (ValueError, RecursionError) as error:  # Broken JSON, bad UTF-8, 5,000 digits; 1,000 levels.
            _refuse(str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read")
        if _is_deeper_than(value, MAX_JSON_DEPTH):
            _refuse(f"it is nested deeper than {MAX_JSON_DEPTH} levels")
        return value


class StrictBlueprint(Blueprint):
    """A blueprint whose arguments are read by our parser."""

    ARGUMENTS_PARSER = StrictParser()


def refuse_field(name: str, why: str) -> NoReturn:
    """Refuse the request for a member of its body, when only the view can tell that it is wrong."""
    abort(422, messages={"json": {name: [why]}})


def _read_body(req: Request) -> bytes:
    """Read the body to its end, or to MAX_BODY_BYTES: werkzeug cuts it there when nothing has told its length."""
    try:
        body = req.get_data()
    except (ParseException, OSError):  # The caller has left, or does not know how chunks are written.
        raise BadRequest("The body is not all there, or not sent as its headers say.") from None
    if req.content_length is None and len(body) >= MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def _check_lengths(value: dict[str, Any], schema: ma.Schema) -> None:
    """Refuse a list that is too long before its items are looked at: to refuse 20,000 empty jobs took 3 s."""
    for name, field in schema.fields.items():
        given = value.get(field.data_key or name)
        if isinstance(field, ma.fields.List) and isinstance(given, list):
            try:
                ma.validate.And(*(each for each in field.validators if isinstance(each, ma.validate.Length)))(given)
            except ma.ValidationError as error:
                abort(422, messages={"json": {field.data_key or name: error.messages}})


def _build_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a member that is there twice: of two programs, one would read the first, the other the last."""
    value = dict(members)
    if len(value) != len(members):
        _refuse("an object has a member twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    """Refuse what no double can hold: Python would read 1e999 as infinity, and write that as no JSON at all."""
    value = float(text)
    if math.isinf(value):
        _refuse("a number is too large")
    return value


def _refuse(why: str) -> NoReturn:
    abort(400, messages={"json": [f"The body is not valid JSON: {why}."]})


def _is_deeper_than(value: Any, levels: int) -> bool:
    """Tell whether lists and objects are nested deeper, level by level: no recursion on a stranger's data."""
    level = [value]
    for _ in range(levels + 1):
        level = [child for each in level for child in _list_children(each)]
        if not level:
            return False
    return True


def _list_children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
