"""One environment variable: what is known of it, and how its text becomes a setting's value.

`settings` has the table of them, one field of `Settings` each. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any

from thumbs.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting: `default` is the text that stands for an unset variable; None is 'not set'."""

    variable: str
    default: str | None
    default_help: str
    help: str
    parse: Callable[[str], Any]
    is_secret: bool = False

    def read(self, environ: Mapping[str, str], computed: Mapping[str, str]) -> Any:
        """Read its value; `computed` are the defaults that depend on where we are. Raises SettingsError."""
        text = environ.get(self.variable, "").strip() or computed.get(self.variable) or self.default
        if text is None:
            return None
        try:
            return self.parse(text)
        except ValueError as error:
            shown = "(secret)" if self.is_secret else repr(text)
            raise SettingsError(f"{self.variable}={shown} cannot be used: {error}.") from error


def define_setting(
    variable: str,
    default: str | None,
    parse: Callable[[str], Any],
    help: str,
    *,
    default_help: str = "",
    is_secret: bool = False,
) -> Any:
    """Define a field of `Settings`; a secret is left out of its repr."""
    told = default_help or (f"`{default}`" if default is not None else "–")
    setting = Setting(variable, default, told, help, parse, is_secret)
    return field(repr=not is_secret, metadata={"setting": setting})


def get_setting(each: Field[Any]) -> Setting:
    """Get what a field of `Settings` was defined with."""
    setting: Setting = each.metadata["setting"]
    return setting
