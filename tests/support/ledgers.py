"""Ledgers for tests: migrated once, copied for each."""

import functools
import shutil
import tempfile
from pathlib import Path

from thumbs.ledger import Ledger
from thumbs.migrations import upgrade


def make_sqlite_ledger(folder: Path) -> Ledger:
    """Make a ledger in a fresh SQLite file with today's schema."""
    path = folder / "ledger.db"
    shutil.copyfile(_migrate_template(), path)
    return Ledger(f"sqlite:///{path}")


@functools.cache
def _migrate_template() -> Path:
    """Migrate a file once per test run; copying it takes a millisecond."""
    path = Path(tempfile.mkdtemp(prefix="thumbs-tests-")) / "template.db"
    upgrade(f"sqlite:///{path}")
    return path
