"""What the sandbox around a decode costs: `Sandbox.render` beside the same pipeline in a process of its own, in turns.

Both have the bytes in memory already, and the times of the bare pipeline are taken inside its process. So what is more
is the way into the child and back: bytes and thumbnail through pipes, pebble's threads, and waking three processes.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Final

import psutil

from bench.parts import open_parts
from bench.report import Figure, Mark, find_point
from bench.source import build_heavy, build_tiny
from tests.support.stack import ROOT
from thumbs.domain import ThumbnailSpec
from thumbs.errors import DecoderCrashed
from thumbs.sandbox import Sandbox

CORPUS: Final = Path(__file__).parents[2] / "shared/corpus"
PICTURES: Final = {
    "JPEG, 1.3 MP": "photos/j01_iphone4.jpg",
    "JPEG, 12 MP": "photos/j12_canon450d.jpg",
    "PNG, 32 px": "pngsuite/primary/basn2c08.png",
    "PNG, 2.5 MP": "photos/n02_rgb.png",
    "PNG, 0.7 MP, 16 bit": "photos/n07_weld_16bit.png",
    "GIF, 2.5 MP": "photos/g02_static.gif",
    "BMP, 2.5 MP": "photos/b02_rgb.bmp",
    "WebP, 2.5 MP": "photos/w02_lossy.webp",
    "WebP, 6 MP": "photos/w06_lossy.webp",
    "AVIF, 6 MP": "photos/a06_hato_8bit.avif",
}
PADDINGS: Final = {"0": 0, "300 kB": 300_000, "5 MB": 5_000_000, "20 MB": 20_000_000}
"""What is appended to a tiny JPEG, behind its end: bytes that are carried and never decoded."""
LARGE: Final = ThumbnailSpec(width=1024, height=1024, quality=100)
"""A thumbnail of some 500 kB: what a large answer costs."""
WAIT_SECONDS: Final = 30.0
TABLE: Final = "decode, p50, ms"
START_TABLE: Final = "decoder child, ms"
MARK_MS: Final = 3.0
WORK_SECONDS: Final = 0.05
"""How long a child is at work before it is killed."""


@dataclass(frozen=True, slots=True)
class Decode:
    """One picture to be made a thumbnail of, and the milliseconds that it took in either way."""

    name: str
    path: Path
    source_bytes: int
    spec: ThumbnailSpec
    bare_ms: list[float] = field(default_factory=list)
    ours_ms: list[float] = field(default_factory=list)
    parent_cpu_ms: list[float] = field(default_factory=list)

    @property
    def more_ms(self) -> float:
        """The median of what the sandbox took more than the bare pipeline right beside it."""
        return _median([ours - bare for ours, bare in zip(self.ours_ms, self.bare_ms, strict=True)])


class _BareDecoder:
    """The process of bench.decoder, as its caller sees it."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers

    def render(self, decode: Decode) -> float:
        """Make the thumbnail there, and return the milliseconds that it took."""
        self._requests.write(json.dumps([str(decode.path), asdict(decode.spec)]) + "\n")
        self._requests.flush()
        line = self._answers.readline()
        if not line:
            raise SystemExit("the bare decoder has ended: above it says why")
        return float(line)


def list_missing() -> list[str]:
    """List the pictures of the corpus that are not there, as paths in it."""
    return [path for path in PICTURES.values() if not (CORPUS / path).exists()]


def measure_decodes(source: Path, folder: Path, times: int) -> list[Decode]:
    """Decode each picture so many times in both ways: the source, those of the corpus, and a tiny one with padding."""
    decodes = _list_decodes(source, folder)
    with open_parts(folder, THUMBS_DECODERS="1") as services, _run_bare_decoder() as bare:
        services.sandbox.start()
        for decode in decodes:  # Imports and caches are not what is meant.
            _measure_once(replace(decode, bare_ms=[], ours_ms=[], parent_cpu_ms=[]), services.sandbox, bare, 0)
        for number in range(times):
            for decode in decodes:
                _measure_once(decode, services.sandbox, bare, number)
    return decodes


def list_decode_figures(decodes: Sequence[Decode]) -> list[Figure]:
    """List the medians, and what the sandbox takes more."""
    figures = []
    for decode in decodes:
        bare_ms, ours_ms = _median(decode.bare_ms), _median(decode.ours_ms)
        columns = {
            "kB": decode.source_bytes / 1000,
            "bare": bare_ms,
            "sandbox": ours_ms,
            "− bare": decode.more_ms,
            ": bare": ours_ms / bare_ms,
            "parent CPU": _median(decode.parent_cpu_ms),
        }
        figures += [Figure(TABLE, decode.name, column, value) for column, value in columns.items()]
    return figures


