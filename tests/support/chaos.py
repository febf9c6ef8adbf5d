"""A little supervisor for processes that are killed on purpose: starts them, starts them again, and stops them all.

Each program's output goes to a file of its own. Every process that a supervisor starts has a mark in its environment,
which its children inherit, so that what is left behind is found, whoever its parent is by then.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psutil

POLL_SECONDS: Final = 0.05
RESTART_SECONDS: Final = 0.3
"""How long a program that has ended stays away: no faster than a platform would be."""
MARK: Final = "CHAOS_MARK"


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, and how it is told to stop; `before_start` is called before each start."""

    name: str
    command: Sequence[str]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    before_start: Callable[[], object] = lambda: None


class Supervisor:
    """Keeps programs running from `with` on; they are stopped in the reverse of their order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start_counts: dict[str, int] = {}
        self._programs: dict[str, Program] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill whatever is left."""
        self._end_watch()
        for process in self._processes.values():
            _kill_tree(process.pid)
            process.wait()
        for pid in self.list_pids():
            kill(pid)

    def add(self, program: Program) -> None:
        """Start a program, and keep it running."""
        with self._lock:
            self._programs[program.name] = program
            self._start(program)

    def get_pid(self, name: str) -> int:
        """Get the id of a program's main process, as it is or last was."""
        return self._processes[name].pid

    def list_children(self, name: str, mark: str = "") -> list[int]:
        """List the processes below a program's main one whose command line contains the mark."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.get_pid(name)).children(recursive=True)
            return sorted(child.pid for child in children if mark in _read_command(child))
        return []

    def list_pids(self) -> list[int]:
        """List every process that was started from here, children of children too."""
        mark = f"{MARK}={self.folder}".encode()
        return [pid for pid in psutil.pids() if mark in _read_environ(pid)]

    def list_orphans(self) -> list[int]:
        """List the processes from here whose parent is neither one of them nor we."""
        ours = {*self.list_pids(), os.getpid()}
        return [pid for pid in ours - {os.getpid()} if _find_parent(pid) not in ours]

    def stop(self, timeout_seconds: float) -> dict[str, int]:
        """Stop each program as it is told to, the last one first, and return their exit statuses."""
        self._end_watch()
        statuses = {}
        for name in reversed(self._programs):
            process = self._processes[name]
            process.send_signal(self._programs[name].stop_signal)
            statuses[name] = process.wait(timeout_seconds)
        return statuses

    def read_log(self, name: str) -> str:
        """Read what a program has printed, over all its lives."""
        return self._log_path(name).read_text(encoding="utf-8", errors="replace")

    def _log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(self, program: Program) -> None:
        program.before_start()
        environ = {**program.environ, MARK: str(self.folder)}
        with self._log_path(program.name).open("ab") as log:
            self._processes[program.name] = subprocess.Popen(
                program.command,
                cwd=program.cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=program.user,
                group=program.user,
                extra_groups=[] if program.user else None,
                start_new_session=True,
            )
        self.start_counts[program.name] = self.start_counts.get(program.name, 0) + 1

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            with self._lock:
                for program in self._programs.values():
                    self._start_again_if_ended(program)

    def _start_again_if_ended(self, program: Program) -> None:
        if self._processes[program.name].poll() is None:
            return
        ended_at = self._ended_at.setdefault(program.name, time.monotonic())
        if time.monotonic() - ended_at >= RESTART_SECONDS:
            del self._ended_at[program.name]
            self._start(program)

    def _end_watch(self) -> None:
        self._stopping.set()
        self._thread.join()


def kill(pid: int) -> bool:
    """Kill a process with -9; False when it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _kill_tree(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            kill(child.pid)
    kill(pid)


def _read_command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _read_environ(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _find_parent(pid: int) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).ppid()
    return os.getpid()  # It has ended since it was listed.
