"""The engine beside others: CPU and memory for each kind of picture, from the file's bytes to a 100x100 JPEG's bytes.

`python -m bench.engine` runs `thumbs.imaging`, Pillow as most call it, libvips and sharp as processes that are pinned
to one core, in turns, and prints the ratios beside the marks of the pixel contract. It ends within five minutes.
"""

import argparse
import os
import platform
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import Final

from bench.peers import CannotRender, Peer, find_peers, run_peer, run_peers
from bench.pictures import RECIPES, Picture, provide_picture, provide_tiny
from bench.processes import describe_machine
from bench.programs import end_on_sigterm
from bench.report import Figure, Mark, Row, show

BATCH_MS: Final = 20.0
MAX_BATCH: Final = 20
"""So long, or so often, is a small picture made in one round: the clock of CPU time is coarse on some machines."""

CPU_TABLE: Final = "CPU, ms a picture"
RATIO_TABLE: Final = "ours beside, times"
GROWTH_TABLE: Final = "memory at the peak, MB more"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the pixel contract wants of us: CPU beside naive Pillow and sharp in the same run, and MB of growth.

    Where it names no mark, no picture may cost more than the naive way.
    """

    naive: float = 1.0
    sharp: float | None = None
    growth_mb: float | None = None


CEILINGS: Final[Mapping[str, Ceiling]] = {
    "JPEG, 2.5 MP": Ceiling(0.13, 0.75, 10),
    "JPEG, 12 MP": Ceiling(0.18, 0.95, 10),
    "JPEG, 12 MP, Display P3": Ceiling(0.18, 0.95, 10),
    "JPEG, 99.6 MP": Ceiling(growth_mb=10),
    "progressive, 2.5 MP": Ceiling(0.07, 0.15),
    "progressive, 12 MP": Ceiling(0.07, 0.15, 60),
    "WebP, 2.5 MP": Ceiling(0.28, 0.75, 10),
    "WebP, 6 MP": Ceiling(0.28, 0.75, 10),
    "WebP, 2.5 MP, alpha": Ceiling(0.28, 0.75),
    "AVIF, 6 MP": Ceiling(0.65, 0.25),
    "AVIF, 12 MP": Ceiling(0.65, 0.25),
    "PNG, 2.5 MP": Ceiling(0.80),
    "PNG, 2.5 MP, alpha": Ceiling(0.80),
    "PNG, 2.5 MP, palette": Ceiling(sharp=1.0),
    "GIF, 2.5 MP": Ceiling(sharp=1.0),
    "BMP, 2.5 MP": Ceiling(sharp=1.0),
}


@dataclass(slots=True)
class Cost:
    """What each engine takes for one picture: ms of CPU in each round, and growth in MB."""

    picture: Picture
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    growth_mb: dict[str, float] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)

    def find_cpu_ms(self, peer: str) -> float | None:
        """Find the median of the rounds; None where the engine is missing or refuses the picture."""
        values = self.cpu_ms.get(peer)
        return median(values) if values else None

    def find_ratio(self, peer: str) -> float | None:
        """Find our CPU time divided by the engine's."""
        ours_ms, other_ms = self.find_cpu_ms("ours"), self.find_cpu_ms(peer)
        return ours_ms / other_ms if ours_ms and other_ms else None


