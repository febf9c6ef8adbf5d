"""What a child answers, as plain data, and how much of it the parent believes.

An image may have taken the child over, so that an answer is a stranger's: `parse_answer` takes known members of known
types only, and `check_picture` holds a picture against what was asked. `pipe` carries the data, `decoder` checks it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from thumbs.domain import DecodeLimits, Fit, OutputFormat, Picture, ThumbnailSpec

MAX_DETAIL_CHARS = 200

PICTURE_MEMBERS: Mapping[str, type] = {
    "content_type": str,
    "width": int,
    "height": int,
    "thumbhash": str,
    "dominant_color": str,
    "source_content_type": str,
    "source_width": int,
    "source_height": int,
}
"""As they are named in Picture; the parent hashes the bytes itself."""

REFUSAL_MEMBERS: Mapping[str, type] = {"code": str, "detail": str}

THUMBHASH = re.compile(r"[A-Za-z0-9+/]{18,34}={0,2}")
"""Base64 of 13 to 25 bytes: a header of 5 or 6, and 4 bits for each of 15 to 38 waves."""

COLOUR = re.compile(r"#[0-9a-f]{6}")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A typed error as it travels from the child: as data, since what the child raises is not to be trusted."""

    code: str
    detail: str


Answer = Picture | Refusal | None
"""None is the answer of a child that was only asked whether it is up."""


def pack_answer(answer: Answer) -> tuple[Json, bytes]:
    """Write an answer down as JSON members and the thumbnail's bytes."""
    if isinstance(answer, Picture):
        return {"kind": "picture"} | {name: getattr(answer, name) for name in PICTURE_MEMBERS}, answer.body
    if isinstance(answer, Refusal):
        return {"kind": "refusal", "code": answer.code, "detail": answer.detail[:MAX_DETAIL_CHARS]}, b""
    return {"kind": "ready"}, b""


def parse_answer(kind: str, members: Json, body: bytes) -> Answer:
    """Read an answer; raises ValueError when it is none of ours."""
    if kind == "picture":
        _check_members(members, PICTURE_MEMBERS)
        return Picture(body=body, sha256=sha256(body).hexdigest(), **members)
    if body:
        raise ValueError("bytes that belong to no picture")
    if kind == "refusal":
        _check_members(members, REFUSAL_MEMBERS)
        return Refusal(members["code"], clean_text(members["detail"]))
    if kind == "ready":
        _check_members(members, {})
        return None
    raise ValueError("an unknown kind of answer")


def clean_text(text: str) -> str:
    """Make a stranger's text fit for a log line: short, and printable."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_DETAIL_CHARS])


def check_picture(picture: Picture, spec: ThumbnailSpec, limits: DecodeLimits) -> None:
    """Raise ValueError, naming the fact, when this cannot be what was asked for."""
    facts = {
        "body": bool(picture.body),
        "content type": picture.content_type in _list_output_types(spec),
        "size": _is_size_as_asked(picture, spec),
        "thumbhash": THUMBHASH.fullmatch(picture.thumbhash) is not None,
        "dominant colour": COLOUR.fullmatch(picture.dominant_color) is not None,
        "source's content type": picture.source_content_type in {f"image/{name}" for name in limits.formats},
        "source's size": _is_within_limits(picture, limits),
    }
    wrong = [name for name, is_right in facts.items() if not is_right]
    if wrong:
        raise ValueError(f"the picture's {' and '.join(wrong)} cannot be")


def _check_members(members: Json, expected: Mapping[str, type]) -> None:
    if {name: type(value) for name, value in members.items()} != expected:
        raise ValueError("the answer has other members")


def _list_output_types(spec: ThumbnailSpec) -> set[str]:
    if spec.format is OutputFormat.AUTO:
        return {f"image/{OutputFormat.JPEG}", f"image/{OutputFormat.PNG}"}
    return {f"image/{spec.format}"}


def _is_size_as_asked(picture: Picture, spec: ThumbnailSpec) -> bool:
    if spec.fit is Fit.INSIDE:
        return 1 <= picture.width <= spec.width and 1 <= picture.height <= spec.height
    return (picture.width, picture.height) == (spec.width, spec.height)


def _is_within_limits(picture: Picture, limits: DecodeLimits) -> bool:
    max_pixels = max(limits.max_pixels, limits.max_pixels_baseline_jpeg)
    sides = picture.source_width, picture.source_height
    return min(sides) >= 1 and max(sides) <= limits.max_side_px and sides[0] * sides[1] <= max_pixels
