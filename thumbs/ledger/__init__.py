"""The ledger: every fact that thumbs promises to keep, and all SQL. Short methods in, domain values out.

A Ledger is the truth; the queue is a hint. Its methods are atomic, and each raises LedgerUnavailable when the database
does not answer.
"""

from thumbs.ledger.accounts import Accounts
from thumbs.ledger.batches import Batches
from thumbs.ledger.blobs import LedgerBlobs
from thumbs.ledger.counts import Counts
from thumbs.ledger.database import Database
from thumbs.ledger.deliveries import Deliveries
from thumbs.ledger.endpoints import Endpoints
from thumbs.ledger.events import Events
from thumbs.ledger.jobs import Jobs
from thumbs.ledger.keys import IdempotencyKeys
from thumbs.ledger.lanes import Lanes
from thumbs.ledger.redeliveries import Redeliveries
from thumbs.ledger.results import Results
from thumbs.ledger.tables import SCHEMA_REVISION
from thumbs.ledger.upkeep import Upkeep
from thumbs.ledger.uploads import Uploads

__all__ = ["SCHEMA_REVISION", "Ledger"]


class Ledger:
    """One database, by subject. Thread-safe; connections are opened when first needed."""

    def __init__(self, url: str, max_connections: int = 5) -> None:
        self._database = Database(url, max_connections)
        self.jobs = Jobs(self._database)
        self.batches = Batches(self._database)
        self.idempotency_keys = IdempotencyKeys(self._database)
        self.events = Events(self._database)
        self.deliveries = Deliveries(self._database)
        self.redeliveries = Redeliveries(self._database)
        self.lanes = Lanes(self._database)
        self.endpoints = Endpoints(self._database)
        self.accounts = Accounts(self._database)
        self.blobs = LedgerBlobs(self._database)
        self.results = Results(self._database)
        self.uploads = Uploads(self._database)
        self.counts = Counts(self._database)
        self.upkeep = Upkeep(self._database)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
