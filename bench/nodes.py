"""Two machines beside one, in the same run: jobs per second, and what each job costs the databases they share.

`python -m bench.nodes` runs PostgreSQL, Valkey and one web process, and one or two machines: each a worker and a
courier. The same jobs are done by one machine, by two, by two again and by one again, so that what else the machine
does falls on both alike; with a photograph, with a tiny picture, and with one that its server gives half a second late.
Everything is on loopback and in a temporary folder, ends within three minutes, and is stopped at the end.
"""

import argparse
import os
import platform
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.engines import run_engines
from bench.load import Caller, post_job, run_origin
from bench.machines import Service, Spent, Work
from bench.processes import describe_machine
from bench.programs import end_on_sigterm
from bench.report import Figure, Mark, show
from bench.source import build_tiny, provide_source
from bench.statements import Asked, count_asked, logging_statements, read_size
from tests.support.chaos import Supervisor

KINDS: Final = ("photo", "tiny", "late")
WARM_UP_JOBS: Final = 40
LOGGED_JOBS: Final = 50
LATE_SECONDS: Final = 0.5
"""A machine's threads are its limit then, and not the cores: 8 / 0.5 s is 16 jobs a second."""
MARK_TIMES: Final = 1.8
RARE: Final = 0.1
"""Statements of which a job needs fewer are the sweep's, or those of new connections."""

