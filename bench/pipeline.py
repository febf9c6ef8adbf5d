"""The whole service under load, beside RQ and Celery at the bare work: jobs a second, CPU per job, latency, memory.

`python -m bench.pipeline` runs ours on SQLite, and on PostgreSQL and Valkey, each with everything on; and RQ and
Celery, where they are installed, on the same Valkey without a ledger, signatures, retries or a sandbox. All are up at
once and take turns. Everything is on loopback, ends within five minutes, and is stopped at the end.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.bare import Cost, measure_everywhere, measure_fetch, measure_ours, measure_small
from bench.load import STEPS, Sample, run_origin
from bench.processes import CpuSpent, Memory, describe_machine, subtract
from bench.programs import end_on_sigterm
from bench.queues import find_queues
from bench.report import Figure, Mark, find_point, show, summarize
from bench.source import provide_source
from bench.variants import EMBEDDED, OURS, PRODUCTION, VARIANTS, Variant, run_variants

WARM_UP_JOBS: Final = 40
SETTLE_SECONDS: Final = 2.0
"""After readiness: the decoders come up, and the first sweep is made."""
IDLE_SECONDS: Final = 5.0
LOG_LINES: Final = 60

TABLE: Final = "pipeline"
CPU_TABLE: Final = "CPU, ms/job"


@dataclass(frozen=True, slots=True)
class Phase:
    """So many jobs, and the CPU spent on them."""

    samples: Sequence[Sample]
    spent: CpuSpent

    @property
    def jobs_per_second(self) -> float:
        """From the first POST to the last webhook."""
        began = min(sample.posted_at for sample in self.samples)
        return len(self.samples) / (max(sample.arrived_at for sample in self.samples) - began)


@dataclass(slots=True)
class Found:
    """What one variant did in all rounds: with one job in flight, and under load; `picture` is its bare decode."""

    variant: Variant
    singles: list[Phase] = field(default_factory=list)
    loads: list[Phase] = field(default_factory=list)
    idle: CpuSpent | None = None
    memory_idle: Sequence[Memory] = ()
    memory_after: Sequence[Memory] = ()

    @property
    def name(self) -> str:
        """The variant's."""
        return self.variant.name

    @property
    def jobs_per_second(self) -> float:
        """The median of the rounds."""
        return median(load.jobs_per_second for load in self.loads)

    def list_ms(self, phases: Sequence[Phase]) -> list[float]:
        """List the time of each job, from its POST to its webhook."""
        return [sample.total_ms for phase in phases for sample in phase.samples]

    def count_cpu_ms(self) -> dict[str, float]:
        """Count the CPU per job under load, by the kind of process that does the work."""
        return self._per_job([self.variant.list_own(load.spent) for load in self.loads])

    def count_cpu_ms_beside(self) -> dict[str, float]:
        """Count the CPU per job of what is beside the work: databases, origin, load generator, everybody else."""
        own = self.variant.roots
        lists = [
            {name: seconds for name, seconds in load.spent.beside.items() if name not in own}
            | {"everybody else": load.spent.foreign, "kept by the host": load.spent.stolen}
            for load in self.loads
        ]
        return self._per_job(lists)

    def _per_job(self, lists: Sequence[dict[str, float]]) -> dict[str, float]:
        jobs = sum(len(load.samples) for load in self.loads)
        return {name: sum(each.get(name, 0.0) for each in lists) * 1000 / jobs for name in lists[-1]}


@dataclass(frozen=True, slots=True)
class Bare:
    """The picture alone: ours and plain Pillow on every core at once, and fetched."""

    ours: Cost
    small: Cost
    fetch: Cost

    def get_picture(self, name: str) -> Cost:
        """Get what the picture itself costs a variant."""
        return self.ours if name in OURS else self.small


