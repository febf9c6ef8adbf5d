"""How much of a progressive JPEG has to be fetched: the share of its bytes after which `scans.ScanWatch` has enough.

`python -m bench.early_stop` gives it each file in blocks as a fetch would, and compares the shares with the marks of
the pixel contract. Nothing is decoded, and it ends within seconds.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from bench.pictures import MORE_RECIPES, RECIPES, provide_picture
from bench.processes import describe_machine
from bench.report import Figure, Mark, Row, show
from thumbs.scans import ScanWatch, choose_scale

BLOCK_BYTES: Final = 64 * 1024
"""What a fetch reads at a time."""
FINE_BYTES: Final = 256
"""Fine enough to tell what a file needs, however it is fetched."""

MARKS_PERCENT: Final = {8: 15.0, 4: 30.0}
"""By the fraction that the thumbnail is decoded at; a block comes on top."""
SHRINKS: Final = (28.0, 12.9, 7.0)
"""Px of the picture for each px of the thumbnail: 12 MP and 2.5 MP to 100x100, and what is decoded at 1/4."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A progressive JPEG, and the side of a square thumbnail of it."""

    name: str
    body: bytes
    shorter_px: int
    side_px: int

    @property
    def scale(self) -> int:
        """Tell the fraction that it is decoded at."""
        return choose_scale(self.shorter_px / self.side_px)


def main() -> None:
    """Run the benchmark and print what it found."""
    options = _parse_options()
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
        rows = [_measure(subject) for subject in _list_subjects(Path(folder))]
    about = {"machine": describe_machine(), "load": f"blocks of {BLOCK_BYTES} bytes"}
    figures = [
        Figure("needed, % of the bytes", str(row["file"]), column, float(value))
        for row in rows
        for column in ("size, kB", "shrink", "exact", "in blocks")
        if (value := row[column]) is not None
    ]
    show(about, figures, [mark for row in rows for mark in _list_marks(row)], options.json, rows)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.early_stop", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def _list_subjects(folder: Path) -> Iterator[Subject]:
    """List the progressive JPEGs, each with a thumbnail for every shrink that it allows."""
    for recipe in (*RECIPES, *MORE_RECIPES):
        if not recipe.options.get("progressive"):
            continue
        path = provide_picture(recipe, folder).path
        with Image.open(path) as image:
            shorter_px = min(image.size)
        for shrink in SHRINKS:
            side_px = int(shorter_px / shrink)
            yield Subject(f"{recipe.name}, to {side_px} px", path.read_bytes(), shorter_px, side_px)


def _measure(subject: Subject) -> Row:
    exact, fetched = (_find_enough(subject, block_bytes) for block_bytes in (FINE_BYTES, BLOCK_BYTES))
    return {
        "file": subject.name,
        "size, kB": len(subject.body) / 1000,
        "shrink": subject.shorter_px / subject.side_px,
        "scale": subject.scale,
        "exact": 100 * exact / len(subject.body),
        "in blocks": 100 * fetched / len(subject.body),
        "block": 100 * BLOCK_BYTES / len(subject.body),
    }


def _find_enough(subject: Subject, block_bytes: int) -> int:
    """Find how many bytes have come when there is enough: all of them where there never is before."""
    watch, arrived = ScanWatch([(subject.side_px, subject.side_px)]), bytearray()
    for start in range(0, len(subject.body), block_bytes):
        arrived += subject.body[start : start + block_bytes]
        if watch.is_enough(arrived):
            break
    return len(arrived)


def _list_marks(row: Row) -> Iterator[Mark]:
    """List the mark of a file: its share, which one block that is read too much comes on top of."""
    limit = MARKS_PERCENT[int(row["scale"] or 0)] + float(row["block"] or 0)
    yield Mark(f"{row['file']}, 1/{row['scale']}", float(row["in blocks"] or 0), round(limit, 1), "%")


if __name__ == "__main__":
    main()
