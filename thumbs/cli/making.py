"""How `thumbs make` makes thumbnails: many inputs at once, each fetched or read, decoded in Sandbox, and written.

`make` calls it. What may be fetched, how much is read and how it is decoded is the service's own matter, built from the
same settings; but there is no ledger, no queue, no second try, and nothing is left behind beside the outputs.
"""

import os
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from thumbs.cli.inputs import STANDARD, SUFFIX, Input, is_url
from thumbs.documents import EXTENSIONS
from thumbs.domain import Picture, Rendering, Source, Step, Thumbnail, ThumbnailSpec
from thumbs.errors import (
    BusyError,
    JobError,
    SourceBusy,
    SourceEmpty,
    SourceTooLarge,
    ThumbsError,
    UnsupportedFormat,
    UrlNotAllowed,
)
from thumbs.services import Services

FETCH_AHEAD: Final = 4
"""So many more inputs in flight than there are decoders: their sources are read while others are decoded."""
RESULTS_AHEAD: Final = 256
"""So many inputs may be done before a slow one, in whose order they are told; a result is about 1 kB."""
DECODER_WAIT_SECONDS: Final = 3600.0
"""For a decoder, in the Sandbox's own line, in which no more than the other threads can be ahead."""
STOP_SECONDS: Final = 0.5
"""What is being written when we are stopped has so long; it takes a ms."""
HEAD_BYTES: Final = 64 * 1024
"""Of a file that is too large: enough to see whether it is an image at all."""


class InputError(ThumbsError):
    """An input fails for a reason that only the command line knows; `code` as in docs/make.md."""

    code: str

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SourceUnreadable(InputError):
    """The file is not there, or cannot be read."""

    code = "source_unreadable"


class OutputExists(InputError):
    """The output is there already, or is an input."""

    code = "output_exists"


class OutputUnwritable(InputError):
    """The output cannot be written."""

    code = "output_unwritable"


@dataclass(frozen=True, slots=True)
class Output:
    """Where thumbnails go: to `file` (`-` is standard output), or else into `folder`, each under a name of its own."""

    folder: Path = Path()
    file: str | None = None
    is_forced: bool = False

    def choose_path(self, each: Input, picture: Picture) -> Path:
        """Choose the path of an input's thumbnail."""
        if self.file is not None:
            return Path(self.file)
        name = f"{each.stem.name}{SUFFIX}.{EXTENSIONS[picture.content_type]}"
        return self.folder / each.stem.with_name(name)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an input failed; `detail` is for those who ask for it."""

    code: str
    message: str
    detail: str = ""


@dataclass(slots=True)
class Result:
    """What became of an input, and how long it took: on our side, and step by step in the decoder."""

    name: str
    output: Path | None = None
    thumbnail: Thumbnail | None = None
    source: Source | None = None
    source_bytes: int | None = None
    fault: Fault | None = None
    is_skipped: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


def make_all(maker: "Maker", inputs: Sequence[Input], *, threads: int) -> Generator[Result, None, None]:
    """Make the thumbnails of all inputs, in so many threads; yields in their order.

    Closed before its end, or interrupted, it stops the maker, and waits STOP_SECONDS for what is being written.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="make")
    ahead: deque[Future[Result]] = deque()
    try:
        for each in inputs:
            ahead.append(pool.submit(maker.make, each))
            if len(ahead) == RESULTS_AHEAD:
                yield _take_first(ahead)
        while ahead:
            yield _take_first(ahead)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        maker.stop()
        wait(ahead, timeout=STOP_SECONDS)
        raise
    pool.shutdown()


def _take_first(ahead: "deque[Future[Result]]") -> Result:
    """Take the first result out when it is there: when we are interrupted before, it is waited for with the others."""
    result = ahead[0].result()
    ahead.popleft()
    return result


