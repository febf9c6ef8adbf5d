"""Make accounts, and get the one that owns everything while THUMBS_AUTH is off."""

from typing import Final

from thumbs.domain import Account
from thumbs.errors import LedgerUnavailable
from thumbs.services import Services
from thumbs.signing import KEY_BYTES, build_secret

DEFAULT_ACCOUNT: Final = "default"


def create_account(services: Services, name: str) -> Account | None:
    """Create an account with its callback secret; None when the name is taken."""
    secret = build_secret(services.random.randbytes(KEY_BYTES))
    account = Account(
        id=services.new_id("acct"),
        name=name,
        callback_secret=services.cipher.encrypt(secret),
        created_at=services.clock.now(),
    )
    return account if services.ledger.accounts.record(account) else None


def get_default_account(services: Services) -> Account:
    """Get the account of a server without authentication; made at the first call."""
    accounts = services.ledger.accounts
    account = accounts.find_by_name(DEFAULT_ACCOUNT) or create_account(services, DEFAULT_ACCOUNT)
    if account is None:  # Another process made it in between.
        account = accounts.find_by_name(DEFAULT_ACCOUNT)
    if account is None:
        raise LedgerUnavailable("the default account can neither be found nor made")
    return account