Works = Mapping[tuple[str, int], Sequence[Work]]
"""By the kind of job and the number of machines."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that one run has measured; what was asked of PostgreSQL is from jobs of their own, which were not timed."""

    works: Works
    accepting: Asked
    doing: Asked


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
            "load": f"{options.jobs} jobs of each kind by one machine, and as many by two",
        }
        found = _measure(source, Path(folder), options.jobs // 2)
    show(about | _tell_what_is_short(found.works), _list_figures(found), _list_marks(found), options.json)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.nodes", description=__doc__)
    parser.add_argument("--jobs", type=int, default=400, help="jobs of each kind and number of machines (default: 400)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--source", type=Path, help="the photograph (default: the corpus's, or one built by code)")
    return parser.parse_args()


def _measure(source: Path, folder: Path, jobs: int) -> Findings:
    with run_engines("production", folder) as engines, Supervisor(folder) as supervisor, ExitStack() as stack:
        service = Service(engines, folder, supervisor)
        tiny = build_tiny(folder / "tiny.jpg")
        origins = (run_origin(source), run_origin(tiny), run_origin(tiny, LATE_SECONDS))
        make = partial(post_job, service.port)
        callers = {kind: Caller(make, stack.enter_context(origin)) for kind, origin in zip(KINDS, origins, strict=True)}
        bench = _Bench(service, callers, jobs)
        with service.run_machine("machine-1"):
            bench.run(1)
            with service.run_machine("machine-2"):
                bench.run(2)
                bench.run(2)
            bench.run(1)
            return Findings(bench.works, *_count_statements(service, callers["tiny"], folder / "postgres" / "log"))


class _Bench:
    """Works in turns at each kind of job, and keeps what it took."""

    def __init__(self, service: Service, callers: Mapping[str, Caller], jobs: int) -> None:
        self.works: dict[tuple[str, int], list[Work]] = defaultdict(list)
        self._service = service
        self._callers = callers
        self._jobs = jobs

    def run(self, machines: int) -> None:
        """Do the jobs of every kind with the machines that there are."""
        self._service.work(self._callers["photo"], WARM_UP_JOBS)
        for kind, caller in self._callers.items():
            self.works[kind, machines].append(self._service.work(caller, self._jobs))


def _count_statements(service: Service, caller: Caller, log: Path) -> tuple[Asked, Asked]:
    """Count what accepting and doing jobs asks of PostgreSQL."""
    with logging_statements(service.database_url):
        start = read_size(log)
        arrivals = caller.queue_jobs(LOGGED_JOBS, 1)
        queued = read_size(log)
        service.finish(arrivals)
        return count_asked(log, start, queued), count_asked(log, queued, read_size(log))


def _list_figures(found: Findings) -> list[Figure]:
    return [
        *(figure for kind in KINDS for figure in _list_rates(found.works, kind)),
        *(figure for (kind, machines), works in found.works.items() for figure in _list_cpu(kind, machines, works)),
        *_list_database_costs(found),
        *_list_statements(found),
    ]


def _list_rates(works: Works, kind: str) -> list[Figure]:
    one, two = works[kind, 1], works[kind, 2]
    values = {
        "one": _count_rate(one),
        "two": _count_rate(two),
        "times": _count_rate(two) / _count_rate(one),
        "cores, one": _count_cores(one),
        "cores, two": _count_cores(two),
    }
    return [Figure("jobs/s by machines", kind, column, value) for column, value in values.items()]


def _list_cpu(kind: str, machines: int, works: Sequence[Work]) -> list[Figure]:
    jobs, spent = _count_jobs(works), _sum_cpu(work.done for work in works)
    return [Figure("CPU, ms/job", row, f"{kind}, {machines}", spent[row] * 1000 / jobs) for row in spent]


def _list_database_costs(found: Findings) -> list[Figure]:
    """List what one machine's jobs cost, of the kinds whose picture comes at once."""
    works = [work for kind in ("photo", "tiny") for work in found.works[kind, 1]]
    accepted = _list_cost("accepted", found.accepting, [work.accepted for work in works], _count_jobs(works))
    done = _list_cost("done", found.doing, [work.done for work in works], _count_jobs(works))
    both = [Figure(a.table, "both", a.column, a.value + d.value) for a, d in zip(accepted, done, strict=True)]
    postgres_ms = next(figure.value for figure in both if figure.column == "PG CPU ms")
    core = Figure("what a core of PostgreSQL carries", "accepted and done", "jobs/s", 1000 / postgres_ms)
    return [*accepted, *done, *both, core]


def _list_cost(row: str, asked: Asked, spent: Sequence[Spent], jobs: int) -> list[Figure]:
    cpu = _sum_cpu(spent)
    values = {
        "statements": sum(asked.statements.values()) / LOGGED_JOBS,
        "transact.": asked.transactions / LOGGED_JOBS,
        "WAL, KiB": sum(each.wal_bytes for each in spent) / 1024 / jobs,
        "PG CPU ms": cpu["postgres"] * 1000 / jobs,
        "Valkey ms": cpu["valkey"] * 1000 / jobs,
    }
    return [Figure("databases, per job", row, column, value) for column, value in values.items()]


def _list_statements(found: Findings) -> list[Figure]:
    table, sides = "statements per job", {"accepted": found.accepting.statements, "done": found.doing.statements}
    both = found.accepting.statements + found.doing.statements
    return [
        Figure(table, name, column, counted[name] / LOGGED_JOBS)
        for name, count in both.most_common()
        if count / LOGGED_JOBS >= RARE
        for column, counted in sides.items()
    ]


def _list_marks(found: Findings) -> list[Mark]:
    """List the marks of the kinds for which there are cores: two machines need twice what one does."""
    return [
        Mark(f"two machines beside one, {kind}", _compare(found.works, kind), MARK_TIMES, "times", is_minimum=True)
        for kind in KINDS
        if _has_cores(found.works, kind)
    ]


def _tell_what_is_short(works: Works) -> dict[str, str]:
    told = "one machine has {:.1f} of {} cores busy: two cannot do {} times as much here"
    return {
        kind: told.format(_count_cores(works[kind, 1]), os.cpu_count(), MARK_TIMES)
        for kind in KINDS
        if not _has_cores(works, kind)
    }


def _has_cores(works: Works, kind: str) -> bool:
    return MARK_TIMES * _count_cores(works[kind, 1]) <= (os.cpu_count() or 1)


def _compare(works: Works, kind: str) -> float:
    return _count_rate(works[kind, 2]) / _count_rate(works[kind, 1])


def _count_rate(works: Sequence[Work]) -> float:
    """Count jobs per second, from the first webhook to the last."""
    return sum(work.jobs - 1 for work in works) / sum(work.webhook_seconds for work in works)


def _count_cores(works: Sequence[Work]) -> float:
    """Count the cores that were busy with these jobs: the service, the servers, the origin and this process."""
    busy = sum(work.done.cpu.service + sum(work.done.cpu.beside.values()) for work in works)
    return busy / sum(work.done.seconds for work in works)


def _count_jobs(works: Iterable[Work]) -> int:
    return sum(work.jobs for work in works)


def _sum_cpu(spent: Iterable[Spent]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for cpu in (each.cpu for each in spent):
        others = {"everybody else": cpu.foreign, "kept by the host": cpu.stolen}
        for row, value in {**cpu.by_kind, **cpu.beside, **others}.items():
            seconds[row] += value
    return seconds


if __name__ == "__main__":
    main()
