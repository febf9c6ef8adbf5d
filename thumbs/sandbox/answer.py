"""What a child answers, as plain data, and how much of it the parent believes.

An image may have taken the child over, so that an answer is a stranger's: `parse_answer` takes known members of known
types only, and `check_rendering` holds the pictures against what was asked. `pipe` carries the data, `decoder` checks.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final

from thumbs.domain import DecodeLimits, Fit, OutputFormat, Picture, Rendering, Step, ThumbnailSpec
from thumbs.errors import DecodeError, JobError, RenderError

MAX_DETAIL_CHARS: Final = 200

RENDERING_MEMBERS: Final[Mapping[str, type]] = {
    "source_content_type": str,
    "source_width": int,
    "source_height": int,
    "pictures": list,
    "steps": list,
}
"""As they are named in Rendering."""

PICTURE_MEMBERS: Final[Mapping[str, type]] = {
    "bytes": int,
    "content_type": str,
    "width": int,
    "height": int,
    "thumbhash": str,
    "dominant_color": str,
}
"""As they are named in Picture; `bytes` are its part of the answer's, which the parent hashes itself."""

STEP_MEMBERS: Final[Mapping[str, type]] = {"name": str, "ms": float, "width": int, "height": int}
REFUSAL_MEMBERS: Final[Mapping[str, type]] = {"code": str, "detail": str}

THUMBHASH: Final = re.compile(r"[A-Za-z0-9+/]{18,34}={0,2}")
"""Base64 of 13 to 25 bytes: a header of 5 or 6, and 4 bits for each of 15 to 38 waves."""

COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
STEP_NAME: Final = re.compile(r"[a-z ]{1,20}")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A typed error as it travels from the child: as data, since what the child raises is not to be trusted."""

    code: str
    detail: str

    @classmethod
    def of(cls, error: JobError) -> "Refusal":
        """Take what travels of an error."""
        return cls(error.code, error.detail)


Answer = Rendering | Refusal | None
"""None is the answer of a child that was only asked whether it is up."""


def pack_answer(answer: Answer) -> tuple[Json, bytes]:
    """Write an answer down as JSON members and the thumbnails' bytes."""
    if isinstance(answer, Rendering):
        members = {name: getattr(answer, name) for name in RENDERING_MEMBERS}
        members["pictures"] = [_pack_picture(each) for each in answer.pictures]
        members["steps"] = [asdict(step) for step in answer.steps]
        bodies = [each.body for each in answer.pictures if isinstance(each, Picture)]
        return {"kind": "rendering"} | members, b"".join(bodies)
    if isinstance(answer, Refusal):
        return {"kind": "refusal"} | _pack_refusal(answer), b""
    return {"kind": "ready"}, b""


def parse_answer(kind: str, members: Json, body: bytes) -> Answer:
    """Read an answer; raises ValueError when it is none of ours."""
    if kind == "rendering":
        return _parse_rendering(members, body)
    if body:
        raise ValueError("bytes that belong to no picture")
    if kind == "refusal":
        return _parse_refusal(members)
    if kind == "ready":
        _check_members(members, {})
        return None
    raise ValueError("an unknown kind of answer")


def build_error(refusal: Refusal) -> JobError:
    """Build the error that a child names; raises ValueError for one that is not a decoder's to name."""
    for error in (*DecodeError.__subclasses__(), *RenderError.__subclasses__()):
        if error.code == refusal.code:
            return error(refusal.detail)
    raise ValueError("the child named no error of ours")


