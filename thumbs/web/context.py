"""What a view needs from its app: the services, the waiting room, and the base of the URLs that we hand out."""

from typing import Final

from flask import current_app, request

from thumbs.services import Services
from thumbs.web.waiting import WaitingRoom

SERVICES: Final = "thumbs.services"
WAITING_ROOM: Final = "thumbs.waiting_room"


def get_services() -> Services:
    """Get the services of this app."""
    services: Services = current_app.extensions[SERVICES]
    return services


def get_waiting_room() -> WaitingRoom:
    """Get the waiting room of this app."""
    room: WaitingRoom = current_app.extensions[WAITING_ROOM]
    return room


def get_public_url() -> str:
    """Get the base of the URLs that we hand out, without a slash at its end."""
    return get_services().settings.public_url or request.url_root.rstrip("/")
