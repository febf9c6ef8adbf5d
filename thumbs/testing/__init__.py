"""For the tests of services that receive our webhooks; the fixtures of `plugin` are there wherever thumbs is installed.

A receiver that records and verifies, sample events that are signed, and the whole service in a temporary directory.
docs/testing.md shows them in use. Nothing of thumbs imports this. pytest loads it at every start, in every project of
an environment where thumbs is installed: so each of these names is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from thumbs.testing.receiver import ReceivedDelivery, WebhookReceiver
    from thumbs.testing.samples import SAMPLE_SECRET, SampleEvent, sample_event
    from thumbs.testing.server import Answer, ThumbsServer

__all__ = [
    "SAMPLE_SECRET",
    "Answer",
    "ReceivedDelivery",
    "SampleEvent",
    "ThumbsServer",
    "WebhookReceiver",
    "sample_event",
]

_HOMES: Final = {
    "SAMPLE_SECRET": "thumbs.testing.samples",
    "Answer": "thumbs.testing.server",
    "ReceivedDelivery": "thumbs.testing.receiver",
    "SampleEvent": "thumbs.testing.samples",
    "ThumbsServer": "thumbs.testing.server",
    "WebhookReceiver": "thumbs.testing.receiver",
    "sample_event": "thumbs.testing.samples",
}

if not TYPE_CHECKING:  # Type checkers would take it for a promise of any name.

    def __getattr__(name: str) -> Any:
        """Get one of the names, from where it lives."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
