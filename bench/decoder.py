"""The bare pipeline of `thumbs.imaging` as a process: no sandbox around it, and nothing else in it.

`python -m bench.decoder` reads a JSON array per line, the path of a picture and the spec of its thumbnail, makes the
thumbnail, and prints the milliseconds that it took; it ends with its input. `bench.decodes` starts it.
"""

import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from thumbs.domain import DecodeLimits, Fit, OutputFormat, ThumbnailSpec
from thumbs.imaging import make_thumbnails


def main() -> None:
    """Make what the input asks for, line by line."""
    limits, read = DecodeLimits(), cache(Path.read_bytes)
    for line in sys.stdin:
        path, told = json.loads(line)
        body, spec = read(Path(path)), _build_spec(told)
        began = time.perf_counter()
        make_thumbnails(body, [spec], limits)
        print((time.perf_counter() - began) * 1000, flush=True)


def _build_spec(told: dict[str, Any]) -> ThumbnailSpec:
    return ThumbnailSpec(**told | {"fit": Fit(told["fit"]), "format": OutputFormat(told["format"])})


if __name__ == "__main__":
    main()
