"""What a worker keeps of hostile images: its memory before and after every broken file of the corpus, several times.

The service runs as a whole, with the worker as it is deployed; jobs are made over HTTP, 8 at once, of sources on
loopback. Before the first reading ordinary pictures have been through every thread.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.decodes import CORPUS
from bench.processes import Memory, read_memory
from bench.report import Figure, Mark
from bench.sources import Sources, run_sources
from tests.support.stack import Stack

ORDINARY_JOBS: Final = 40
IN_FLIGHT: Final = 8
JOB_SECONDS: Final = 60.0
TABLE: Final = "a worker's memory, MiB"
MARK_MIB: Final = 20.0


@dataclass(frozen=True, slots=True)
class Stage:
    """The worker's processes after so much work."""

    name: str
    memory: Sequence[Memory]

    def find_mib(self, kind: str) -> float:
        """Find the resident memory of the largest process of a kind."""
        return max(each.rss_mib for each in self.memory if each.kind == kind)

    def find_peak_mib(self) -> float:
        """Find the most that the worker itself ever had."""
        return max(each.peak_mib for each in self.memory if each.kind == "worker")


def list_broken() -> list[Path]:
    """List the corpus's broken files; none where there is no corpus."""
    return sorted((CORPUS / "broken").glob("*"))


def measure_worker(source: Path, folder: Path, rounds: int) -> tuple[list[Stage], Counter[str]]:
    """Run the rounds; returns the worker at each stage, and how the jobs of a round ended."""
    served = folder / "sources"
    served.mkdir()
    for path in (source, *list_broken()):
        shutil.copyfile(path, served / path.name)
    ends: Counter[str] = Counter()
    with run_sources(served) as sources, Stack(folder / "stack", WEB_CONCURRENCY="2") as stack:
        stages = [_read("started", stack)]
        _run(stack, sources, [source.name] * ORDINARY_JOBS)
        stages.append(_read(f"after {ORDINARY_JOBS} ordinary jobs", stack))
        for number in range(1, rounds + 1):
            ends = _run(stack, sources, [path.name for path in list_broken()])
            stages.append(_read(f"after all broken, round {number}", stack))
        _run(stack, sources, [source.name] * ORDINARY_JOBS)
        stages.append(_read(f"after {ORDINARY_JOBS} ordinary jobs more", stack))
    return stages, ends


def list_worker_figures(stages: Sequence[Stage]) -> list[Figure]:
    """List the memory at each stage."""
    return [
        Figure(TABLE, stage.name, column, value)
        for stage in stages
        for column, value in {
            "worker": stage.find_mib("worker"),
            "its peak": stage.find_peak_mib(),
            "decoder": stage.find_mib("decoder"),
        }.items()
    ]


def list_worker_marks(stages: Sequence[Stage]) -> list[Mark]:
    """List the mark: the most that the worker has after a round, beside what it had before."""
    before_mib, after_mib = stages[1].find_mib("worker"), max(stage.find_mib("worker") for stage in stages[2:-1])
    return [Mark("worker after all broken files, more RSS than before", after_mib - before_mib, MARK_MIB, "MiB")]


def _read(name: str, stack: Stack) -> Stage:
    kinds = ("worker", "decoder")
    return Stage(name, [each for each in read_memory(stack.list_pids()) if each.kind in kinds])


def _run(stack: Stack, sources: Sources, names: Sequence[str]) -> Counter[str]:
    """Make a job of each and wait for its end; counts the statuses, and the codes of those that failed."""
    urls = [f"{sources.url(name)}?n={number}" for number, name in enumerate(names)]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        jobs = list(pool.map(lambda url: _make_job(stack, url), urls))
    return Counter(job["error"]["code"] if job["error"] else job["status"] for job in jobs)


def _make_job(stack: Stack, source_url: str) -> dict[str, Any]:
    return stack.wait_for_job(stack.submit(source_url=source_url)["id"], JOB_SECONDS)
