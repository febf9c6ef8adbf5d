"""Where thumbnails' bytes are kept. The names are drawn once with the job, so storing twice is harmless."""

from datetime import datetime
from typing import Protocol

from thumbs.domain import Blob


class BlobStore(Protocol):
    """Keeps small blobs by name. Methods are atomic; they raise UnavailableError when the store does not answer."""

    def put(self, blob: Blob) -> None:
        """Write the blob under its name, in place of one that is there."""

    def find(self, name: str, now: datetime) -> Blob | None:
        """Find a blob that has not expired."""

    def delete(self, name: str) -> None:
        """Delete a blob; one that is not there is fine."""

    def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` expired blobs and tell how many."""
