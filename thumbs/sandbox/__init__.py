"""Run `thumbs.imaging` in child processes that may die: of a limit, of a deadline, of the image.

`pool` lends decoders to threads, `decoder` is one child and its end, `spawn` starts it, `pipe` and `answer` are what
it may say, and `child` is what runs in it. Only `child` imports imaging, and only once it is a child: the parent never
sees a pixel, and believes nothing that a child says.
"""

from thumbs.sandbox.pool import Sandbox

__all__ = ["Sandbox"]
