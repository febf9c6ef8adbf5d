"""How faithful thumbnails are: their distance from a reference that is computed without haste, for us and for others.

`python -m bench.fidelity` has each engine make 100x100 px as PNG, which keeps the pixels as they go into an encoder, of
every good file of the corpus and of the formats that code makes from its photographs. It ends within five minutes.
"""

import argparse
import platform
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.fidelity_reference import Pixels, build_reference, measure_psnr, measure_ssim, read_thumbnail
from bench.peers import CannotRender, Peer, find_peers, run_peers
from bench.pictures import MORE_RECIPES, RECIPES, provide_picture
from bench.processes import describe_machine
from bench.programs import end_on_sigterm
from bench.report import Figure, Mark, Row, show
from tests.support.corpus import CORPUS, ROWS

COMPARED: Final = ("ours", "thumbnail", "libvips", "sharp")
GROUPS: Final = ("orientation", "pngsuite")
"""Folders of the corpus with many files alike: their worst ones are told."""

PSNR_TABLE: Final = "PSNR, dB"
SSIM_TABLE: Final = "SSIM, 1/1000 short of 1"
BELOW_TABLE: Final = "missed, PSNR, dB"
FLOOR_DB: Final = 39.0
ROUNDING_DB: Final = 0.01


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near a thumbnail is to its reference: PSNR in dB, SSIM up to 1."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A file whose thumbnails are compared; `group` is its name, or that of the many that it belongs to."""

    name: str
    group: str
    path: Path
    likenesses: dict[str, Likeness] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def is_faithful(self) -> bool:
        """Tell whether ours is at the floor or above it."""
        return self.likenesses["ours"].psnr_db >= FLOOR_DB

    @property
    def is_below_sharp(self) -> bool:
        """Tell whether ours is farther from the reference than sharp's."""
        sharp = self.likenesses.get("sharp")
        return sharp is not None and self.likenesses["ours"].psnr_db < sharp.psnr_db - ROUNDING_DB


def main() -> None:
    """Run the benchmark and print what it found."""
    end_on_sigterm()
    options = _parse_options()
    found, missing = find_peers(options.peers)
    names = [name for name in COMPARED if name in found]
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
        subjects = [subject for subject in _list_subjects(Path(folder)) if options.only.lower() in subject.name.lower()]
        if not subjects:
            raise SystemExit(f"no file's name has {options.only!r} in it")
        with run_peers(names, options.peers) as peers:
            for subject in subjects:
                _compare(subject, peers, Path(folder) / "made")
    about = {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "files": f"{len(subjects)}, {'with' if ROWS else 'without'} the corpus",
        "missing": "; ".join(f"{name} ({missing[name]})" for name in COMPARED if name in missing) or "nothing",
        "refused": _tell_refusals(subjects),
    }
    judged = [subject for subject in subjects if "ours" in subject.likenesses]
    show(about, _list_figures(judged, names), _list_marks(judged), options.json, list(_list_rows(judged)))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fidelity", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only files with this in their name, as WebP")
    parser.add_argument("--peers", type=Path, help="the folder that pyvips and sharp are installed in")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def _list_subjects(folder: Path) -> Iterator[Subject]:
    """List the pictures of `bench.pictures`, and then what else of the corpus is not broken."""
    recipes = [recipe for recipe in (*RECIPES, *MORE_RECIPES) if ROWS or not recipe.is_large]
    for recipe in recipes:
        yield Subject(recipe.name, recipe.name, provide_picture(recipe, folder).path)
    known = {recipe.file for recipe in recipes}
    for row in ROWS:
        place, _, name = row["path"].partition("/")
        if row["expected"] == "ok" and place != "broken" and row["path"] not in known:
            yield Subject(row["path"], place if place in GROUPS else name, CORPUS / row["path"])


def _compare(subject: Subject, peers: Sequence[Peer], made: Path) -> None:
    reference = build_reference(subject.path.read_bytes())
    for peer in peers:
        try:
            peer.render(subject.path, output="png", result=made)
        except CannotRender as error:
            subject.refusals[peer.name] = str(error)
        else:
            subject.likenesses[peer.name] = _judge(read_thumbnail(made.read_bytes()), reference)


def _judge(pixels: Pixels, reference: Pixels) -> Likeness:
    return Likeness(measure_psnr(pixels, reference), measure_ssim(pixels, reference))


def _tell_refusals(subjects: Sequence[Subject]) -> str:
    told = [f"{subject.name} by {' and '.join(subject.refusals)}" for subject in subjects if subject.refusals]
    return "; ".join(told) or "nothing"


def _list_figures(subjects: Sequence[Subject], names: Sequence[str]) -> list[Figure]:
    groups: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        groups[subject.group].append(subject)
    rows = {_name_row(group, len(members)): members for group, members in groups.items()}
    figures = _tell(PSNR_TABLE, rows, names, lambda members: min(likeness.psnr_db for likeness in members))
    figures += _tell(SSIM_TABLE, rows, names, lambda members: max(1000 * (1 - likeness.ssim) for likeness in members))
    missed = {subject.name: [subject] for subject in subjects if not subject.is_faithful or subject.is_below_sharp}
    return figures + _tell(BELOW_TABLE, missed, names, lambda members: min(likeness.psnr_db for likeness in members))


def _name_row(group: str, count: int) -> str:
    return group if count == 1 else f"{group}, worst of {count}"


def _tell(
    table: str, rows: dict[str, list[Subject]], names: Sequence[str], find_worst: Callable[[list[Likeness]], float]
) -> list[Figure]:
    """Tell the worst file of each row, for each engine."""
    return [
        Figure(table, row, name, find_worst(likenesses))
        for row, members in rows.items()
        for name in names
        if (likenesses := [member.likenesses[name] for member in members if name in member.likenesses])
    ]


def _list_rows(subjects: Sequence[Subject]) -> Iterator[Row]:
    """List every file's thumbnails, also those that the tables tell the worst of only."""
    for subject in subjects:
        for name, likeness in subject.likenesses.items():
            yield {"file": subject.name, "variant": name, "psnr_db": likeness.psnr_db, "ssim": likeness.ssim}


def _list_marks(subjects: Sequence[Subject]) -> list[Mark]:
    worst = min(subject.likenesses["ours"].psnr_db for subject in subjects)
    unfaithful = sum(not subject.is_faithful for subject in subjects)
    below_sharp = sum(subject.is_below_sharp for subject in subjects)
    return [
        Mark("the file that is farthest from its reference", worst, FLOOR_DB, "dB", is_minimum=True),
        Mark(f"files farther from it than {FLOOR_DB:g} dB", unfaithful, 0, "files"),
        Mark("files farther from it than sharp's", below_sharp, 0, "files"),
    ]


if __name__ == "__main__":
    main()
