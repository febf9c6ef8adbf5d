"""What each process of the service takes: memory from /proc/PID/smaps_rollup, CPU time from /proc/PID/stat."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil

MIB: Final = 1024 * 1024
KINDS: Final[Sequence[str]] = ("up", "web master", "web worker", "worker", "decoder", "courier", "tracker")
"""`up` is `thumbs up` itself and its runner of each process; `tracker` is multiprocessing's, of the worker."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One process: resident, its share of that (pages divided by who maps them), and the most it ever had, in MiB."""

    kind: str
    pid: int
    rss_mib: float
    pss_mib: float
    peak_mib: float


def read_memory(pids: Iterable[int]) -> list[Memory]:
    """Read the memory of each process, in the order of KINDS."""
    found = []
    for process in _list_alive(pids):
        info = process.memory_full_info()
        peak_mib = _read_peak_kib(process.pid) / 1024
        found.append(Memory(_name_kind(process), process.pid, info.rss / MIB, info.pss / MIB, peak_mib))
    return sorted(found, key=lambda memory: (KINDS.index(memory.kind), memory.pid))


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds so far: of each process of the service, of others by name, of the machine, and kept from it."""

    processes: Mapping[tuple[str, int], float]
    beside: Mapping[str, float]
    machine: float
    stolen: float


def read_cpu(pids: Iterable[int], beside: Mapping[str, int], trees: Mapping[str, int]) -> CpuTimes:
    """Read user + system time, in steps of 10 ms.

    `beside` names processes that are not the service's; `trees` names such ones that count with all their children.
    """
    processes = {(_name_kind(process), process.pid): _count_seconds(process) for process in _list_alive(pids)}
    others = {name: _count_tree_seconds(psutil.Process(pid)) for name, pid in trees.items()}
    others |= {name: _count_seconds(psutil.Process(pid)) for name, pid in beside.items()}
    machine = psutil.cpu_times()
    busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq
    return CpuTimes(processes, others, busy, machine.steal)


@dataclass(frozen=True, slots=True)
class CpuSpent:
    """CPU seconds between two readings: by kind of process, beside the service, by everybody else, by the host."""

    by_kind: Mapping[str, float]
    beside: Mapping[str, float]
    foreign: float
    stolen: float

    @property
    def service(self) -> float:
        """All of the service."""
        return sum(self.by_kind.values())


def subtract(after: CpuTimes, before: CpuTimes) -> CpuSpent:
    """Tell what was spent between two readings; a process that started in between counts from nothing."""
    by_kind: dict[str, float] = defaultdict(float)
    for (kind, pid), seconds in after.processes.items():
        by_kind[kind] += seconds - before.processes.get((kind, pid), 0.0)
    beside = {name: seconds - before.beside[name] for name, seconds in after.beside.items()}
    known = sum(by_kind.values()) + sum(beside.values())
    ordered: dict[str, float] = {kind: by_kind[kind] for kind in KINDS if kind in by_kind}
    foreign = max(0.0, after.machine - before.machine - known)
    return CpuSpent(ordered, beside, foreign, after.stolen - before.stolen)


def describe_machine() -> str:
    """Describe the machine that the figures are from."""
    memory_gib = psutil.virtual_memory().total / MIB / 1024
    system = os.uname()
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {system.sysname} {system.release}, load {load:.1f} at start"


def _list_alive(pids: Iterable[int]) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def _count_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _count_tree_seconds(root: psutil.Process) -> float:
    """Count a process with its children, also those that have ended: their parent has waited for them.

    The root is read last: a child that ends meanwhile counts there.
    """
    return sum(_count_all_seconds(process) for process in [*root.children(recursive=True), root])


def _count_all_seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0


def _read_peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:  # noqa: PTH123  A file of the kernel.
        return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _name_kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    parent = process.parent()
    if "gunicorn" in command:
        return "web worker" if parent and "gunicorn" in " ".join(parent.cmdline()) else "web master"
    marks = {"spawn_main": "decoder", "resource_tracker": "tracker", "images": "worker", "webhooks": "courier"}
    return next((kind for mark, kind in marks.items() if mark in command), "up")
