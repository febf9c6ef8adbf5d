"""The service's own parts without the service: the Outbound and the Sandbox that a worker would have, built alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.dispatcher import RecordingDispatcher
from thumbs.services import Services, build
from thumbs.settings import read_settings


@contextmanager
def open_parts(folder: Path, **environ: str) -> Iterator[Services]:
    """Build the services, with loopback allowed; the ledger is not opened, and nothing is started."""
    settings = read_settings({"THUMBS_DATA_DIR": str(folder), "THUMBS_ALLOW_CIDRS": "127.0.0.0/8,::1/128", **environ})
    services = build(settings, RecordingDispatcher())
    try:
        yield services
    finally:
        services.close()
