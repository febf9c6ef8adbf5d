"""JSON as RFC 8259 has it and every program reads it alike; anything else is a 400, never a 500."""

import json
import math
from typing import Any, Final, NoReturn

from webargs.flaskparser import abort

MAX_JSON_DEPTH: Final = 32


def parse_json(body: bytes) -> Any:
    """Parse a document in UTF-8; refuses the request when it is broken, ambiguous or nested too deep."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_build_object,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
        )
    except (ValueError, RecursionError) as error:  # Broken JSON, bad UTF-8, 5,000 digits; 1,000 levels.
        _refuse(str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read")
    if _is_deeper_than(value, MAX_JSON_DEPTH):
        _refuse(f"it is nested deeper than {MAX_JSON_DEPTH} levels")
    return value


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
