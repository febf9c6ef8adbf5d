"""The WSGI app: `gunicorn --config python:thumbs.web.server wsgi:app`."""

import sys

from tasks import dispatcher, settings
from thumbs.errors import SettingsError
from thumbs.services import build, check_ledger
from thumbs.telemetry import configure_logging
from thumbs.web import create_app


def _is_stopping() -> bool:
    worker = app.config.get("GUNICORN_WORKER")
    return worker is not None and not worker.alive


configure_logging(settings.log_format, settings.log_level)
services = build(settings, dispatcher)
try:
    check_ledger(services)
except SettingsError as error:
    sys.exit(f"thumbs: {error}")
app = create_app(services, is_stopping=_is_stopping)
