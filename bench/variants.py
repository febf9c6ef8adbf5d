"""Who does the work in the pipeline bench, all of them up at once: ours on either pair of databases, RQ and Celery.

Each is done work with in its turn. The others rest meanwhile, which costs 2 % of a core at the most.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench.engines import Engines, run_engines
from bench.load import Caller, Origin, post_job
from bench.processes import CpuSpent, CpuTimes, Memory, read_cpu, read_memory
from bench.programs import build_environ, migrate, start_consumer, start_web
from bench.queues import QUEUES, run_queue
from tests.support.chaos import Supervisor
from tests.support.stack import Stack

EMBEDDED: Final = "SQLite"
PRODUCTION: Final = "PostgreSQL"
OURS: Final = (EMBEDDED, PRODUCTION)
VARIANTS: Final = (*OURS, *QUEUES)
WEB_PROCESSES: Final = "2"
"""The default; the tests' own stack has one."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One that runs: how it gets jobs, and what its processes are.

    Ours are listed, and told apart by kind; of others the roots are known, each counts with its children. Databases
    are beside the work, whosever they are.
    """

    name: str
    caller: Caller
    read_log: Callable[[], str]
    list_pids: Callable[[], Sequence[int]] = tuple
    roots: Mapping[str, int] = field(default_factory=dict)
    databases: Mapping[str, int] = field(default_factory=dict)

    def read_cpu(self) -> CpuTimes:
        """Read the CPU time so far, of it and of what is beside it."""
        beside = {"load generator": os.getpid(), "origin": self.caller.origin.pid}
        return read_cpu(self.list_pids(), beside, {**self.roots, **self.databases})

    def read_memory(self) -> list[Memory]:
        """Read the memory of each process of ours."""
        return read_memory(self.list_pids())

    def list_own(self, spent: CpuSpent) -> dict[str, float]:
        """List the CPU seconds of the processes that do the work, by kind."""
        return {**spent.by_kind, **{name: spent.beside[name] for name in self.roots}}


@contextmanager
def run_variants(names: Sequence[str], origin: Origin, folder: Path, peers: Path | None) -> Iterator[list[Variant]]:
    """Run those of VARIANTS until the block ends, with the databases that they need."""
    combination = "embedded" if set(names) <= {EMBEDDED} else "production"
    with run_engines(combination, folder) as engines, ExitStack() as stack:
        yield [stack.enter_context(_run(name, origin, folder, engines, peers)) for name in names]


@contextmanager
def _run(name: str, origin: Origin, folder: Path, engines: Engines, peers: Path | None) -> Iterator[Variant]:
    if name == EMBEDDED:
        with Stack(folder / "embedded", WEB_CONCURRENCY=WEB_PROCESSES, DATABASE_URL="", REDIS_URL="") as stack:
            yield Variant(name, Caller(partial(post_job, stack.port), origin), stack.read_log, stack.list_pids)
    elif name == PRODUCTION:
        with _run_procfile(folder / "production", engines) as (supervisor, port):
            caller = Caller(partial(post_job, port), origin)
            read_log = partial(_read_logs, supervisor)
            yield Variant(name, caller, read_log, supervisor.list_pids, databases=engines.pids)
    else:
        redis_url = engines.create_store()["REDIS_URL"]  # Of a store of which only the queue is used.
        with run_queue(name, peers, redis_url, folder / f"{name}.log") as queue:
            valkey = {"valkey": engines.pids["valkey"]}
            yield Variant(name, Caller(queue.make_job, origin), queue.read_log, roots=queue.pids, databases=valkey)


@contextmanager
def _run_procfile(folder: Path, engines: Engines) -> Iterator[tuple[Supervisor, int]]:
    """Run the Procfile's processes one by one, as a deployment does: without `thumbs up`, which reads their logs."""
    folder.mkdir()
    environ = build_environ(folder / "data", engines.create_store(), WEB_CONCURRENCY=WEB_PROCESSES)
    migrate(environ)
    with Supervisor(folder) as supervisor:
        port = start_web(supervisor, "web", environ)
        for name in ("worker", "courier"):
            start_consumer(supervisor, name, environ)
        yield supervisor, port


def _read_logs(supervisor: Supervisor) -> str:
    return "\n".join(supervisor.read_log(name) for name in ("web", "worker", "courier"))
