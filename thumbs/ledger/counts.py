"""What the processes have counted, added up; see thumbs.tally."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from thumbs.ledger.database import Database
from thumbs.ledger.tables import counts

_ADD: Final = sa.text(
    "INSERT INTO counts (name, labels, value) VALUES (:name, :labels, :value) "
    "ON CONFLICT (name, labels) DO UPDATE SET value = counts.value + excluded.value"
)


class Counts:
    """The counts of the ledger, by name and labels (a JSON object, its members sorted)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, values: Mapping[tuple[str, str], float]) -> None:
        """Add to counts, all or none; in one order, so that two processes do not wait for each other."""
        rows = [{"name": name, "labels": labels, "value": values[name, labels]} for name, labels in sorted(values)]
        with self._database.writing() as connection:
            connection.execute(_ADD, rows)

    def list_all(self) -> list[tuple[str, str, float]]:
        """List name, labels and value of each."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(counts).order_by(counts.c.name, counts.c.labels))
            return [(row.name, row.labels, row.value) for row in rows]
