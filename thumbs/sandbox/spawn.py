"""How a child is started: without the parent's main script, and on a pipe that carries no pickles back.

`decoder` makes a DecoderContext for each pool; pebble takes its processes, pipes and locks from it.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from thumbs.sandbox.pipe import Dialogue, TaskWriter, open_answer_pipe

_MAIN_HIDING = threading.Lock()


class DecoderProcess(SpawnProcess):
    """A spawned process that does not run the parent's main script again, and dies when told to.

    Spawn imports the parent's `__main__` in the child: for huey_consumer 0.2 s and 20 MB, for `thumbs` the whole
    application, for a script without a guard the script itself. The child needs none of it.
    """

    def start(self) -> None:
        """Start the process, without the main script."""
        with _hide_main():
            super().start()

    def terminate(self) -> None:
        """Kill: the child ignores SIGTERM, so that one to the whole group lets renders under way finish."""
        self.kill()


class DecoderContext(SpawnContext):
    """What pebble makes one decoder from: one process, and the two pipes."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue = Dialogue()
        self._pipe_count = 0

    def Process(self, **options: Any) -> DecoderProcess:  # type: ignore[override]  # noqa: N802  multiprocessing's word.
        """Build the process. A child that is gone, even by exit(0), is not replaced: that breaks the pool."""
        if self.dialogue.process is not None:
            raise OSError("a decoder has one child")
        process = DecoderProcess(**options)
        self.dialogue.process = process
        return process

    def Pipe(self, duplex: bool = True) -> Any:  # noqa: N802  multiprocessing's word.
        """Open a pipe: pebble asks first for the one to the child, then for the one back.

        Were it the other way round, our end would be asked to write tasks, and nothing would run at all.
        """
        self._pipe_count += 1
        if self._pipe_count > 1:
            return open_answer_pipe(self.dialogue)
        reader, writer = super().Pipe(duplex)
        return reader, TaskWriter(writer, self.dialogue)


@contextmanager
def _hide_main() -> Iterator[None]:
    """Let multiprocessing see an empty `__main__`, for the 5 ms that starting a process takes."""
    with _MAIN_HIDING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
