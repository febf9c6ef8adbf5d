"""The whole service under load, beside the bare work in the same run: latency, throughput, memory, CPU per job.

`python -m bench.pipeline` starts `thumbs up` on its embedded default in a temporary folder, and an origin that serves
the picture and takes the webhooks; with `--engines production`, PostgreSQL and Valkey too. Everything is on loopback,
ends within two minutes, and is stopped at the end.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.bare import Cost, measure_decode, measure_decode_everywhere, measure_fetch
from bench.engines import COMBINATIONS, Engines, run_engines
from bench.load import STEPS, Caller, Origin, Sample, run_origin
from bench.processes import CpuSpent, CpuTimes, Memory, describe_machine, read_cpu, read_memory, subtract
from bench.programs import end_on_sigterm
from bench.report import Figure, Mark, find_point, show, summarize
from bench.source import provide_source
from tests.support.stack import Stack

IDLE_JOBS: Final = 60
WARM_UP_JOBS: Final = 20
SETTLE_SECONDS: Final = 2.0
"""After readiness: the decoders come up, and the first sweep is made."""
IDLE_SECONDS: Final = 5.0
LOG_LINES: Final = 60


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of load: its jobs, and the CPU spent on them."""

    samples: Sequence[Sample]
    spent: CpuSpent

    @property
    def jobs_per_second(self) -> float:
        """From the first POST to the last webhook."""
        began = min(sample.posted_at for sample in self.samples)
        return len(self.samples) / (max(sample.arrived_at for sample in self.samples) - began)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that one run has measured."""

    idle_spent: CpuSpent
    memory_idle: Sequence[Memory]
    memory_after: Sequence[Memory]
    idle: Phase
    load: Phase
    decode: Cost
    decode_everywhere: Cost
    fetch: Cost


def main() -> None:
    """Run the benchmark and print what it found."""
    end_on_sigterm()
    options = _parse_options()
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as folder:
        source, told = provide_source(options.source, Path(folder))
        about = {
            "machine": describe_machine(),
            "python": platform.python_version(),
            "source": f"{told}, {source.stat().st_size} bytes",
            "load": f"{IDLE_JOBS} jobs one by one, then {options.jobs} with {options.in_flight} in flight",
        }
        if options.engines != "embedded":
            about["engines"] = "PostgreSQL and Valkey"
        with run_engines(options.engines, Path(folder)) as engines:
            findings = _measure(engines, source, Path(folder), options)
    if len(findings.load.samples) < options.jobs:
        about["load"] += f", of which {len(findings.load.samples)} were made in the time that there is"
    show(about, _list_figures(findings), _list_marks(findings), options.json)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__)
    parser.add_argument("--jobs", type=int, default=300, help="jobs under load (default: 300)")
    parser.add_argument("--in-flight", type=int, default=16, help="jobs in flight under load (default: 16)")
    parser.add_argument("--engines", choices=COMBINATIONS, default="embedded", help="the databases (default: embedded)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--source", type=Path, help="the picture (default: the corpus's, or one built by code)")
    return parser.parse_args()


def _measure(engines: Engines, source: Path, folder: Path, options: argparse.Namespace) -> Findings:
    # The default of web processes: Stack's own is smaller.
    stack = Stack(folder / "data", WEB_CONCURRENCY="2", **engines.create_store())
    with run_origin(source) as origin, _telling_log(stack), stack:
        bench = _Bench(stack, origin, engines)
        time.sleep(SETTLE_SECONDS)
        idle_spent = bench.rest()
        memory_idle = read_memory(stack.list_pids())
        bench.run(WARM_UP_JOBS, 4)
        return Findings(
            idle_spent=idle_spent,
            memory_idle=memory_idle,
            idle=bench.run(IDLE_JOBS, 1),
            load=bench.run(options.jobs, options.in_flight),
            memory_after=read_memory(stack.list_pids()),
            decode=measure_decode(source.read_bytes()),
            decode_everywhere=measure_decode_everywhere(source.read_bytes()),
            fetch=measure_fetch(f"{origin.base}/photo.jpg"),
        )


@contextmanager
def _telling_log(stack: Stack) -> Iterator[None]:
    """Show the end of the service's log when the run fails."""
    try:
        yield
    except RuntimeError as error:
        last = "\n".join(stack.read_log().splitlines()[-LOG_LINES:])
        raise SystemExit(f"{last}\n\n{error}") from error


