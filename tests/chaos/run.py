"""One run: traffic and strikes, then quiet until all is at rest, then the verdict."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.system import STOP_SECONDS, System, run_system
from tests.chaos.traffic import Caller, MoodyReceiver, Source
from tests.chaos.verdict import describe, is_at_rest, list_faults, list_log_faults, list_wrong_thumbnails, read_books
from tests.support.stack import wait_until

JOBS_PER_SECOND: Final = 12.0
PAUSE_SECONDS: Final = (0.3, 1.0)
"""Between two strikes: shorter than a start takes, so that some are killed while they start."""
REST_SECONDS: Final = 80.0
"""The sweep's grace of 30 s, a lease of 14 s and the longest retries, with room."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run: broken promises, and what is worth telling."""

    faults: list[str]
    lines: list[str] = field(default_factory=list)


def run_chaos(combination: str, folder: Path, *, job_count: int, seed: int) -> Report:
    """Run it; blocking: about job_count / 12 seconds, then until at rest."""
    chance = random.Random(seed)
    with Source() as source, MoodyReceiver() as receiver, run_system(combination, folder, chance) as system:
        caller = Caller(system.base, source, receiver)
        began = time.monotonic()
        strikes = _submit_and_strike(system, caller, job_count, chance)
        quiet_at = time.monotonic()
        wait_until(lambda: is_at_rest(system.environ), REST_SECONDS)
        rested_at = time.monotonic()
        wait_until(system.is_ready, REST_SECONDS)
        books = read_books(system.environ["DATABASE_URL"])
        faults = list_faults(books, caller, receiver) + list_wrong_thumbnails(books, system.base)
        faults += [*_stop(system), *list_log_faults(system.supervisor)]
        lines = [
            f"{combination}, seed {seed}: struck {quiet_at - began:.0f} s, at rest {rested_at - quiet_at:.0f} s later",
            f"killed: {', '.join(f'{name} {count}' for name, count in sorted(strikes.items()))}",
            *describe(books, caller, source, receiver),
        ]
    return Report(faults, lines)


def _submit_and_strike(system: System, caller: Caller, job_count: int, chance: random.Random) -> Counter[str]:
    """Submit every job, and kill until all are accepted."""
    is_over = threading.Event()
    strikes: Counter[str] = Counter()

    def strike() -> None:
        while not is_over.wait(chance.uniform(*PAUSE_SECONDS)):
            struck = system.strike(chance)
            if struck is not None:
                strikes[struck] += 1

    striker = threading.Thread(target=strike, name="striker")
    striker.start()
    try:
        caller.submit(job_count, job_count / JOBS_PER_SECOND)
    finally:
        is_over.set()
        striker.join()
    return strikes


def _stop(system: System) -> list[str]:
    """Stop it and list who would not, and who was left behind."""
    faults = [f"process {pid} has lost its parent" for pid in system.supervisor.list_orphans()]
    statuses = system.supervisor.stop(STOP_SECONDS)
    faults += [f"{name} ended with {status}" for name, status in statuses.items() if status != 0]
    faults += [f"process {pid} is still there" for pid in system.supervisor.list_pids()]
    return faults
