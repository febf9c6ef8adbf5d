"""Every backend of each protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Postgres, open_postgres_ledger
from tests.support.ledgers import make_sqlite_ledger
from thumbs.ledger import Ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A migrated ledger, on each database."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        with open_postgres_ledger(postgres) as ledger:
            yield ledger
        return
    ledger = make_sqlite_ledger(tmp_path)
    yield ledger
    ledger.close()
