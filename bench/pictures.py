"""The pictures that engines are compared on: files of the corpus, and those that are made from photographs by code.

Without the corpus all of them are made from one photo-like picture, so that the ratios can be had anywhere.
`bench.engine` and `bench.fidelity` ask for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from bench.source import build_tiny, provide_source
from tests.support.corpus import CORPUS
from tests.support.images import build_rgb_profile

MP2: Final = (1936, 1291)
MP6: Final = (2725, 2225)
MP12: Final = (4272, 2848)
MP100: Final = (12224, 8149)
P3_PRIMARIES: Final = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
"""Of Display P3, adapted to D50 (its own ICC profile)."""
JPEG_OPTIONS: Final = {"quality": 85}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One picture: its file in the corpus, or how it is made: size, mode, file name's end and what save() is told.

    `photo` names the photograph of the corpus to make it from where the corpus has no such file.
    """

    name: str
    file: str
    size: tuple[int, int] = MP2
    mode: str = "RGB"
    options: Mapping[str, Any] = field(default_factory=dict)
    photo: str = "photos/j02_photo.jpg"
    profile: str = ""

    @property
    def is_large(self) -> bool:
        """Tell whether it takes so long that it is asked for by an option only."""
        return self.size == MP100


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a file; `is_built` when code has made it."""

    name: str
    path: Path
    is_built: bool


RECIPES: Final = (
    Recipe("JPEG, 2.5 MP", "photos/j02_photo.jpg", options=JPEG_OPTIONS),
    Recipe("JPEG, 12 MP", "photos/j12_canon450d.jpg", MP12, options=JPEG_OPTIONS),
    Recipe("JPEG, 12 MP, Display P3", "photos/j12_iphone_icc.jpg", MP12, options=JPEG_OPTIONS, profile="P3"),
    Recipe("JPEG, 99.6 MP", "photos/j100_flat.jpg", MP100, options=JPEG_OPTIONS),
    Recipe(
        "JPEG, 6 MP, CMYK",
        "built/cmyk.jpg",
        MP6,
        "CMYK",
        JPEG_OPTIONS,
        photo="photos/j06_sharp.jpg",
        profile="photos/c00_sharp_cmyk_icc.jpg",
    ),
    Recipe("progressive, 2.5 MP", "photos/p02_photo.jpg", options=JPEG_OPTIONS | {"progressive": True}),
    Recipe("progressive, 12 MP", "photos/p12_canon450d.jpg", MP12, options=JPEG_OPTIONS | {"progressive": True}),
    Recipe("WebP, 2.5 MP", "photos/w02_lossy.webp"),
    Recipe("WebP, 6 MP", "photos/w06_lossy.webp", MP6),
    Recipe("WebP, 2.5 MP, alpha", "photos/w02_alpha.webp", mode="RGBA"),
    Recipe("WebP, 2.5 MP, lossless", "photos/w02_lossless.webp", options={"lossless": True}),
    Recipe("AVIF, 6 MP", "photos/a06_hato_8bit.avif", MP6, options={"speed": 9}),
    Recipe("AVIF, 12 MP", "photos/a12_phone.avif", MP12, options={"speed": 9}),
    Recipe("PNG, 2.5 MP", "photos/n02_rgb.png"),
    Recipe("PNG, 2.5 MP, alpha", "photos/n02_rgba.png", mode="RGBA"),
    Recipe("PNG, 2.5 MP, palette", "photos/n02_pal.png", mode="P"),
    Recipe("PNG, 0.7 MP, 16 bit", "photos/n07_weld_16bit.png", (1024, 684), "I;16"),
    Recipe("GIF, 2.5 MP", "photos/g02_static.gif", mode="P"),
    Recipe("BMP, 2.5 MP", "photos/b02_rgb.bmp"),
)
"""The table of the pixel contract, and 16 bits."""

MORE_RECIPES: Final = (
    Recipe("grey JPEG", "built/grey.jpg", mode="L", options=JPEG_OPTIONS),
    Recipe("JPEG 4:4:4", "built/444.jpg", options=JPEG_OPTIONS | {"subsampling": "4:4:4"}),
    Recipe("JPEG 4:2:2, odd size", "built/422.jpg", (1235, 833), options=JPEG_OPTIONS | {"subsampling": "4:2:2"}),
    Recipe("JPEG, 0.3 MP", "built/small.jpg", (641, 427), options=JPEG_OPTIONS),
    Recipe("progressive, 1/4", "built/quarter.jpg", (1235, 833), options=JPEG_OPTIONS | {"progressive": True}),
    Recipe("progressive, grey", "built/prog.jpg", mode="L", options=JPEG_OPTIONS | {"progressive": True}),
    Recipe("CMYK, no profile", "built/plain.jpg", mode="CMYK", options=JPEG_OPTIONS),
    Recipe("grey PNG, 16 bit", "built/grey16.png", mode="I;16"),
    Recipe("grey PNG, alpha", "built/greya.png", mode="LA"),
    Recipe("PNG, 1 bit", "built/bit.png", mode="1"),
    Recipe("PNG, Display P3", "built/p3.png", profile="P3"),
    Recipe("WebP, Display P3", "built/p3.webp", profile="P3"),
    Recipe("WebP, 0.3 MP", "built/small.webp", (641, 427)),
    Recipe("AVIF, alpha", "built/alpha.avif", mode="RGBA", options={"speed": 9}),
)
"""What else a decoder has a path of its own for; compared for fidelity only."""


def provide_picture(recipe: Recipe, folder: Path) -> Picture:
    """Give the picture's file; one that has to be built is put into the folder, where it is found again."""
    path = CORPUS / recipe.file
    if path.exists():
        return Picture(recipe.name, path, is_built=False)
    path = folder / recipe.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _build(recipe, path, folder)
    return Picture(recipe.name, path, is_built=True)


def provide_tiny(suffix: str, folder: Path) -> Path:
    """Give a picture of the format that is hardly any work, to load a decoder with."""
    path = folder / f"tiny{suffix}"
    if not path.exists():
        with Image.open(build_tiny(folder / "tiny.jpg")) as image:
            image.save(path)
    return path


def _build(recipe: Recipe, path: Path, folder: Path) -> None:
    source, _ = provide_source(CORPUS / recipe.photo, folder)
    with Image.open(source) as photo:
        image = _convert(photo.convert("RGB").resize(recipe.size, Image.Resampling.LANCZOS), recipe.mode)
    buffer = BytesIO()
    profile = _provide_profile(recipe.profile)
    image.save(buffer, Image.registered_extensions()[path.suffix], icc_profile=profile, **recipe.options)
    path.write_bytes(buffer.getvalue())


def _provide_profile(name: str) -> bytes | None:
    """Give Display P3, or the profile of a file of the corpus; None without the corpus."""
    if name == "P3":
        return build_rgb_profile(P3_PRIMARIES)
    if not name or not (CORPUS / name).exists():
        return None
    with Image.open(CORPUS / name) as image:
        profile: bytes | None = image.info.get("icc_profile")
        return profile


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        return image
    if mode == "I;16":
        return image.convert("L").convert("I").point(lambda value: value * 257).convert("I;16")
    if mode == "P":
        return image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    return image.convert(mode)
