"""The engines that Python can call, as processes: ours, Pillow as most call it, libvips, and the bare decoders.

`python -m bench.peers_python ENGINE` reads a JSON object per line: the path of a picture, the format of its thumbnail,
how often to make it, and where to put it. It answers each with the CPU time of one, or with why there is none. It
ends with its input. `bench.peers` starts it, one process for each engine.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any, Final

SIDE_PX: Final = 100
QUALITY: Final = 80

Render = Callable[[bytes, str], bytes]
"""From the bytes of a picture to those of a thumbnail in the format: "jpeg", or "png" for its pixels as they are."""


def main() -> None:
    """Make what the input asks for, line by line."""
    render, read = PEERS[sys.argv[1]](), cache(Path.read_bytes)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: Mapping[str, Any] = {"cpu_ms": _measure(render, read(Path(request["path"])), request)}
        except Exception as error:  # noqa: BLE001  Each library has exceptions of its own, and all are answers.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _measure(render: Render, body: bytes, request: Mapping[str, Any]) -> float:
    """Measure one thumbnail in ms of CPU, of all threads; 0 times only reads the picture."""
    made, times, began = b"", int(request["times"]), time.process_time()
    for _ in range(times):
        made = render(body, request["format"])
    cpu_ms = (time.process_time() - began) * 1000 / max(1, times)
    if request["result"]:
        Path(request["result"]).write_bytes(made)
    return cpu_ms


def _build_ours() -> Render:
    from thumbs.domain import DecodeLimits, OutputFormat, Picture, ThumbnailSpec  # noqa: PLC0415
    from thumbs.imaging import make_thumbnails  # noqa: PLC0415

    limits = DecodeLimits()

    def render(body: bytes, output: str) -> bytes:
        (picture,) = make_thumbnails(body, [ThumbnailSpec(format=OutputFormat(output))], limits).pictures
        assert isinstance(picture, Picture)
        return picture.body

    return render


def _build_pillow(*, is_draft: bool) -> Render:
    from PIL import Image, ImageOps  # noqa: PLC0415

    Image.MAX_IMAGE_PIXELS = None

    def render(body: bytes, output: str) -> bytes:
        image: Image.Image = Image.open(BytesIO(body))
        if is_draft:
            zoom = SIDE_PX / min(image.size)
            size = (ceil(image.width * zoom), ceil(image.height * zoom))
            image.thumbnail(size, Image.Resampling.LANCZOS)
        image = ImageOps.exif_transpose(image.convert("RGB"))
        image = ImageOps.fit(image, (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        image.save(buffer, output, **{"quality": QUALITY} if output == "jpeg" else {})
        return buffer.getvalue()

    return render


def _build_libvips() -> Render:
    vips: Any = importlib.import_module("pyvips")  # It has no types, and is not there as a rule.
    vips.cache_set_max(0)

    def render(body: bytes, output: str) -> bytes:
        image = vips.Image.thumbnail_buffer(body, SIDE_PX, height=SIDE_PX, crop="centre", output_profile="srgb")
        image = image.colourspace("srgb")
        if output == "png":
            return bytes(image.pngsave_buffer(keep="none"))
        image = image.flatten(background=[255, 255, 255]) if image.hasalpha() else image
        return bytes(image.jpegsave_buffer(Q=QUALITY, keep="none"))

    return render


def _build_limit() -> Render:
    from bench.peers_limit import decode_bare  # noqa: PLC0415

    def render(body: bytes, _output: str) -> bytes:
        decode_bare(body)
        return b""

    return render


PEERS: Final[Mapping[str, Callable[[], Render]]] = {
    "ours": _build_ours,
    "naive": partial(_build_pillow, is_draft=False),
    "thumbnail": partial(_build_pillow, is_draft=True),
    "libvips": _build_libvips,
    "limit": _build_limit,
}


if __name__ == "__main__":
    main()
