"""Who is asking: an API key in `Authorization: Bearer …` names the account; THUMBS_AUTH=off means the default one."""

from flask import g, request

from thumbs.accounts import get_default_account
from thumbs.domain import Account
from thumbs.errors import Unauthorized
from thumbs.keys import is_secret_of, parse_key
from thumbs.services import Services
from thumbs.web.context import get_rate_limit, get_services


def require_account() -> None:
    """Put the caller's account on `g`, and count its request, before every view of a protected blueprint.

    Raises Unauthorized, and TooManyRequests.
    """
    services = get_services()
    g.account = _find_account(services) if services.settings.auth == "required" else get_default_account(services)
    get_rate_limit().check()


def _find_account(services: Services) -> Account:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    presented = parse_key(text.strip()) if scheme.lower() == "bearer" else None
    key = services.ledger.accounts.find_key(presented.id) if presented else None
    if presented is None or key is None or not is_secret_of(presented, key.secret_sha256):
        raise Unauthorized(_tell_how(services))
    services.ledger.accounts.record_key_use(key, services.clock.now())
    account = services.ledger.accounts.find(key.account_id)
    if account is None:
        raise Unauthorized(_tell_how(services))
    return account


def _tell_how(services: Services) -> str:
    if not services.ledger.accounts.has_keys():
        return "There is no API key yet: make one with `thumbs accounts create NAME`."
    return "Send a valid API key: `Authorization: Bearer tk_…`."