def clean_text(text: str) -> str:
    """Make a stranger's text fit for a log line: short, and printable."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_DETAIL_CHARS])


def check_rendering(rendering: Rendering, specs: Sequence[ThumbnailSpec], limits: DecodeLimits) -> None:
    """Raise ValueError, naming the fact, when this cannot be what was asked for."""
    facts = {
        "source's content type": rendering.source_content_type in {f"image/{name}" for name in limits.formats},
        "source's size": _is_within_limits(rendering, limits),
        "number of pictures": len(rendering.pictures) == len(specs),
        "steps": all(_is_possible(step) for step in rendering.steps),
    }
    _raise_for_wrong(facts, "rendering")
    for picture, spec in zip(rendering.pictures, specs, strict=True):
        if isinstance(picture, Picture):
            _check_picture(picture, spec)


def _check_picture(picture: Picture, spec: ThumbnailSpec) -> None:
    facts = {
        "body": bool(picture.body),
        "content type": picture.content_type in _list_output_types(spec),
        "size": _is_size_as_asked(picture, spec),
        "thumbhash": THUMBHASH.fullmatch(picture.thumbhash) is not None,
        "dominant colour": COLOUR.fullmatch(picture.dominant_color) is not None,
    }
    _raise_for_wrong(facts, "picture")


def _raise_for_wrong(facts: Mapping[str, bool], whose: str) -> None:
    wrong = [name for name, is_right in facts.items() if not is_right]
    if wrong:
        raise ValueError(f"the {whose}'s {' and '.join(wrong)} cannot be")


def _pack_picture(picture: Picture | JobError) -> Json:
    if isinstance(picture, JobError):
        return _pack_refusal(Refusal.of(picture))
    return {name: getattr(picture, name) for name in PICTURE_MEMBERS if name != "bytes"} | {"bytes": len(picture.body)}


def _pack_refusal(refusal: Refusal) -> Json:
    return {"code": refusal.code, "detail": refusal.detail[:MAX_DETAIL_CHARS]}


def _parse_rendering(members: Json, body: bytes) -> Rendering:
    _check_members(members, RENDERING_MEMBERS)
    rest, pictures = body, []
    for told in members["pictures"]:
        picture, rest = _parse_picture(told, rest)
        pictures.append(picture)
    if rest:
        raise ValueError("bytes that belong to no picture")
    steps = tuple(_parse_step(told) for told in members["steps"])
    return Rendering(**members | {"pictures": tuple(pictures), "steps": steps})


def _parse_picture(members: Json, body: bytes) -> tuple[Picture | JobError, bytes]:
    """Read a picture or the error in its place, and give the bytes that are left for the next ones."""
    if isinstance(members, dict) and "code" in members:
        return build_error(_parse_refusal(members)), body
    _check_members(members, PICTURE_MEMBERS)
    size_bytes = members.pop("bytes")
    if not 0 <= size_bytes <= len(body):
        raise ValueError("a picture of more bytes than there are")
    own = body[:size_bytes]
    return Picture(body=own, sha256=sha256(own).hexdigest(), **members), body[size_bytes:]


def _parse_refusal(members: Json) -> Refusal:
    _check_members(members, REFUSAL_MEMBERS)
    return Refusal(members["code"], clean_text(members["detail"]))


def _parse_step(members: Json) -> Step:
    _check_members(members, STEP_MEMBERS)
    return Step(**members)


def _check_members(members: Any, expected: Mapping[str, type]) -> None:
    if not isinstance(members, dict) or {name: type(value) for name, value in members.items()} != expected:
        raise ValueError("the answer has other members")


def _list_output_types(spec: ThumbnailSpec) -> set[str]:
    if spec.format is OutputFormat.AUTO:
        return {f"image/{OutputFormat.JPEG}", f"image/{OutputFormat.PNG}"}
    return {f"image/{spec.format}"}


def _is_size_as_asked(picture: Picture, spec: ThumbnailSpec) -> bool:
    if spec.fit is Fit.INSIDE:
        return 1 <= picture.width <= spec.width and 1 <= picture.height <= spec.height
    return (picture.width, picture.height) == (spec.width, spec.height)


def _is_within_limits(rendering: Rendering, limits: DecodeLimits) -> bool:
    max_pixels = max(limits.max_pixels, limits.max_pixels_baseline_jpeg)
    sides = rendering.source_width, rendering.source_height
    return min(sides) >= 1 and max(sides) <= limits.max_side_px and sides[0] * sides[1] <= max_pixels


def _is_possible(step: Step) -> bool:
    return STEP_NAME.fullmatch(step.name) is not None and math.isfinite(step.ms) and min(step.width, step.height) >= 0
