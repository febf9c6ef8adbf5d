"""RQ and Celery as their callers see them: which are there, and running two workers and who enqueues for them.

They are no dependencies of ours. They are looked for in a folder (docs/benchmarks.md says how it is filled), and one
that is not there is named as missing.
"""

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tests.support.stack import ROOT

QUEUES: Final[Mapping[str, str]] = {"RQ": "rq", "RQ simple": "rq", "Celery": "celery"}
"""The package of each: RQ's default forks for every job, its SimpleWorker does not, Celery has processes that stay."""
STOP_SECONDS: Final = 10.0


class RunningQueue:
    """Two workers that wait for jobs, and who enqueues for them."""

    def __init__(self, enqueue: "subprocess.Popen[str]", work: "subprocess.Popen[str]", log: Path) -> None:
        assert enqueue.stdin is not None
        self.pids = {"enqueue": enqueue.pid, "workers": work.pid}
        self._input: IO[str] = enqueue.stdin
        self._lock = threading.Lock()
        self._log = log

    def make_job(self, source_url: str, callback_url: str) -> None:
        """Enqueue a job; thread-safe, and it does not wait until that is done."""
        with self._lock:
            self._input.write(f"{source_url} {callback_url}\n")
            self._input.flush()

    def read_log(self) -> str:
        """Read what its processes have printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")


def find_queues(folder: Path | None) -> tuple[list[str], dict[str, str]]:
    """Find those that are there, and why the others are missing."""
    missing = {name: f"{package} is not installed" for name, package in QUEUES.items() if not _has(package, folder)}
    return [name for name in QUEUES if name not in missing], missing


@contextmanager
def run_queue(name: str, folder: Path | None, redis_url: str, log: Path) -> Iterator[RunningQueue]:
    """Run it on an empty database of Redis until the block ends."""
    with (
        _run("work", name, redis_url, folder, log) as work,
        _run("enqueue", name, redis_url, folder, log) as enqueue,
    ):
        yield RunningQueue(enqueue, work, log)


@contextmanager
def _run(role: str, name: str, redis_url: str, folder: Path | None, log: Path) -> "Iterator[subprocess.Popen[str]]":
    """Run one of its programs, and stop it with its children: those of RQ and Celery end with their parent."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.queues_python", role, name, redis_url]
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=_build_environ(folder),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _build_environ(folder: Path | None) -> dict[str, str]:
    """Build the environment: with the folder's packages, and without the shell's proxies, which would get it all."""
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    if folder is not None:
        environ["PYTHONPATH"] = str(_find_packages(folder))
    return environ


def _has(package: str, folder: Path | None) -> bool:
    is_in_folder = folder is not None and (_find_packages(folder) / package).exists()
    return is_in_folder or importlib.util.find_spec(package) is not None


def _find_packages(folder: Path) -> Path:
    """Find where `pip install --target` has put Python's packages."""
    return folder.resolve() / "python"
