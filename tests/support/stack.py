"""The whole service as real processes: the `ThumbsServer` that we ship, with what only our own tests look at."""

from pathlib import Path

from thumbs.accounts import get_default_account
from thumbs.cli.environment import open_services
from thumbs.testing import Answer, ThumbsServer
from thumbs.testing.server import find_free_port, wait_until

__all__ = ["NO_RATE_LIMIT", "ROOT", "Answer", "Stack", "find_free_port", "wait_until"]

ROOT = Path(__file__).parents[2]
NO_RATE_LIMIT = {"THUMBS_RATE_LIMIT": "1000000/second"}
"""More than any test or benchmark sends."""


class Stack(ThumbsServer):
    """web, worker and courier, started by `thumbs up`; `environ` changes its settings."""

    def __init__(self, data_dir: Path, **environ: str) -> None:
        super().__init__(data_dir, **NO_RATE_LIMIT | environ)

    @property
    def base(self) -> str:
        """The URL without a path."""
        return self.url

    def read_secret(self) -> str:
        """Read the callback secret as it is now, from the ledger: a rotation changes it."""
        with open_services(self.environ) as services:
            return services.cipher.decrypt(get_default_account(services).callback_secret)