def main() -> None:
    """Run the benchmark and print what it found."""
    end_on_sigterm()
    options = _parse_options()
    there, missing = find_queues(options.peers)
    names = [name for name in options.only if name in (*OURS, *there)]
    if not names:
        raise SystemExit(f"none of them can be run: {missing}")
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
        source, told = provide_source(options.source, Path(folder))
        found, bare = _measure(names, source, Path(folder), options)
        about = {
            "machine": describe_machine(),
            "python": platform.python_version(),
            "source": f"{told}, {source.stat().st_size} bytes",
            "load": f"{options.rounds} rounds in turns, each of {options.singles} jobs one by one"
            f" and {options.jobs} with {options.in_flight} in flight",
            "missing": "; ".join(f"{name} ({missing[name]})" for name in options.only if name in missing) or "nothing",
        }
    figures = _list_figures(found, bare)
    show(about, figures, _list_marks(found, bare), options.json, _list_rows(found, bare, told))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    parser.add_argument("--jobs", type=int, default=200, help="jobs under load, in each round (default: 200)")
    parser.add_argument("--singles", type=int, default=20, help="jobs one by one, in each round (default: 20)")
    parser.add_argument("--in-flight", type=int, default=16, help="jobs in flight under load (default: 16)")
    parser.add_argument(
        "--only", type=_parse_names, default=VARIANTS, metavar="NAME,…", help=f"of {', '.join(VARIANTS)} (all)"
    )
    parser.add_argument("--peers", type=Path, help="the folder that rq and celery are installed in")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--source", type=Path, help="the picture (default: the corpus's, or one built by code)")
    return parser.parse_args()


def _parse_names(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(VARIANTS):
        raise argparse.ArgumentTypeError(f"only {', '.join(VARIANTS)} can be named")
    return [name for name in VARIANTS if name in names]


def _measure(names: Sequence[str], source: Path, folder: Path, options: argparse.Namespace) -> tuple[list[Found], Bare]:
    with run_origin(source) as origin, run_variants(names, origin, folder, options.peers) as variants:
        found = [Found(variant) for variant in variants]
        time.sleep(SETTLE_SECONDS)
        _measure_rest(found)
        for each in found:
            _work(each.variant, WARM_UP_JOBS, options.in_flight)
        for number in range(options.rounds):
            for each in (*found[number % len(found) :], *found[: number % len(found)]):
                each.singles.append(_work(each.variant, options.singles, 1))
                each.loads.append(_work(each.variant, options.jobs, options.in_flight))
        for each in found:
            each.memory_after = each.variant.read_memory()
        fetch = measure_fetch(origin.plan().source_url)
    body = source.read_bytes()
    return found, Bare(measure_everywhere(measure_ours, body), measure_everywhere(measure_small, body), fetch)


def _measure_rest(found: Sequence[Found]) -> None:
    """Let all of them do nothing for a while."""
    before = [each.variant.read_cpu() for each in found]
    time.sleep(IDLE_SECONDS)
    for each, start in zip(found, before, strict=True):
        each.idle = subtract(each.variant.read_cpu(), start)
        each.memory_idle = each.variant.read_memory()


def _work(variant: Variant, jobs: int, in_flight: int) -> Phase:
    """Let one of them do jobs; when that fails, its log says why."""
    before = variant.read_cpu()
    try:
        samples = variant.caller.make_jobs(jobs, in_flight)
    except RuntimeError as error:
        last = "\n".join(variant.read_log().splitlines()[-LOG_LINES:])
        raise SystemExit(f"{last}\n\n{variant.name}: {error}") from error
    return Phase(samples, subtract(variant.read_cpu(), before))


def _list_figures(found: Sequence[Found], bare: Bare) -> list[Figure]:
    ours = [each for each in found if each.name in OURS]
    return [
        *(figure for each in found for figure in _summarize_variant(each, bare)),
        *(figure for each in found for figure in _list_cpu(each, bare)),
        *(figure for each in ours for figure in _list_idle(each)),
        *(figure for each in ours for figure in _list_steps(each)),
        *(figure for each in ours for figure in _list_memory(each)),
        *_list_bare(bare),
    ]


def _summarize_variant(each: Found, bare: Bare) -> list[Figure]:
    cpu_ms = sum(each.count_cpu_ms().values())
    singles_ms = each.list_ms(each.singles)
    rates = [load.jobs_per_second for load in each.loads]
    columns = {
        "jobs/s": each.jobs_per_second,
        "worst": min(rates),
        "best": max(rates),
        "CPU ms/job": cpu_ms,
        "overhead": cpu_ms - bare.get_picture(each.name).cpu_ms,
        "1: p50, ms": find_point(singles_ms, "p50"),
        "1: p99": find_point(singles_ms, "p99"),
        "load: p50": find_point(each.list_ms(each.loads), "p50"),
        "load: p99": find_point(each.list_ms(each.loads), "p99"),
    }
    return [Figure(TABLE, each.name, column, value) for column, value in columns.items()]


def _list_cpu(each: Found, bare: Bare) -> list[Figure]:
    own = each.count_cpu_ms()
    total = sum(own.values())
    picture_ms = bare.get_picture(each.name).cpu_ms
    rows = {**own, "all": total, "  the picture": picture_ms, "  beside it": total - picture_ms}
    return [Figure(CPU_TABLE, row, each.name, ms) for row, ms in (rows | each.count_cpu_ms_beside()).items()]


def _list_idle(each: Found) -> list[Figure]:
    table = "at rest, % of a core"
    seconds = each.idle.by_kind if each.idle else {}
    rows = {**seconds, "all": sum(seconds.values())}
    return [Figure(table, row, each.name, value * 100 / IDLE_SECONDS) for row, value in rows.items()]


def _list_steps(each: Found) -> list[Figure]:
    figures = []
    for told, phases in ((f"{each.name}, one in flight, ms", each.singles), (f"{each.name}, loaded, ms", each.loads)):
        samples = [sample for phase in phases for sample in phase.samples]
        figures += summarize(told, "POST to webhook", [sample.total_ms for sample in samples])
        for step in STEPS:
            figures += summarize(told, f"  {step}", [sample.steps_ms[step] for sample in samples])
        figures += summarize(told, "POST to its answer", [sample.answer_ms for sample in samples])
    return figures


def _list_memory(each: Found) -> list[Figure]:
    table = f"{each.name}, MiB"
    figures = []
    for when, memories in (("idle", each.memory_idle), ("after", each.memory_after)):
        for memory in memories:
            row = f"{memory.kind} {memory.pid}"
            figures += [
                Figure(table, row, f"RSS {when}", memory.rss_mib),
                Figure(table, row, f"PSS {when}", memory.pss_mib),
            ]
        figures.append(Figure(table, "all", f"PSS {when}", sum(memory.pss_mib for memory in memories)))
    return figures + [
        Figure(table, f"{memory.kind} {memory.pid}", "peak RSS", memory.peak_mib) for memory in each.memory_after
    ]


def _list_bare(bare: Bare) -> list[Figure]:
    table = "bare work, per picture"
    costs = {"decode (thumbs.imaging)": bare.ours, "decode (Pillow)": bare.small, "fetch (requests)": bare.fetch}
    return [
        Figure(table, name, column, value)
        for name, cost in costs.items()
        for column, value in {"wall ms": cost.wall_ms, "CPU ms": cost.cpu_ms}.items()
    ]


def _list_marks(found: Sequence[Found], bare: Bare) -> list[Mark]:
    """List the marks of the pixel contract; one beside a variant that did not run is left out."""
    by_name = {each.name: each for each in found}
    marks = [mark for name in OURS if name in by_name for mark in _list_own_marks(by_name[name], bare)]
    for peer, limit in {"RQ": 2.0, "Celery": 0.7}.items():
        if PRODUCTION in by_name and peer in by_name:
            ratio = by_name[PRODUCTION].jobs_per_second / by_name[peer].jobs_per_second
            marks.append(Mark(f"{PRODUCTION}, jobs/s beside {peer}", ratio, limit, "times", is_minimum=True))
    return marks


def _list_own_marks(each: Found, bare: Bare) -> list[Mark]:
    cpu_ms = each.count_cpu_ms()
    own_ms = sum(cpu_ms.values()) - cpu_ms.get("up", 0.0) - bare.ours.cpu_ms
    marks = [
        Mark(f"{each.name}, CPU per job beside the picture, without `up`", own_ms, 6, "ms"),
        Mark(f"{each.name}, largest process at rest, RSS", max(each_.rss_mib for each_ in each.memory_idle), 80, "MiB"),
    ]
    if each.name == EMBEDDED:
        return [*marks, Mark(f"{each.name}, throughput", each.jobs_per_second, 60, "jobs/s", is_minimum=True)]
    return [*marks, Mark(f"{each.name}, one in flight, p50", find_point(each.list_ms(each.singles), "p50"), 15, "ms")]


def _list_rows(found: Sequence[Found], bare: Bare, file: str) -> list[dict[str, str | float | None]]:
    """List a row for each variant; `peak_mb` is the largest process's, `ratio` is to the fastest of the others."""
    best = max((each.jobs_per_second for each in found if each.name not in OURS), default=None)
    return [
        {
            "file": file,
            "variant": each.name,
            "jobs_per_second": each.jobs_per_second,
            "cpu_ms": sum(each.count_cpu_ms().values()),
            "overhead_cpu_ms": sum(each.count_cpu_ms().values()) - bare.get_picture(each.name).cpu_ms,
            "p50_ms": find_point(each.list_ms(each.singles), "p50"),
            "p99_ms": find_point(each.list_ms(each.singles), "p99"),
            "peak_mb": max((memory.peak_mib * 1.048576 for memory in each.memory_after), default=None),
            "ratio": each.jobs_per_second / best if best else None,
        }
        for each in found
    ]


if __name__ == "__main__":
    main()
