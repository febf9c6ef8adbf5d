"""How long each step took and how large the picture was after it: what `thumbs make --explain` shows."""

from time import perf_counter

from thumbs.domain import Step
from thumbs.imaging.geometry import Size

UNKNOWN: Size = (0, 0)
"""Of a picture whose header has not been read."""


class Steps:
    """The steps of one rendering; each begins where the one before ended."""

    def __init__(self) -> None:
        self._taken: list[Step] = []
        self._began = perf_counter()

    def note(self, name: str, size: Size | None = UNKNOWN) -> None:
        """Note that a step has ended, and the picture's size in px after it."""
        now = perf_counter()
        self._taken.append(Step(name, (now - self._began) * 1000, *(size or UNKNOWN)))
        self._began = now

    def list_all(self) -> tuple[Step, ...]:
        """List them in the order in which they were taken."""
        return tuple(self._taken)
