"""The only way out: fetches sources and posts webhooks, to public addresses only, within hard limits.

`client` holds the rules of HTTP (redirects, bodies, codes), `transport` lets requests speak over what `call` dials
(resolve, check, pin, TLS), `lookup` bounds DNS, `watchdog` makes deadlines hard. Nothing else in thumbs imports
requests, urllib3 or socket. `process` and `deliver` call it through `services`.
"""

from thumbs.outbound.client import Outbound

__all__ = ["Outbound"]
