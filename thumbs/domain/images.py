"""Images, asked for and made: the spec, the source, the thumbnail and its bytes."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from thumbs.errors import JobError


class Fit(StrEnum):
    """How the picture meets the box."""

    COVER = "cover"
    CONTAIN = "contain"
    FILL = "fill"
    INSIDE = "inside"


class OutputFormat(StrEnum):
    """What the thumbnail is encoded as; AUTO is JPEG, or PNG where the source has transparent pixels."""

    AUTO = "auto"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"


@dataclass(frozen=True, slots=True)
class ThumbnailSpec:
    """What was asked for: width and height in px, quality 1..100, background as `#rrggbb`."""

    width: int = 100
    height: int = 100
    fit: Fit = Fit.COVER
    format: OutputFormat = OutputFormat.AUTO
    quality: int = 80
    background: str = "#ffffff"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a decoder takes: format names as in THUMBS_FORMATS; px a side and pixels (width times height), undecoded."""

    formats: frozenset[str] = frozenset({"jpeg", "png", "gif", "bmp", "webp", "avif"})
    max_pixels: int = 50_000_000
    max_pixels_baseline_jpeg: int = 200_000_000
    max_side_px: int = 30_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished thumbnail as the decoder hands it over: its bytes and the facts about it.

    `thumbhash` is base64 (evanw/thumbhash), `dominant_color` is `#rrggbb`, sizes are in px.
    """

    body: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    sha256: str
    thumbhash: str
    dominant_color: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the way from bytes to pictures, which took `ms`; the picture had that size in px after it."""

    name: str
    ms: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Rendering:
    """What one decode led to: a picture for each spec, in their order, or why that one alone could not be made.

    The source's size is in px after orientation.
    """

    source_content_type: str
    source_width: int
    source_height: int
    pictures: tuple[Picture | JobError, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The facts of a stored thumbnail."""

    content_type: str
    width: int
    height: int
    bytes: int
    sha256: str
    thumbhash: str
    dominant_color: str

    @classmethod
    def of(cls, picture: Picture) -> Self:
        """Take the facts of a picture."""
        return cls(
            content_type=picture.content_type,
            width=picture.width,
            height=picture.height,
            bytes=len(picture.body),
            sha256=picture.sha256,
            thumbhash=picture.thumbhash,
            dominant_color=picture.dominant_color,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """The facts of the original image; width and height in px, as displayed (after orientation)."""

    content_type: str
    width: int
    height: int
    bytes: int

    @classmethod
    def of(cls, rendering: Rendering, size_bytes: int) -> Self:
        """Take the facts of the source that was rendered."""
        return cls(rendering.source_content_type, rendering.source_width, rendering.source_height, bytes=size_bytes)


@dataclass(frozen=True, slots=True)
class Caching:
    """What a source's server says of its answer: for how long it is good, and by what to ask whether it has changed.

    `url` is the one that it came from, behind all redirects; only there do `etag` and `last_modified` mean anything.
    Without `may_keep` nothing of it may be used for a request that came later; what `is_private` never for another
    account.
    """

    url: str
    may_keep: bool = True
    is_private: bool = False
    fresh_seconds: float = 0.0
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """A source as it arrived; without a body where it is unchanged since the answer that was asked about.

    `size_bytes` is that of the whole source, of which `body` may be as much as was needed.
    """

    body: bytes = field(repr=False)
    caching: Caching
    size_bytes: int = 0
    is_unchanged: bool = False

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing of it is missing."""
        return len(self.body) == self.size_bytes


@dataclass(frozen=True, slots=True)
class Blob:
    """A thumbnail's bytes in storage, under a name that cannot be guessed."""

    name: str
    content_type: str
    sha256: str
    body: bytes = field(repr=False)
    expires_at: datetime
