"""`thumbs settings`: every setting with its value and where it is from; docs/settings.md is made by it, too."""

import os

import click

from thumbs.settings import list_settings, read_settings

DOCUMENT_HEAD = """# Settings

Environment variables, read once at start, validated, frozen. A bad value stops the start with one line. This page is
generated: `thumbs settings --markdown > docs/settings.md`.

| variable | default | meaning |
|---|---|---|"""


@click.command()
@click.option("--markdown", is_flag=True, help="Print the documentation page instead.")
def settings(markdown: bool) -> None:
    """Print every setting: its value, and whether it is set or a default."""
    if markdown:
        click.echo(render_markdown(), nl=False)
        return
    values = read_settings(os.environ)
    for name, setting in list_settings().items():
        value = getattr(values, name)
        shown = "********" if setting.is_secret and os.environ.get(setting.variable) else _show(value)
        origin = "set" if os.environ.get(setting.variable) else "default"
        click.echo(f"{setting.variable:34} {shown:40} {origin}")


def render_markdown() -> str:
    """Render the documentation page of the settings."""
    rows = [f"| `{each.variable}` | {each.default_help} | {each.help} |" for each in list_settings().values()]
    return "\n".join([DOCUMENT_HEAD, *rows]) + "\n"


def _show(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, tuple):
        return ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
