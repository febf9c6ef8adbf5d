"""The ledger's schema, step by step. `upgrade` is what `thumbs migrate` (the release phase) runs.

Migrations are additive: a release's code and the one before it work on the same schema side by side.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the schema to the revision. Idempotent."""
    command.upgrade(build_config(database_url), revision)


def build_config(database_url: str) -> Config:
    """Build Alembic's configuration; the URL travels as an attribute, so that `%` in it is harmless."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    return config