def list_decode_marks(decodes: Sequence[Decode]) -> list[Mark]:
    """List the mark for each picture."""
    return [Mark(f"decode of {decode.name}: sandbox − bare", decode.more_ms, MARK_MS, "ms") for decode in decodes]


def measure_starts(folder: Path, times: int) -> list[Figure]:
    """Measure from no child to its first picture: at the start, and after the only child was killed."""
    tiny, heavy = build_tiny(folder / "tiny.jpg").read_bytes(), build_heavy(folder / "heavy.png").read_bytes()
    rows = {"start to first picture": [_measure_start(folder, tiny) for _ in range(times)]}
    with open_parts(folder, THUMBS_DECODERS="1") as services:
        sandbox = services.sandbox
        sandbox.start()
        rows["killed when idle to next picture"] = [_measure_kill_when_idle(sandbox, tiny) for _ in range(times)]
        rows["killed at work to next picture"] = [_measure_kill_at_work(sandbox, tiny, heavy) for _ in range(times)]
    return [
        Figure(START_TABLE, row, column, value)
        for row, values in rows.items()
        for column, value in {"p50": _median(values), "min": min(values), "max": max(values)}.items()
    ]


def _list_decodes(source: Path, folder: Path) -> list[Decode]:
    tiny = build_tiny(folder / "tiny.jpg").read_bytes()
    decodes = [_plan("the source", source), _plan("the source, to 1024 px", source, LARGE)]
    decodes += [_plan(name, CORPUS / path) for name, path in PICTURES.items() if (CORPUS / path).exists()]
    for name, size in PADDINGS.items():
        path = folder / f"padded-{size}.jpg"
        path.write_bytes(tiny + bytes(size))
        decodes.append(_plan(f"tiny JPEG + {name}", path))
    return decodes


def _plan(name: str, path: Path, spec: ThumbnailSpec | None = None) -> Decode:
    return Decode(name, path, path.stat().st_size, spec or ThumbnailSpec())


@contextmanager
def _run_bare_decoder() -> Iterator[_BareDecoder]:
    command = [sys.executable, "-m", "bench.decoder"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _BareDecoder(process.stdin, process.stdout)
        finally:
            process.kill()


def _measure_once(decode: Decode, sandbox: Sandbox, bare: _BareDecoder, turn: int) -> None:
    """Measure both ways once; who is first takes turns."""
    body = decode.path.read_bytes()
    for is_ours in (turn % 2 == 0, turn % 2 == 1):
        if is_ours:
            ours_ms, cpu_ms = _render(sandbox, body, decode.spec)
            decode.ours_ms.append(ours_ms)
            decode.parent_cpu_ms.append(cpu_ms)
        else:
            decode.bare_ms.append(bare.render(decode))


def _render(sandbox: Sandbox, body: bytes, spec: ThumbnailSpec) -> tuple[float, float]:
    """Render in the sandbox; returns milliseconds on the clock, and of this process's CPU."""
    began, cpu_began = time.perf_counter(), time.process_time()
    sandbox.render(body, [spec], wait_seconds=WAIT_SECONDS)
    cpu_ms, wall_ms = (time.process_time() - cpu_began) * 1000, (time.perf_counter() - began) * 1000
    return wall_ms, cpu_ms


def _measure_start(folder: Path, body: bytes) -> float:
    with open_parts(folder, THUMBS_DECODERS="1") as services:
        began = time.perf_counter()
        services.sandbox.start()
        services.sandbox.render(body, [ThumbnailSpec()], wait_seconds=WAIT_SECONDS)
        return (time.perf_counter() - began) * 1000


def _measure_kill_when_idle(sandbox: Sandbox, body: bytes) -> float:
    _render(sandbox, body, ThumbnailSpec())
    began = time.perf_counter()
    _find_child().kill()
    _render(sandbox, body, ThumbnailSpec())
    return (time.perf_counter() - began) * 1000


def _measure_kill_at_work(sandbox: Sandbox, body: bytes, heavy: bytes) -> float:
    """Kill the child at a picture that takes it longer than WORK_SECONDS."""
    _render(sandbox, body, ThumbnailSpec())
    child = _find_child()
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(_render, sandbox, heavy, ThumbnailSpec())
        time.sleep(WORK_SECONDS)
        began = time.perf_counter()
        child.kill()
        _render(sandbox, body, ThumbnailSpec())
        ended = time.perf_counter()
        if not isinstance(broken.exception(), DecoderCrashed):
            raise SystemExit("the child was killed too late: the picture is not heavy enough for this machine")
    return (ended - began) * 1000


def _find_child() -> psutil.Process:
    """Find the only decoder child of ours."""
    children = psutil.Process().children()
    return next(child for child in children if "spawn_main" in " ".join(child.cmdline()))


def _median(values: Sequence[float]) -> float:
    return find_point(values, "p50")
