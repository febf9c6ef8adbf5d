"""`make chaos JOBS=10000`: the same as the test, for longer and with another seed each time; for people."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.chaos.run import run_chaos

COMBINATIONS: Final = ("embedded", "production")
MAX_SEED: Final = 1_000_000


def main() -> int:
    """Run it; 1 when a promise was broken. The logs stay in the folder that is printed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="in all; 12 a second are submitted")
    parser.add_argument("--combination", choices=COMBINATIONS, action="append", help="both when not given")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(MAX_SEED))
    options = parser.parse_args()
    combinations = options.combination or list(COMBINATIONS)
    fault_count = 0
    for combination in combinations:
        folder = Path(tempfile.mkdtemp(prefix=f"thumbs-chaos-{combination}-"))
        print(f"logs in {folder}", flush=True)
        report = run_chaos(combination, folder, job_count=options.jobs // len(combinations), seed=options.seed)
        print(*report.lines, *(f"BROKEN: {fault}" for fault in report.faults), sep="\n    ", flush=True)
        fault_count += len(report.faults)
    return 1 if fault_count else 0


if __name__ == "__main__":
    sys.exit(main())
