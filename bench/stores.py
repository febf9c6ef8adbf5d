"""Backlogs to measure: for each a ledger and a queue, a web process in front of them, and a probe inside them."""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from bench.engines import Engines
from bench.load import post_job
from bench.programs import build_environ, migrate, start_web, telling_logs
from tests.support.chaos import Supervisor
from tests.support.stack import ROOT

MAX_QUEUED_JOBS: Final = "10000000"
"""Nothing is refused."""
SOURCE_URL: Final = "https://img.example/photo.jpg?n={}"
CALLBACK_URL: Final = "https://app.example/hook"
"""Nobody fetches or calls them: there is no worker."""


class Store:
    """One backlog, and how long everything took there."""

    def __init__(self, size: int, web_port: int, probe: subprocess.Popen[str]) -> None:
        assert probe.stdin is not None
        assert probe.stdout is not None
        self.size = size
        self.times_ms: dict[str, list[float]] = defaultdict(list)
        self._web_port = web_port
        self._numbers = count()
        self._input: IO[str] = probe.stdin
        self._output: IO[str] = probe.stdout

    def start_filling(self) -> None:
        """Tell the probe to queue the jobs; the others can be told meanwhile."""
        self._tell("fill", self.size)

    def finish_filling(self) -> float:
        """Wait until they are queued, and return the seconds that it took."""
        seconds: float = self._hear()
        return seconds

    def measure(self, name: str, times: int) -> None:
        """Measure so many times: "accept", or what the probe can do."""
        if name == "accept":
            self.times_ms[name] += [self._accept() for _ in range(times)]
        else:
            self._tell(name, times)
            self.times_ms[name] += self._hear()

    def _accept(self) -> float:
        source_url = SOURCE_URL.format(next(self._numbers))
        began = time.perf_counter()
        post_job(self._web_port, source_url, CALLBACK_URL)
        return (time.perf_counter() - began) * 1000

    def _tell(self, name: str, argument: int) -> None:
        self._input.write(json.dumps([name, argument]) + "\n")
        self._input.flush()

    def _hear(self) -> Any:
        line = self._output.readline()
        if not line:
            raise SystemExit("the probe has ended: above it says why")
        return json.loads(line)


@contextmanager
def open_stores(engines: Engines, sizes: Sequence[int], folder: Path) -> Iterator[list[Store]]:
    """Open an empty store for each size, until the block ends."""
    with Supervisor(folder) as supervisor, ExitStack() as probes:
        stores = [_open_store(engines, size, folder, supervisor, probes) for size in sizes]
        with telling_logs(supervisor, *(f"web-{size}" for size in sizes)):
            yield stores


def _open_store(engines: Engines, size: int, folder: Path, supervisor: Supervisor, probes: ExitStack) -> Store:
    changes = {"WEB_CONCURRENCY": "1", "THUMBS_MAX_QUEUED_JOBS": MAX_QUEUED_JOBS}
    environ = build_environ(folder / f"data-{size}", engines.create_store(), **changes)
    migrate(environ)
    web_port = start_web(supervisor, f"web-{size}", environ)
    return Store(size, web_port, probes.enter_context(_run_probe(environ)))


@contextmanager
def _run_probe(environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a probe; it is no part of our session, and ends with its input even when we are killed."""
    command = [sys.executable, "-m", "bench.probe"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as probe:
        try:
            yield probe
        finally:
            probe.kill()
