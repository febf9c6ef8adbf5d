"""What a long queue costs: accepting, claiming, sweeping and counting beside 1,000, 10,000 and 100,000 queued jobs.

`python -m bench.backlog` makes a store for each size, on SQLite and then on PostgreSQL with Valkey, with as many
messages on its queue as jobs in its ledger. Nobody runs the jobs. The sizes are measured in turns, a little of each at
a time, so that what else the machine does falls on all of them alike. Everything is on loopback and in a temporary
folder, ends within three minutes, and is stopped at the end.
"""

import argparse
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.engines import COMBINATIONS, run_engines
from bench.processes import describe_machine
from bench.programs import end_on_sigterm
from bench.report import Figure, Mark, find_point, show, summarize
from bench.stores import Store, open_stores

ACCEPTS: Final = 1000
"""At each size. They are sent in turns, one by one, so that each web process sees about 70 a second."""
ROUNDS: Final = 10
TIMES: Final[Mapping[str, int]] = {
    "claim": 500,
    "take": 500,
    "sweep": 50,
    "sweep_after_loss": 20,
    "gauge": 50,
    "find_oldest": 100,
}
"""How often the probe measures each at each size, in ROUNDS parts."""
NAMES: Final[Mapping[str, str]] = {
    "accept": "accept: POST /v1/jobs",
    "claim": "claim: the ledger's lease of a job",
    "take": "take: a message off the queue",
    "sweep": "sweep, nothing wrong",
    "sweep_after_loss": "sweep, a message lost",
    "gauge": "count for back-pressure",
    "find_oldest": "oldest queued job, for /readyz",
}
MARKED: Final[Mapping[str, str]] = {"accept": "p99", "claim": "p50", "sweep": "p50", "gauge": "p50"}
"""What must not grow with the backlog, by the figure that is compared."""
MARK_TIMES: Final = 1.5


def main() -> None:
    """Run the benchmark and print what it found."""
    end_on_sigterm()
    options = _parse_options()
    figures: list[Figure] = []
    marks: list[Mark] = []
    about = {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "load": ", ".join(f"{times} x {name}" for name, times in {"accept": ACCEPTS, **TIMES}.items()),
    }
    for combination in COMBINATIONS if options.engines == "both" else (options.engines,):
        with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
            stores = _measure(combination, options.sizes, Path(folder), about)
        figures += _list_figures(combination, stores)
        marks += _list_marks(combination, stores)
    show(about, figures, marks, options.json)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=__doc__)
    parser.add_argument(
        "--sizes", type=_parse_sizes, default=[1000, 10_000, 100_000], help="queued jobs (default: 1000,10000,100000)"
    )
    parser.add_argument(
        "--engines", choices=(*COMBINATIONS, "both"), default="both", help="the databases (default: both)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def _parse_sizes(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def _measure(combination: str, sizes: Sequence[int], folder: Path, about: dict[str, str]) -> list[Store]:
    with run_engines(combination, folder) as engines, open_stores(engines, sizes, folder) as stores:
        for store in stores:
            store.start_filling()
        seconds = [store.finish_filling() for store in stores]
        about[combination] = f"{sum(sizes):,} jobs were queued in {max(seconds):.0f} s"
        for _ in range(ACCEPTS):
            for store in stores:
                store.measure("accept", 1)
        for number in range(ROUNDS):
            _measure_round(stores if number % 2 else stores[::-1])
        return stores


def _measure_round(stores: Sequence[Store]) -> None:
    for name, times in TIMES.items():
        for store in stores:
            store.measure(name, times // ROUNDS)


def _list_figures(combination: str, stores: Sequence[Store]) -> list[Figure]:
    figures = []
    for name, told in NAMES.items():
        for store in stores:
            figures += summarize(f"{combination}, {told}, ms", f"{store.size:,} jobs", store.times_ms[name])
    return figures + _list_ratios(combination, stores)


def _list_ratios(combination: str, stores: Sequence[Store]) -> list[Figure]:
    smallest, table = stores[0], f"{combination}, beside {stores[0].size:,} jobs, times"
    return [
        Figure(table, f"{told}, {column}", f"{store.size:,}", _compare(store, smallest, name, column))
        for name, told in NAMES.items()
        for column in dict.fromkeys(("p50", MARKED.get(name, "p50")))
        for store in stores[1:]
    ]


def _list_marks(combination: str, stores: Sequence[Store]) -> list[Mark]:
    smallest, largest = stores[0], stores[-1]
    told = f"{largest.size:,} : {smallest.size:,}"
    return [
        Mark(f"{combination}, {name} {column}, {told}", _compare(largest, smallest, name, column), MARK_TIMES, "times")
        for name, column in MARKED.items()
    ]


def _compare(store: Store, smallest: Store, name: str, column: str) -> float:
    return find_point(store.times_ms[name], column) / find_point(smallest.times_ms[name], column)


if __name__ == "__main__":
    main()
