"""Sources that take a decoder child over, as an image would that found a hole in a decoder.

What is pickled towards a child is unpickled there, and says by itself what it becomes: here, code of the test's own
that stands in for imaging, once. The child can open no module any more, so that the code travels as text.
"""

import inspect
import json
import struct
from collections.abc import Callable
from typing import Any

TEMPLATE = """
from __future__ import annotations
{source}
def take_over():
    import sys
    import thumbs.imaging
    frame = sys._getframe()
    while "channel" not in frame.f_locals:
        frame = frame.f_back
    writer = frame.f_locals["channel"].writer
    imaging = thumbs.imaging.make_thumbnails
    def stand_in(*_):
        thumbs.imaging.make_thumbnails = imaging
        return {name}(writer, *{arguments!r})
    thumbs.imaging.make_thumbnails = stand_in
take_over()
"""


def build_message(members: object, body: bytes = b"") -> bytes:
    """Build what goes through the pipe: the lengths of JSON and bytes, and both of them."""
    text = members if isinstance(members, bytes) else json.dumps(members).encode()
    return struct.pack(">II", len(text), len(body)) + text + body


class TakeOver(bytes):
    """A source in whose place `attack(writer, *arguments)` runs in the child; what it returns is sent as its answer.

    `writer` is the child's end of the pipe. The attack imports what it needs itself, of what the child has loaded.
    """

    def __new__(cls, attack: Callable[..., Any], *arguments: Any) -> "TakeOver":
        """Keep the attack's text."""
        code = TEMPLATE.format(source=inspect.getsource(attack), name=attack.__name__, arguments=arguments)
        return super().__new__(cls, code.encode())

    def __reduce__(self) -> tuple[Any, ...]:
        """Become nothing but an effect."""
        return exec, (self.decode(), {"__name__": "takeover"})
