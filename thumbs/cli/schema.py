"""`thumbs migrate`: the release phase."""

import click

from thumbs.cli.environment import load_settings
from thumbs.ledger import SCHEMA_REVISION
from thumbs.migrations import upgrade


@click.command()
def migrate() -> None:
    """Bring the ledger's schema up to date. Safe to repeat."""
    upgrade(load_settings().database_url)
    click.echo(f"The ledger's schema is at {SCHEMA_REVISION}.")
