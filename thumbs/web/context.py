"""What a view needs from its app: the services, the waiting room, the rate limit, and the base of our URLs."""

from typing import Final

from flask import current_app, request

from thumbs.services import Services
from thumbs.web.limiting import RateLimit
from thumbs.web.waiting import WaitingRoom

SERVICES: Final = "thumbs.services"
WAITING_ROOM: Final = "thumbs.waiting_room"
RATE_LIMIT: Final = "thumbs.rate_limit"


def get_services() -> Services:
    """Get the services of this app."""
    services: Services = current_app.extensions[SERVICES]
    return services


def get_waiting_room() -> WaitingRoom:
    """Get the waiting room of this app."""
    room: WaitingRoom = current_app.extensions[WAITING_ROOM]
    return room


def get_rate_limit() -> RateLimit:
    """Get the rate limit of this app."""
    limit: RateLimit = current_app.extensions[RATE_LIMIT]
    return limit


def get_public_url() -> str:
    """Get the base of the URLs that we hand out, without a slash at its end."""
    return get_services().settings.public_url or request.url_root.rstrip("/")
