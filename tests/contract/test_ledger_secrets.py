"""Secrets of endpoints and callbacks: replaced by one at a time, signing until they expire, and then forgotten."""

from datetime import timedelta
from functools import partial

import pytest

from tests.support.builders import NOW, record_account, record_endpoint
from tests.support.races import race
from thumbs.domain import Endpoint
from thumbs.ledger import Ledger

LATER = NOW + timedelta(seconds=60)
THREADS = 8


@pytest.fixture
def endpoint(ledger: Ledger) -> Endpoint:
    return record_endpoint(ledger)


def rotate(ledger: Ledger, owner_id: str, old: str, new: str, seconds: int = 60) -> bool:
    return ledger.endpoints.rotate_secret(owner_id, old, new, NOW, NOW + timedelta(seconds=seconds))


def get_secret(ledger: Ledger, endpoint: Endpoint) -> str:
    return ledger.endpoints.get(endpoint.account_id, endpoint.id).secret


def test_replaced_secret_signs_until_it_expires(ledger: Ledger, endpoint: Endpoint) -> None:
    assert rotate(ledger, endpoint.id, endpoint.secret, "new")
    assert get_secret(ledger, endpoint) == "new"
    assert ledger.endpoints.list_secrets(endpoint.id, None, LATER - timedelta(seconds=1)) == [endpoint.secret]
    assert ledger.endpoints.list_secrets(endpoint.id, None, LATER) == []


def test_secret_of_an_accounts_callbacks_is_replaced_alike(ledger: Ledger) -> None:
    account = record_account(ledger)
    assert rotate(ledger, account.id, account.callback_secret, "new")
    found = ledger.accounts.find(account.id)
    assert found is not None
    assert found.callback_secret == "new"
    assert ledger.endpoints.list_secrets(None, account.id, NOW) == ["new", account.callback_secret]


def test_secret_is_replaced_by_one_of_many_who_rotate_at_once(ledger: Ledger, endpoint: Endpoint) -> None:
    """Each of the others would give its caller a secret that signs nothing."""
    moves = [partial(rotate, ledger, endpoint.id, endpoint.secret, f"new{number}") for number in range(THREADS)]
    won = [f"new{number}" for number, is_mine in enumerate(race(*moves)) if is_mine]
    assert won == [get_secret(ledger, endpoint)]


def test_secret_of_a_deleted_endpoint_is_not_replaced(ledger: Ledger, endpoint: Endpoint) -> None:
    ledger.endpoints.delete(endpoint.id, NOW)
    assert not rotate(ledger, endpoint.id, endpoint.secret, "new")


def test_expired_secrets_are_forgotten(ledger: Ledger, endpoint: Endpoint) -> None:
    rotate(ledger, endpoint.id, endpoint.secret, "two")
    rotate(ledger, endpoint.id, "two", "three", seconds=90)
    assert [ledger.endpoints.forget_expired_secrets(LATER, 10) for _ in range(2)] == [1, 0]
    assert ledger.endpoints.list_secrets(endpoint.id, None, LATER) == ["two"]
