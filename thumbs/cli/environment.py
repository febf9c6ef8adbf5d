"""What every command needs: the settings, the services, and errors told in one line."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from thumbs.errors import QueueUnavailable
from thumbs.preparation import prepare
from thumbs.services import Services, build, check_ledger
from thumbs.settings import Settings, read_settings


class NoDispatcher:
    """Stands for the queue in commands that put nothing on it: the sweep dispatches what they leave."""

    def process(self, job_id: str, delay_seconds: float = 0) -> None:  # noqa: ARG002
        """Refuse."""
        raise QueueUnavailable("this command does not use the queue")

    deliver = process

    def count_jobs(self) -> int:
        """Refuse."""
        raise QueueUnavailable("this command does not use the queue")

    count_deliveries = count_jobs

    def find_oldest_job_at(self) -> datetime | None:
        """Refuse."""
        raise QueueUnavailable("this command does not use the queue")


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and prepare the settings of an environment, by default ours. Raises SettingsError."""
    return prepare(read_settings(environ, is_terminal=sys.stdout.isatty()))


@contextmanager
def open_services(environ: Mapping[str, str] = os.environ) -> Iterator[Services]:
    """Open the services of an environment, by default ours. Raises SettingsError; also for an older schema."""
    services = build(load_settings(environ), NoDispatcher())
    try:
        check_ledger(services)
        yield services
    finally:
        services.close()
