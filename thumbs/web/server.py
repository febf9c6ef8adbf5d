"""gunicorn's configuration, from the settings: `gunicorn --config python:thumbs.web.server wsgi:app`.

Everything that would stop the start is checked here, in the master, and told in one line.
"""

import logging
import os
import sys
from typing import Any, Final

from gunicorn.glogging import Logger

from thumbs.cautions import list_cautions
from thumbs.errors import SettingsError
from thumbs.preparation import prepare
from thumbs.settings import Settings, read_settings
from thumbs.telemetry import configure_logging
from thumbs.web.port import check_port_free

STOP_SECONDS: Final = 20
"""How long requests in flight may take to finish after SIGTERM; platforms kill after 30 s."""
MAX_LINE_BYTES: Final = 8190
"""As much as gunicorn can: `?url=` of 2,048 characters has three times as many when each of them is percent-encoded."""

logger = logging.getLogger(__name__)


def _start() -> Settings:
    settings = prepare(read_settings(os.environ, is_terminal=sys.stdout.isatty()))
    configure_logging(settings.log_format, settings.log_level)
    check_port_free(settings)
    for caution in list_cautions(settings):
        logger.warning(caution)
    return settings


class PropagatingLogger(Logger):
    """gunicorn's log lines, through our own handler; the app logs what matters of each request."""

    def setup(self, cfg: Any) -> None:
        """Leave the handlers to telemetry."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def post_worker_init(worker: Any) -> None:
    """Let the app know its gunicorn worker, which knows when it has been told to stop."""
    worker.wsgi.config["GUNICORN_WORKER"] = worker


try:
    _settings = _start()
except SettingsError as error:
    sys.exit(f"thumbs: {error}")

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.web_processes
threads = _settings.web_threads
worker_class = "thumbs.web.connections.Worker"
limit_request_line = MAX_LINE_BYTES
graceful_timeout = STOP_SECONDS
timeout = 60
control_socket_disable = True
logger_class = PropagatingLogger
