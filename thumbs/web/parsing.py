"""Reads request bodies: JSON only, of bounded depth, and never a 500 for what somebody sends."""

import json
import math
from typing import Any, Final, NoReturn

from flask import Request
from webargs.core import is_json
from webargs.flaskparser import FlaskParser, abort
from werkzeug.exceptions import UnsupportedMediaType

MAX_JSON_DEPTH: Final = 32


class StrictParser(FlaskParser):
    """webargs' parser with 415 for a wrong type, and 400 for anything that is not sane JSON."""

    def _raw_load_json(self, req: Request) -> Any:
        """Parse the body; webargs calls this for the location `json`."""
        if not is_json(req.mimetype):
            raise UnsupportedMediaType("Send the body as application/json.")
        try:
            value = json.loads(req.get_data(), parse_constant=_refuse_constant, parse_float=_parse_float)
        except (ValueError, RecursionError) as error:  # Broken JSON, bad UTF-8, 5,000 digits; 1,000 levels.
            _refuse(str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read")
        if _is_deeper_than(value, MAX_JSON_DEPTH):
            _refuse(f"it is nested deeper than {MAX_JSON_DEPTH} levels")
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    """Refuse what no double can hold: Python would read 1e999 as infinity, and write that as no JSON at all."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("the number is too large")
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
