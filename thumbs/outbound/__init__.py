"""The only way out: fetches sources and posts webhooks, to public addresses only, within hard limits.

`client` holds the rules of HTTP (redirects, bodies, codes), `transport` lets requests speak over what `call` dials
(resolve, check, pin, TLS), `lookup` bounds DNS, `watchdog` makes deadlines hard, `hosts` counts what goes to one host
at once, `proxy` knows the operator's way out. Nothing else in thumbs imports requests or urllib3. `process` and
`deliver` call it through `services`.
"""

from thumbs.outbound.client import Outbound

__all__ = ["Outbound"]