class Maker:
    """Makes thumbnails by one spec, to one output. Thread-safe."""

    def __init__(self, services: Services, spec: ThumbnailSpec, output: Output, inputs: Sequence[Input]) -> None:
        """Take what all inputs share; `inputs` are what is never written over."""
        self._services = services
        self._spec = spec
        self._output = output
        self._inputs = frozenset(_list_files(inputs))
        self._stopping = threading.Event()

    def make(self, each: Input) -> Result:
        """Make one thumbnail, in one try; what goes wrong is in the result."""
        result = Result(each.name)
        try:
            self._make(each, result)
        except UnsupportedFormat as error:
            result.is_skipped = each.is_found
            result.fault = _describe_fault(error)
        except (JobError, InputError, UrlNotAllowed, BusyError) as error:
            result.fault = _describe_fault(error)
        return result

    def stop(self) -> None:
        """Cut every fetch and end every decoder: what is under way fails at once."""
        self._stopping.set()
        self._services.close()

    def _make(self, each: Input, result: Result) -> None:
        with _note_duration(result, "fetched"):
            body = self._fetch(each)
        result.source_bytes = len(body)
        self._check_size(each, body)
        with _note_duration(result, "decoded"):
            rendering = self._render(body)
        result.steps = rendering.steps
        (picture,) = rendering.pictures
        if isinstance(picture, JobError):
            raise picture
        with _note_duration(result, "stored"):
            result.output = self._store(each, picture)
        result.thumbnail, result.source = Thumbnail.of(picture), Source.of(rendering, len(body))

    def _fetch(self, each: Input) -> bytes:
        if is_url(each.name):
            return self._fetch_url(each.name)
        try:
            return self._read(each)
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte.
            raise SourceUnreadable(f"The source cannot be read: {_explain(error)}.") from error

    def _fetch_url(self, url: str) -> bytes:
        self._services.check_url("source_url", url, frozenset({"http", "https"}))
        while True:
            try:
                return self._services.outbound.fetch(url).body
            except SourceBusy as busy:  # The host is fetched from as often at once as it may be: by us.
                if self._stopping.wait(busy.delay_seconds):
                    raise

    def _read(self, each: Input) -> bytes:
        """Read a file, or standard input; of one that is too large only as much as shows it."""
        max_bytes = self._services.settings.max_source_bytes + 1
        if each.name == STANDARD and not each.is_found:
            return sys.stdin.buffer.read(max_bytes)
        with Path(each.name).open("rb") as file:
            return file.read(max_bytes)

    def _check_size(self, each: Input, body: bytes) -> None:
        """Refuse what is empty or too large; in a folder, a large file that is no image at all is no source."""
        max_bytes = self._services.settings.max_source_bytes
        if not body:
            raise SourceEmpty
        if len(body) <= max_bytes:
            return
        if each.is_found:
            self._check_is_image(body[:HEAD_BYTES])
        raise SourceTooLarge(f"more than {max_bytes} bytes")

    def _check_is_image(self, head: bytes) -> None:
        try:
            self._render(head)
        except UnsupportedFormat:
            raise
        except JobError:
            return

    def _render(self, body: bytes) -> Rendering:
        return self._services.sandbox.render(body, [self._spec], wait_seconds=DECODER_WAIT_SECONDS)

    def _store(self, each: Input, picture: Picture) -> Path:
        path = self._output.choose_path(each, picture)
        try:
            if self._output.file == STANDARD:
                _write_to_stdout(picture.body)
            elif self._output.file and path.exists() and not path.is_file():  # Such as /dev/null, or a named pipe.
                path.write_bytes(picture.body)
            else:
                self._check_is_free(path)
                _write_whole(path, picture.body)
        except OSError as error:
            raise OutputUnwritable(f"{path} cannot be written: {_explain(error)}.") from error
        return path

    def _check_is_free(self, path: Path) -> None:
        if not path.exists():
            return
        if _identify(path) in self._inputs:
            raise OutputExists(f"{path} is an input, and never written over.")
        if not self._output.is_forced:
            raise OutputExists(f"{path} is there already; --force writes over it.")


def _list_files(inputs: Sequence[Input]) -> Iterator[tuple[int, int]]:
    for each in inputs:
        with suppress(OSError, ValueError):
            yield _identify(Path(each.name))


def _identify(path: Path) -> tuple[int, int]:
    """Tell which file it is, whatever it is called."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _write_to_stdout(body: bytes) -> None:
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def _write_whole(path: Path, body: bytes) -> None:
    """Write a file that is there as a whole or not at all; its folder is made."""
    with suppress(FileExistsError):  # A folder is fine; of a file, open() says what is wrong.
        path.parent.mkdir(parents=True)
    draft = path.with_name(f".thumbs-{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(body)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _describe_fault(error: JobError | InputError | UrlNotAllowed | BusyError) -> Fault:
    if isinstance(error, JobError):
        return Fault(error.code, error.message, error.detail)
    if isinstance(error, InputError):
        return Fault(error.code, error.message)
    if isinstance(error, UrlNotAllowed):
        return Fault(error.code, error.detail)
    return Fault("decoders_busy", "No decoder could be had.", str(error))


def _explain(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


@contextmanager
def _note_duration(result: Result, step: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        result.timings_ms[step] = round((time.perf_counter() - began) * 1000, 1)
