"""The bare work of a job, without a service around it: the same picture decoded, the same picture fetched."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

import requests

from bench.queues_python import make_small
from thumbs.domain import DecodeLimits, ThumbnailSpec
from thumbs.imaging import make_thumbnails

TIMES: Final = 60


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds per piece of work, on the clock and of CPU."""

    wall_ms: float
    cpu_ms: float


def measure_ours(body: bytes) -> Cost:
    """Measure thumbs.imaging: from the picture's bytes to the thumbnail's."""
    specs, limits = [ThumbnailSpec()], DecodeLimits()
    return _measure(lambda: make_thumbnails(body, specs, limits))


def measure_small(body: bytes) -> Cost:
    """Measure Pillow as RQ's and Celery's workers use it here."""
    return _measure(lambda: make_small(body))


def measure_everywhere(measure: Callable[[bytes], Cost], body: bytes) -> Cost:
    """Measure on every core at once: cores that share a unit are slower so, as they are under load."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        costs = list(pool.map(measure, [body] * cores))
    return Cost(statistics.fmean(cost.wall_ms for cost in costs), statistics.fmean(cost.cpu_ms for cost in costs))


def measure_fetch(url: str) -> Cost:
    """Measure plain requests: one connection per picture, as the service has it."""
    return _measure(lambda: requests.get(url, timeout=10).content)


def _measure(work: Callable[[], object]) -> Cost:
    work()  # Imports and caches are not what is meant.
    began, cpu_began = time.perf_counter(), time.process_time()
    for _ in range(TIMES):
        work()
    cpu_ms, wall_ms = (time.process_time() - cpu_began) * 1000, (time.perf_counter() - began) * 1000
    return Cost(wall_ms / TIMES, cpu_ms / TIMES)
