"""What must be there before anything starts: the decoders, the data directory, its secret key; and what must be gone.

The faces call `prepare` once per process, before they build anything.
"""

import os
import secrets
from collections.abc import MutableMapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from thumbs.errors import SettingsError
from thumbs.parsers import MIN_SECRET_KEY_CHARS
from thumbs.settings import DECODABLE_FORMATS, Settings, list_settings

SECRET_KEY_FILE: Final = "secret_key"
SECRET_KEY_BYTES: Final = 32


def prepare(settings: Settings) -> Settings:
    """Make the data directory, and the secret key in it where none is set; returns the settings with that key.

    With PostgreSQL or Redis, processes on other machines need the same key, and a Heroku dyno loses its disk at every
    restart: it must be set. Raises SettingsError; also when the directory cannot be written, and for a format without
    its decoder.
    """
    check_formats(settings)
    if settings.secret_key is None and not _is_key_kept(settings):
        raise SettingsError(
            f"THUMBS_SECRET_KEY is not set: with PostgreSQL, Redis or on Heroku, expected at least "
            f"{MIN_SECRET_KEY_CHARS} random characters, the same for every process."
        )
    if not settings.database_url.startswith("sqlite:") and settings.redis_url is not None:
        return settings
    return _prepare_data_dir(settings)


def check_formats(settings: Settings) -> None:
    """Raise SettingsError when a format is to be accepted whose decoder is not installed. Nothing is imported."""
    if "heif" in settings.formats and find_spec("pillow_heif") is None:
        formats = ",".join(name for name in DECODABLE_FORMATS if name in settings.formats)
        raise SettingsError(
            f"THUMBS_FORMATS={formats!r} cannot be used: heif needs pillow-heif, which is not installed "
            "(pip install 'thumbs[heif]')."
        )


def forget_secrets(environ: MutableMapping[str, str]) -> None:
    """Take our secrets out of the environment, once they have been read: children that images reach inherit it."""
    for setting in list_settings().values():
        if setting.is_secret:
            environ.pop(setting.variable, None)


def _is_key_kept(settings: Settings) -> bool:
    """Tell whether a key in the data directory is there for every process, also tomorrow."""
    is_embedded = settings.database_url.startswith("sqlite:") and settings.redis_url is None
    return is_embedded and not os.environ.get("DYNO")


def _prepare_data_dir(settings: Settings) -> Settings:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.data_dir, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        return replace(settings, secret_key=settings.secret_key or _load_secret_key(settings.data_dir))
    except OSError as error:
        raise SettingsError(
            f"THUMBS_DATA_DIR={str(settings.data_dir)!r} cannot be used: expected a directory that can be written "
            f"({error.strerror})."
        ) from error


def _load_secret_key(data_dir: Path) -> str:
    """Load the key of this data directory; made once, whole, readable by the owner alone."""
    path = data_dir / SECRET_KEY_FILE
    if not path.exists():
        _make_secret_key(path)
    key = path.read_text(encoding="utf-8").strip()
    if len(key) < MIN_SECRET_KEY_CHARS:
        raise SettingsError(
            f"The key in {str(path)!r} cannot be used: expected at least {MIN_SECRET_KEY_CHARS} characters. "
            "Put the right one there; without it, secrets that were encrypted with it are lost."
        )
    return key


def _make_secret_key(path: Path) -> None:
    """Write a new key beside the path and link it there: several processes may start at once, and one wins."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=".secret_key", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(SECRET_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return
