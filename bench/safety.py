"""What safety costs: the guard around a fetch, the sandbox around a decode, and what hostile images leave behind.

`python -m bench.safety` measures each beside the same without it, in turns, on loopback: `requests.get` beside the
fetch, `thumbs.imaging` in a process of its own beside the decode. Then it starts and kills decoder children, and sends
every broken file of the corpus through a worker. It ends within five minutes.
"""

import argparse
import platform
import tempfile
from pathlib import Path

from bench.decodes import (
    CORPUS,
    list_decode_figures,
    list_decode_marks,
    list_missing,
    measure_decodes,
    measure_starts,
)
from bench.fetches import list_fetch_figures, list_fetch_marks, measure_fetches
from bench.processes import describe_machine
from bench.programs import end_on_sigterm
from bench.report import Figure, Mark, show
from bench.source import provide_source
from bench.worker import list_broken, list_worker_figures, list_worker_marks, measure_worker


def main() -> None:
    """Run the benchmark and print what it found."""
    end_on_sigterm()
    options = _parse_options()
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as name:
        folder = Path(name)
        source, told = provide_source(options.source, folder)
        about = {
            "machine": describe_machine(),
            "python": platform.python_version(),
            "source": f"{told}, {source.stat().st_size} bytes",
            "load": f"{options.fetches} fetches of each body and {options.decodes} decodes of each picture in each way,"
            f" {options.starts} starts and kills of each kind, {options.rounds} rounds of broken files",
        }
        figures, marks = _measure(source, folder, options, about)
    show(about, figures, marks, options.json)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.safety", description=__doc__)
    parser.add_argument("--fetches", type=int, default=200, help="fetches of each body in each way (default: 200)")
    parser.add_argument("--decodes", type=int, default=30, help="decodes of each picture in each way (default: 30)")
    parser.add_argument("--starts", type=int, default=10, help="starts and kills of a decoder child (default: 10)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of the broken files through the worker (4)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--source", type=Path, help="the picture (default: the corpus's, or one built by code)")
    return parser.parse_args()


def _measure(
    source: Path, folder: Path, options: argparse.Namespace, about: dict[str, str]
) -> tuple[list[Figure], list[Mark]]:
    """Measure all; what is missing for it is named among what the run is about."""
    fetches = measure_fetches(folder, options.fetches)
    decodes = measure_decodes(source, folder, options.decodes)
    figures = list_fetch_figures(fetches) + list_decode_figures(decodes) + measure_starts(folder, options.starts)
    marks = list_fetch_marks(fetches) + list_decode_marks(decodes)
    missing = list_missing()
    if list_broken():
        stages, ends = measure_worker(source, folder, options.rounds)
        about["broken"] = ", ".join(f"{count} x {end}" for end, count in ends.most_common())
        figures += list_worker_figures(stages)
        marks += list_worker_marks(stages)
    else:
        missing.append("broken/ (and so the worker's memory)")
    if missing:
        about["missing"] = f"in {CORPUS}: {', '.join(missing)}"
    return figures, marks


if __name__ == "__main__":
    main()