def main() -> None:
    """Run the benchmark and print what it found."""
    end_on_sigterm()
    options = _parse_options()
    names, missing = find_peers(options.peers)
    core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
        costs = [Cost(picture) for picture in _provide_pictures(options, Path(folder))]
        _measure_cpu(costs, names, options)
        _measure_growth(costs, names, options, Path(folder))
    about = {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "load": f"{options.rounds} rounds in turns, medians, all on core {core}",
        "built": "; ".join(cost.picture.name for cost in costs if cost.picture.is_built) or "nothing",
        "missing": "; ".join(f"{name} ({reason})" for name, reason in missing.items()) or "nothing",
        "refused": "; ".join(f"{cost.picture.name} by {' and '.join(cost.refusals)}" for cost in costs if cost.refusals)
        or "nothing",
    }
    show(about, _list_figures(costs, names), _list_marks(costs), options.json, _list_rows(costs, names))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds over each picture (default: 7)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only pictures with this in their name, as WebP")
    parser.add_argument("--large", action="store_true", help="with the JPEG of 99.6 MP")
    parser.add_argument("--peers", type=Path, help="the folder that pyvips and sharp are installed in")
    parser.add_argument("--core", type=int, help="the core that everything runs on (default: the last)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def _provide_pictures(options: argparse.Namespace, folder: Path) -> list[Picture]:
    wanted = [
        recipe
        for recipe in RECIPES
        if options.only.lower() in recipe.name.lower() and (options.large or not recipe.is_large)
    ]
    if not wanted:
        raise SystemExit(f"no picture's name has {options.only!r} in it")
    return [provide_picture(recipe, folder) for recipe in wanted]


def _measure_cpu(costs: Sequence[Cost], names: Sequence[str], options: argparse.Namespace) -> None:
    with run_peers(names, options.peers) as peers:
        for cost in costs:
            batches = {peer: batch for peer in peers if (batch := _warm_up(peer, cost))}
            for number in range(options.rounds):
                for peer in _take_turns(list(batches), number):
                    cost.cpu_ms[peer.name].append(peer.render(cost.picture.path, batches[peer]))


def _warm_up(peer: Peer, cost: Cost) -> int | None:
    """Make the thumbnail twice, and tell how many of them make a round; None when the engine refuses it."""
    try:
        peer.render(cost.picture.path)
        return max(1, min(MAX_BATCH, ceil(BATCH_MS / max(0.01, peer.render(cost.picture.path)))))
    except CannotRender as error:
        cost.refusals[peer.name] = str(error)
        return None


def _take_turns(peers: Sequence[Peer], number: int) -> Iterator[Peer]:
    """Begin with another one each time."""
    start = number % max(1, len(peers))
    yield from peers[start:]
    yield from peers[:start]


def _measure_growth(costs: Sequence[Cost], names: Sequence[str], options: argparse.Namespace, folder: Path) -> None:
    """Measure each in a process of its own, which has made a tiny thumbnail of the format before."""
    for cost in costs:
        tiny = provide_tiny(cost.picture.path.suffix, folder)
        for name in names:
            if name not in cost.refusals:
                with run_peer(name, options.peers) as peer:
                    peer.render(tiny)
                    cost.growth_mb[name] = peer.measure_growth(cost.picture.path)


def _list_figures(costs: Sequence[Cost], names: Sequence[str]) -> list[Figure]:
    cpu = [(CPU_TABLE, cost, name, cost.find_cpu_ms(name)) for cost in costs for name in names]
    ratios = [(RATIO_TABLE, cost, name, cost.find_ratio(name)) for cost in costs for name in names if name != "ours"]
    growth = [(GROWTH_TABLE, cost, name, cost.growth_mb.get(name)) for cost in costs for name in names]
    return [
        Figure(table, cost.picture.name, name, value)
        for table, cost, name, value in [*cpu, *ratios, *growth]
        if value is not None
    ]


def _list_rows(costs: Sequence[Cost], names: Sequence[str]) -> list[Row]:
    """List what each engine takes for each picture; None where it refuses it."""
    return [
        {
            "file": cost.picture.name,
            "variant": name,
            "cpu_ms": cost.find_cpu_ms(name),
            "peak_mb": cost.growth_mb.get(name),
            "ours_beside_it": cost.find_ratio(name),
        }
        for cost in costs
        for name in names
    ]


def _list_marks(costs: Sequence[Cost]) -> list[Mark]:
    """List the marks; one beside an engine that is missing, or refuses the picture, is left out."""
    marks = []
    for cost in costs:
        name, ceiling = cost.picture.name, CEILINGS.get(cost.picture.name, Ceiling())
        for peer, limit in {"naive": ceiling.naive, "sharp": ceiling.sharp}.items():
            ratio = cost.find_ratio(peer)
            if limit is not None and ratio is not None:
                marks.append(Mark(f"{name}, beside {peer}", ratio, limit, "times"))
        if ceiling.growth_mb is not None and "ours" in cost.growth_mb:
            marks.append(Mark(f"{name}, growth", cost.growth_mb["ours"], ceiling.growth_mb, "MB"))
    return marks


if __name__ == "__main__":
    main()
