"""Tells before the start, in one line, that the port is taken: gunicorn itself tries for five seconds and says less."""

import contextlib
import socket

from thumbs.errors import SettingsError
from thumbs.settings import Settings


def check_port_free(settings: Settings) -> None:
    """Raise SettingsError when the port is taken or may not be bound."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"PORT={settings.port} cannot be used on {settings.host}: {error.strerror}. "
                "Stop what listens there, or set another PORT."
            ) from error
