"""Accounts, keys, blobs, locks and signs of life."""

from dataclasses import replace
from datetime import timedelta

from tests.support.builders import NOW, build_account, build_lease
from thumbs.domain import ApiKey, Blob
from thumbs.ledger import SCHEMA_REVISION, Ledger

LATER = NOW + timedelta(seconds=60)


def test_account_names_are_unique(ledger: Ledger) -> None:
    account = build_account()
    assert ledger.accounts.record(account)
    assert not ledger.accounts.record(build_account())
    assert ledger.accounts.find_by_name("acme") == ledger.accounts.find(account.id) == account
    assert ledger.accounts.list_all() == [account]


def test_revoked_key_is_not_found_any_more(ledger: Ledger) -> None:
    account = build_account()
    ledger.accounts.record(account)
    key = ApiKey("key_1", account.id, "ab" * 32, NOW)
    assert not ledger.accounts.has_keys()
    ledger.accounts.record_key(key)
    assert ledger.accounts.find_key("key_1") == key
    assert ledger.accounts.revoke_key("key_1", LATER)
    assert not ledger.accounts.revoke_key("key_1", LATER)
    assert ledger.accounts.find_key("key_1") is None
    assert not ledger.accounts.has_keys()
    assert ledger.accounts.list_keys(account.id) == [replace(key, revoked_at=LATER)]


def test_last_use_of_a_key_is_written_once_a_minute(ledger: Ledger) -> None:
    account = build_account()
    ledger.accounts.record(account)
    key = ApiKey("key_1", account.id, "ab" * 32, NOW, last_used_at=NOW)
    ledger.accounts.record_key(key)
    for now in (NOW + timedelta(seconds=59), LATER):
        ledger.accounts.record_key_use(key, now)
    assert ledger.accounts.find_key("key_1") == replace(key, last_used_at=LATER)


def test_blob_is_found_until_it_expires_and_can_be_put_twice(ledger: Ledger) -> None:
    blob = Blob("name.jpg", "image/jpeg", "ab" * 32, b"bytes", LATER)
    ledger.blobs.put(blob)
    ledger.blobs.put(replace(blob, body=b"other"))
    assert ledger.blobs.find("name.jpg", NOW) == replace(blob, body=b"other")
    assert ledger.blobs.find("name.jpg", LATER) is None
    assert ledger.blobs.find("other.jpg", NOW) is None


def test_expired_blobs_are_deleted(ledger: Ledger) -> None:
    ledger.blobs.put(Blob("old.jpg", "image/jpeg", "ab" * 32, b"bytes", NOW))
    ledger.blobs.put(Blob("new.jpg", "image/jpeg", "ab" * 32, b"bytes", LATER))
    assert ledger.blobs.delete_expired(NOW, 10) == 1
    ledger.blobs.delete("new.jpg")
    assert ledger.blobs.find("new.jpg", NOW) is None


def test_lock_is_held_by_one_until_released_or_run_out(ledger: Ledger) -> None:
    mine, yours = build_lease("sweep", "mine"), build_lease("sweep", "yours")
    assert ledger.upkeep.take_lock(mine, NOW)
    assert not ledger.upkeep.take_lock(yours, NOW)
    assert ledger.upkeep.take_lock(yours, LATER)
    ledger.upkeep.release_lock(mine)
    assert not ledger.upkeep.take_lock(mine, NOW)
    ledger.upkeep.release_lock(yours)
    assert ledger.upkeep.take_lock(mine, NOW)


def test_heartbeat_tells_when_a_process_was_last_seen(ledger: Ledger) -> None:
    ledger.upkeep.record_heartbeat("worker", NOW)
    ledger.upkeep.record_heartbeat("worker", LATER)
    assert ledger.upkeep.list_heartbeats() == {"worker": LATER}


def test_migrated_ledger_answers_and_knows_its_revision(ledger: Ledger) -> None:
    ledger.upkeep.ping()
    assert ledger.upkeep.find_schema_revision() == SCHEMA_REVISION
    assert ledger.upkeep.find_oldest_queued() is None
