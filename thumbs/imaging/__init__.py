"""Pixels: a source's bytes and a spec in, a finished thumbnail and the facts about it out.

Pure functions over Pillow, run as a list of steps by `pipeline`. Nothing here touches files, sockets or processes,
and nothing else in thumbs imports PIL or pillow-heif. It is loaded in the decoder child only (`thumbs.sandbox`).
"""

from thumbs.imaging.decode import load_decoders
from thumbs.imaging.pipeline import make_thumbnails

__all__ = ["load_decoders", "make_thumbnails"]
