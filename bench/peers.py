"""The engines as their callers see them: processes that make thumbnails, one for each, and which of them are there.

pyvips and sharp are no dependencies of ours. They are looked for in a folder (docs/benchmarks.md says how it is
filled), and one that is not there is named as missing.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from tests.support.stack import ROOT
from thumbs.sandbox.child import KEPT_BLOCK_BYTES, KEPT_BYTES

PEERS: Final[Sequence[str]] = ("ours", "naive", "thumbnail", "libvips", "sharp", "limit")
"""In the order of the tables: `naive` and `thumbnail` are Pillow, `limit` is the bare decoder."""
SINGLE_THREAD: Final = {"VIPS_CONCURRENCY": "1", "UV_THREADPOOL_SIZE": "1"}
AS_IN_SANDBOX: Final = {"MALLOC_MMAP_THRESHOLD_": str(KEPT_BLOCK_BYTES), "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES)}
"""What the decoder child tells the C library, for the engine that runs in it (mallopt(3) has both forms)."""
RESET_PEAK: Final = "5"
"""Written to /proc/PID/clear_refs it makes VmHWM what VmRSS is now (proc(5))."""


class CannotRender(Exception):
    """The engine has no thumbnail of this picture."""


class Peer:
    """A process that makes thumbnails of 100x100."""

    def __init__(self, name: str, pid: int, requests: IO[str], answers: IO[str]) -> None:
        self.name = name
        self._pid = pid
        self._requests = requests
        self._answers = answers

    def render(self, path: Path, times: int = 1, *, output: str = "jpeg", result: Path | None = None) -> float:
        """Make the thumbnail so many times, and return the ms of CPU for one; raises CannotRender."""
        request = {"path": str(path), "format": output, "times": times, "result": str(result) if result else None}
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended: above it says why")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise CannotRender(answer["error"])
        return float(answer["cpu_ms"])

    def measure_growth(self, path: Path) -> float:
        """Measure by how many MB one thumbnail lets the process grow at most; the file is in memory already."""
        self.render(path, times=0)
        Path(f"/proc/{self._pid}/clear_refs").write_text(RESET_PEAK, encoding="ascii")
        before_bytes = self._read_bytes("VmRSS")
        self.render(path)
        return (self._read_bytes("VmHWM") - before_bytes) / 1e6

    def _read_bytes(self, name: str) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def find_peers(folder: Path | None) -> tuple[list[str], dict[str, str]]:
    """Find the engines that are there, and why the others are missing."""
    missing = {}
    if not _has_libvips(folder):
        missing["libvips"] = "pyvips and pyvips-binary are not installed"
    if shutil.which("node") is None:
        missing["sharp"] = "there is no node"
    elif folder is None or not (folder / "node_modules" / "sharp").exists():
        missing["sharp"] = "--peers names no folder with it"
    return [name for name in PEERS if name not in missing], missing


@contextmanager
def run_peer(name: str, folder: Path | None) -> Iterator[Peer]:
    """Run an engine until the block ends."""
    environ = {**os.environ, **SINGLE_THREAD}
    if name == "ours":
        environ |= AS_IN_SANDBOX
    if name == "sharp":
        command = ["node", str(ROOT / "bench" / "sharp.mjs"), str(folder and folder.resolve())]
    else:
        command = [sys.executable, "-W", "ignore", "-m", "bench.peers_python", name]
    if name == "libvips" and folder is not None:
        environ["PYTHONPATH"] = str(_find_packages(folder))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Peer(name, process.pid, process.stdin, process.stdout)
        finally:
            process.kill()


@contextmanager
def run_peers(names: Sequence[str], folder: Path | None) -> Iterator[list[Peer]]:
    """Run several engines until the block ends."""
    with ExitStack() as stack:
        yield [stack.enter_context(run_peer(name, folder)) for name in names]


def _has_libvips(folder: Path | None) -> bool:
    is_in_folder = folder is not None and (_find_packages(folder) / "pyvips").exists()
    return is_in_folder or importlib.util.find_spec("pyvips") is not None


def _find_packages(folder: Path) -> Path:
    """Find where `pip install --target` has put Python's packages."""
    return folder.resolve() / "python"
