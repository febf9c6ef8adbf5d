"""`thumbs accounts` and `thumbs keys`: who may come in. A key is shown once; only its hash is kept."""

from typing import Final

import click

from thumbs.accounts import create_account
from thumbs.cli.environment import open_services
from thumbs.documents import format_moment
from thumbs.domain import Account, ApiKey
from thumbs.keys import KEY_SECRET_BYTES, build_key
from thumbs.services import Services

MAX_NAME_CHARS: Final = 100


@click.group()
def accounts() -> None:
    """Make and list accounts."""


@accounts.command("create")
@click.argument("name")
def create(name: str) -> None:
    """Make an account NAME with a first API key, and print both secrets, once."""
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise click.UsageError(f"NAME: expected 1 to {MAX_NAME_CHARS} characters that can be seen.")
    with open_services() as services:
        account = create_account(services, name)
        if account is None:
            raise click.ClickException(f"There is an account {name!r} already; `thumbs keys create {name}` adds a key.")
        click.echo(f"account          {account.id}  {account.name}")
        click.echo(f"API key          {_create_key(services, account)}")
        click.echo(f"callback secret  {services.cipher.decrypt(account.callback_secret)}")
        click.echo("The key is not shown again.")


@accounts.command("list")
def list_accounts() -> None:
    """List the accounts."""
    with open_services() as services:
        found = services.ledger.accounts.list_all()
    for account in found:
        click.echo(f"{account.id}  created {format_moment(account.created_at)}  {account.name}")
    if not found:
        click.echo("There is no account yet; `thumbs accounts create NAME` makes one.", err=True)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command("create")
@click.argument("name")
def create_key(name: str) -> None:
    """Make another API key for the account NAME, and print it, once."""
    with open_services() as services:
        click.echo(_create_key(services, _get_account(services, name)))


@keys.command("list")
@click.argument("name")
def list_keys(name: str) -> None:
    """List the API keys of the account NAME. When one was last used is known to the minute."""
    with open_services() as services:
        found = services.ledger.accounts.list_keys(_get_account(services, name).id)
    for key in found:
        state = f"revoked {format_moment(key.revoked_at)}" if key.revoked_at else "valid"
        used = f"used {format_moment(key.last_used_at)}" if key.last_used_at else "never used"
        click.echo(f"{key.id}  created {format_moment(key.created_at)}  {used}  {state}")
    if not found:
        click.echo(f"The account has no key; `thumbs keys create {name}` makes one.", err=True)


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """Take the right of the key KEY_ID away, from now on."""
    with open_services() as services:
        if not services.ledger.accounts.revoke_key(key_id, services.clock.now()):
            raise click.ClickException(f"There is no valid key {key_id!r}; `thumbs keys list NAME` lists an account's.")
        click.echo(f"{key_id} is revoked.")


def _create_key(services: Services, account: Account) -> str:
    key_id = services.new_id("key")
    text, secret_sha256 = build_key(key_id, services.random.randbytes(KEY_SECRET_BYTES))
    services.ledger.accounts.record_key(ApiKey(key_id, account.id, secret_sha256, services.clock.now()))
    return text


def _get_account(services: Services, name: str) -> Account:
    account = services.ledger.accounts.find_by_name(name)
    if account is None:
        raise click.ClickException(f"There is no account {name!r}; `thumbs accounts create {name}` makes it.")
    return account
