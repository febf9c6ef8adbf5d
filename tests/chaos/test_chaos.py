"""The proof: whatever is killed, every accepted job ends once and its caller hears of it."""

import pytest

from tests.chaos.run import run_chaos

JOBS = 250
"""In each run; `make chaos` runs more."""
SEED = 20261123


@pytest.mark.timeout(240)
@pytest.mark.parametrize("combination", ["embedded", "production"])
def test_nothing_accepted_is_lost_whatever_is_killed(
    combination: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each accepted job has one final event, and its callback came at least once, with one id and the same bytes."""
    report = run_chaos(combination, tmp_path_factory.mktemp("chaos"), job_count=JOBS, seed=SEED)
    with capsys.disabled():
        print("", *report.lines, sep="\n    ")
    assert report.faults == []
