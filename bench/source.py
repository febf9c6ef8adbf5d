"""The pictures that jobs are about: the corpus's 2.5 MP photograph, or one like it built by code; and two extremes."""

import random
from pathlib import Path
from typing import Final

from PIL import Image, ImageFilter

CORPUS_PHOTO: Final = Path(__file__).parents[2] / "shared/corpus/photos/j02_photo.jpg"
SIZE_PX: Final = (1936, 1296)
TINY_PX: Final = (160, 120)
HEAVY_PX: Final = (7000, 7000)
QUALITY: Final = 80


def provide_source(given: Path | None, folder: Path) -> tuple[Path, str]:
    """Give the picture's file and say what it is; one that has to be built is put into the folder."""
    path = given or CORPUS_PHOTO
    if not path.exists():
        return _build(folder / "built.jpg"), "a photo-like JPEG built by code"
    return path, str(path.name)


def build_tiny(path: Path) -> Path:
    """Build a picture that is hardly any work: its decode takes less than 1 ms."""
    chance = random.Random(1)
    Image.frombytes("RGB", (8, 6), chance.randbytes(8 * 6 * 3)).resize(TINY_PX).save(path, "JPEG", quality=QUALITY)
    return path


def build_heavy(path: Path) -> Path:
    """Build a picture that is much work for few bytes: its decode takes some 200 ms."""
    Image.new("L", HEAVY_PX).save(path, "PNG")
    return path


def _build(path: Path) -> Path:
    """Build a soft picture with fine grain: about as many bytes per pixel as a photograph, the same each time."""
    chance = random.Random(1)
    coarse = Image.frombytes("RGB", (48, 32), chance.randbytes(48 * 32 * 3))
    soft = coarse.resize(SIZE_PX, Image.Resampling.BICUBIC)
    grain = Image.frombytes("RGB", SIZE_PX, chance.randbytes(SIZE_PX[0] * SIZE_PX[1] * 3))
    grain = grain.filter(ImageFilter.GaussianBlur(1.5))
    Image.blend(soft, grain, 0.25).save(path, "JPEG", quality=QUALITY)
    return path