class _Bench:
    """A running service with its caller; what is done with it is done between two readings of CPU time."""

    def __init__(self, stack: Stack, origin: Origin, engines: Engines) -> None:
        self._stack = stack
        self._engines = engines
        self._beside = {"load generator": os.getpid(), "origin": origin.pid}
        self._caller = Caller(stack.port, origin)

    def rest(self) -> CpuSpent:
        """Do nothing for a while."""
        before = self._read_cpu()
        time.sleep(IDLE_SECONDS)
        return subtract(self._read_cpu(), before)

    def run(self, jobs: int, in_flight: int) -> Phase:
        """Make jobs."""
        before = self._read_cpu()
        samples = self._caller.make_jobs(jobs, in_flight)
        return Phase(samples, subtract(self._read_cpu(), before))

    def _read_cpu(self) -> CpuTimes:
        return read_cpu(self._stack.list_pids(), self._beside, self._engines.pids)


def _list_figures(found: Findings) -> list[Figure]:
    return [
        *_list_times("one in flight, ms", found.idle.samples),
        *_list_times("under load, ms", found.load.samples),
        Figure("throughput", "POST to webhook", "jobs/s", found.load.jobs_per_second),
        *_list_cpu(found),
        *_list_memory(found.memory_idle, found.memory_after),
        *_list_bare("decode (thumbs.imaging)", found.decode),
        *_list_bare("the same on every core at once", found.decode_everywhere),
        *_list_bare("fetch (requests)", found.fetch),
        *_list_ratios(found),
    ]


def _list_times(table: str, samples: Sequence[Sample]) -> list[Figure]:
    figures = summarize(table, "POST to webhook", [sample.total_ms for sample in samples])
    for step in STEPS:
        figures += summarize(table, f"  {step}", [sample.steps_ms[step] for sample in samples])
    return figures + summarize(table, "POST to its answer", [sample.answer_ms for sample in samples])


def _list_cpu(found: Findings) -> list[Figure]:
    table = "CPU"
    figures = []
    for column, spent, per in (
        ("idle %", found.idle_spent, IDLE_SECONDS / 100),
        ("ms/job, 1", found.idle.spent, len(found.idle.samples) / 1000),
        ("ms/job", found.load.spent, len(found.load.samples) / 1000),
    ):
        others = {"everybody else": spent.foreign, "kept by the host": spent.stolen}
        rows = {**spent.by_kind, "service": spent.service, **spent.beside, **others}
        figures += [Figure(table, row, column, seconds / per) for row, seconds in rows.items()]
    return figures


def _list_memory(idle: Sequence[Memory], after: Sequence[Memory]) -> list[Figure]:
    table = "memory, MiB"
    figures = []
    for when, memories in (("idle", idle), ("after", after)):
        for memory in memories:
            row = f"{memory.kind} {memory.pid}"
            figures += [
                Figure(table, row, f"RSS {when}", memory.rss_mib),
                Figure(table, row, f"PSS {when}", memory.pss_mib),
            ]
        figures.append(Figure(table, "all", f"PSS {when}", sum(memory.pss_mib for memory in memories)))
    return figures + [Figure(table, f"{memory.kind} {memory.pid}", "peak RSS", memory.peak_mib) for memory in after]


def _list_bare(name: str, cost: Cost) -> list[Figure]:
    table = "bare work, per picture"
    return [Figure(table, name, "wall ms", cost.wall_ms), Figure(table, name, "CPU ms", cost.cpu_ms)]


def _list_ratios(found: Findings) -> list[Figure]:
    """Compare with the picture alone: what holds on another machine, and on this one when others use it too."""
    table, bare = "beside the bare decode on every core", found.decode_everywhere
    service_ms = found.load.spent.service * 1000 / len(found.load.samples)
    pictures_per_second = (os.cpu_count() or 1) * 1000 / bare.wall_ms
    return [
        Figure(table, "CPU per job", "times", service_ms / bare.cpu_ms),
        Figure(table, "throughput", "times", found.load.jobs_per_second / pictures_per_second),
    ]


def _list_marks(found: Findings) -> list[Mark]:
    jobs = len(found.load.samples)
    own_ms = found.load.spent.service * 1000 / jobs - found.decode_everywhere.cpu_ms
    up_ms = found.load.spent.by_kind.get("up", 0.0) * 1000 / jobs
    p50_ms = find_point([sample.total_ms for sample in found.idle.samples], "p50")
    largest_mib = max(memory.rss_mib for memory in found.memory_idle)
    return [
        Mark("POST to webhook, one in flight, p50", p50_ms, 150, "ms"),
        Mark("largest process, RSS idle", largest_mib, 80, "MiB"),
        Mark("throughput", found.load.jobs_per_second, 60, "jobs/s", is_minimum=True),
        Mark("CPU per job beside the decode", own_ms, 6, "ms"),
        Mark("  the same without `thumbs up`", own_ms - up_ms, 6, "ms"),
    ]


if __name__ == "__main__":
    main()
