"""The command line: `thumbs up`, `demo`, `make`, `listen`, `migrate`, `doctor`, `settings`, `accounts`, `keys`.

A mistake exits with one line: 2 for what was typed, 1 for what the machine or a setting is lacking. A command is
imported when it is called: `thumbs up` stays small.
"""

from importlib import import_module
from typing import Any, Final

import click

from thumbs import __version__
from thumbs.errors import ThumbsError

COMMANDS: Final = {
    "up": "thumbs.cli.up",
    "demo": "thumbs.cli.demo",
    "make": "thumbs.cli.make",
    "listen": "thumbs.cli.listen",
    "migrate": "thumbs.cli.schema",
    "doctor": "thumbs.cli.doctor",
    "settings": "thumbs.cli.settings",
    "accounts": "thumbs.cli.accounts",
    "keys": "thumbs.cli.accounts",
}
"""Each command, and the module that has it under its name."""


class ThumbsGroup(click.Group):
    """Commands that are imported when they are called, and whose errors of ours are told in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Get a command by its name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ThumbsError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=ThumbsGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Source image URL in, exactly sized thumbnail and a signed webhook out."""
