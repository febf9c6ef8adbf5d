"""Moves that are made at the same time."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def race(*moves: Callable[[], T]) -> list[T]:
    """Make moves at the same time, a thread each; returns their results in the order of the moves."""
    barrier = threading.Barrier(len(moves), timeout=10)

    def start(move: Callable[[], T]) -> T:
        barrier.wait()
        return move()

    with ThreadPoolExecutor(len(moves)) as pool:
        return list(pool.map(start, moves))
