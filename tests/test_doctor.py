"""`thumbs doctor`: each check finds what is wrong and says what to do, whatever else is down, and tells no secret."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.authority import TestAuthority
from tests.support.builders import build_account
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.engines import Postgres, open_postgres_ledger
from tests.support.ledgers import make_sqlite_ledger
from tests.support.proxies import Proxy
from tests.support.services import UnavailableBlobs, build_lost_ledger, build_test_services, build_test_settings
from tests.support.stack import ROOT, find_free_port, wait_until
from thumbs.accounts import get_default_account
from thumbs.cipher import Cipher
from thumbs.cli.doctor import (
    CHECKS,
    Finding,
    Level,
    check_blobs,
    check_clock,
    check_decoder,
    check_disk,
    check_dns,
    check_egress,
    check_ledger,
    check_queue,
    check_schema,
    check_secret_key,
    check_settings,
    judge_space,
    make_check,
)
from thumbs.cli.environment import NoDispatcher
from thumbs.domain import Account
from thumbs.ledger import SCHEMA_REVISION, Ledger
from thumbs.services import Services, SystemClock
from thumbs.settings import MIB

SECRETS = ("hunter2", "hunter%203", "hunter 3", "hunter4hunter4hunter4hunter4hunter4")
NAMES = ["settings", *CHECKS]


@pytest.fixture
def services(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Services:
    """Services on a migrated ledger, which reach public addresses only."""
    return build_test_services(ledger, dispatcher, clock, THUMBS_ALLOW_CIDRS="")


@pytest.fixture
def lost_services(dispatcher: RecordingDispatcher, clock: FrozenClock) -> Iterator[Services]:
    """Services whose ledger is not there."""
    with closing(build_lost_ledger()) as ledger:
        yield build_test_services(ledger, dispatcher, clock)


def run_doctor(data_dir: Path, *commands: str, **environ: str) -> tuple[int, list[str]]:
    """Run `thumbs` commands, then the doctor; returns its exit status and lines. Nothing else may be printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")}
    for command in (*commands, "doctor"):
        done = subprocess.run(
            [sys.executable, "-m", "thumbs", *command.split()],
            cwd=ROOT,
            env=clean | {"THUMBS_DATA_DIR": str(data_dir)} | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def find_names(lines: list[str]) -> list[str]:
    """Find the name of the check in each line."""
    return [line[6:16].strip() for line in lines]


def set_revision(path: Path, revision: str) -> None:
    """Pretend that the ledger's schema is at a revision."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


def test_doctor_finds_nothing_wrong_with_a_fresh_start(tmp_path: Path) -> None:
    """It leaves nothing behind, and may be run again."""
    status, lines = run_doctor(tmp_path, "migrate", "accounts create acme")
    assert (status, [line[:4] for line in lines]) == (0, ["ok  "] * len(NAMES))
    assert find_names(lines) == NAMES
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("SELECT count(*) FROM blobs").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM locks WHERE token IS NOT NULL").fetchone() == (0,)


def test_doctor_tells_each_part_that_is_down_in_its_own_line_and_no_secret(tmp_path: Path) -> None:
    status, lines = run_doctor(
        tmp_path,
        DATABASE_URL=f"postgres://me:{SECRETS[0]}@127.0.0.1:{find_free_port()}/thumbs",
        REDIS_URL=f"redis://:{SECRETS[1]}@127.0.0.1:{find_free_port()}/0",
        THUMBS_SECRET_KEY=SECRETS[3],
    )
    assert (status, find_names(lines)) == (1, NAMES)
    failed = [name for name, line in zip(NAMES, lines, strict=True) if line.startswith("FAIL")]
    assert failed == ["ledger", "schema", "queue", "blobs", "clock", "secret key"]
    assert all(" → " in line for line in lines if not line.startswith("ok"))
    assert not any(secret in line for secret in SECRETS for line in lines)


def test_doctor_tells_a_wrong_setting_and_stops(tmp_path: Path) -> None:
    status, [line] = run_doctor(tmp_path, PORT="http")
    assert status == 1
    assert line.startswith("FAIL  settings    PORT='http' cannot be used: ")


def test_doctor_tells_why_redis_over_tls_does_not_answer(tmp_path: Path) -> None:
    tls = TestAuthority(tmp_path).build_context("redis.invalid")
    with Proxy(find_free_port(), tls=tls) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0?ssl_cert_reqs=required"
        status, lines = run_doctor(tmp_path / "var", "migrate", REDIS_URL=url, THUMBS_SECRET_KEY=SECRETS[3])
    [line] = [line for line in lines if line.startswith("FAIL")]
    assert (status, find_names([line])) == (1, ["queue"])
    assert "CERTIFICATE_VERIFY_FAILED" in line


def test_check_that_hangs_costs_its_own_time_only(services: Services) -> None:
    release = threading.Event()

    def hang(_: Services) -> Finding:
        release.wait()
        return Finding(Level.OK, "too late")

    finding = make_check(hang, services, "look there", timeout_seconds=0.1)
    release.set()
    assert finding == Finding(Level.FAIL, "no answer within 0.1 s", "look there")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_check_that_breaks_fails(services: Services) -> None:
    """A bug of ours is told like anything else; its traceback goes to stderr."""

    def break_down(_: Services) -> Finding:
        raise ZeroDivisionError

    assert make_check(break_down, services, "").found == "the check itself broke"
    wait_until(lambda: "doctor" not in [thread.name for thread in threading.enumerate()], 5)


def test_lost_ledger_is_told_with_its_reason(lost_services: Services) -> None:
    finding = check_ledger(lost_services)
    assert finding.level is Level.FAIL
    assert finding.remedy


@pytest.mark.parametrize("name", ["schema", "blobs", "clock", "secret key"])
def test_lost_ledger_fails_what_needs_it(lost_services: Services, name: str) -> None:
    check, remedy = CHECKS[name]
    finding = make_check(check, lost_services, remedy)
    assert (finding.level, finding.remedy) == (Level.FAIL, remedy)


@pytest.mark.parametrize(
    ("revision", "level"), [("0000", Level.FAIL), (SCHEMA_REVISION, Level.OK), ("9999", Level.WARN)]
)
def test_schema_must_not_be_older_than_the_release(tmp_path: Path, revision: str, level: Level) -> None:
    with closing(make_sqlite_ledger(tmp_path)) as ledger:
        set_revision(tmp_path / "ledger.db", revision)
        services = build_test_services(ledger, RecordingDispatcher(), FrozenClock())
        assert check_schema(services).level is level


def test_ledger_without_tables_needs_migrating(tmp_path: Path) -> None:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        services = build_test_services(ledger, RecordingDispatcher(), FrozenClock())
        assert check_ledger(services).level is Level.OK
        assert check_schema(services).remedy == "run `thumbs migrate`"
        assert make_check(check_blobs, services, "").found == "not checked: there are no tables yet"


def test_both_queues_must_answer(services: Services) -> None:
    assert check_queue(services).level is Level.OK
    finding = make_check(check_queue, replace(services, dispatcher=NoDispatcher()), "")
    assert finding == Finding(Level.FAIL, "this command does not use the queue")


def test_blob_must_come_back_as_it_was_put(services: Services) -> None:
    assert check_blobs(services).level is Level.OK
    finding = make_check(check_blobs, replace(services, blobs=UnavailableBlobs()), "")
    assert finding == Finding(Level.FAIL, "the blob store is down, says the test")


def test_clock_may_be_five_seconds_off(services: Services, clock: FrozenClock) -> None:
    assert check_clock(replace(services, clock=SystemClock())).level is Level.OK
    clock.move((datetime.now(UTC) - clock.now()).total_seconds() + 60)
    finding = check_clock(services)
    assert finding.level is Level.FAIL
    assert "ahead of" in finding.found


def test_postgresql_tells_its_time(postgres: Postgres) -> None:
    with open_postgres_ledger(postgres) as ledger:
        assert abs((ledger.upkeep.tell_time() - datetime.now(UTC)).total_seconds()) < 5


def test_real_decoder_makes_a_thumbnail(services: Services) -> None:
    finding = check_decoder(services)
    assert finding.level is Level.OK
    assert "thumbnail" in finding.found


@pytest.mark.parametrize(
    ("url", "level", "found"),
    [
        ("", Level.OK, "not checked"),
        ("http://127.0.0.1:8000", Level.OK, "127.0.0.1 is 127.0.0.1"),
        (f"https://{'long' * 16}.example", Level.FAIL, "label"),
    ],
)
def test_name_that_is_handed_out_must_be_known(services: Services, url: str, level: Level, found: str) -> None:
    finding = check_dns(replace(services, settings=build_test_settings(THUMBS_PUBLIC_URL=url)))
    assert finding.level is level
    assert found in finding.found


@pytest.mark.parametrize(
    ("networks", "level"),
    [("", Level.OK), ("10.0.0.0/8", Level.WARN), ("169.254.0.0/16", Level.FAIL), ("0.0.0.0/0", Level.FAIL)],
)
def test_networks_that_may_be_reached_are_named(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, networks: str, level: Level
) -> None:
    finding = check_egress(build_test_services(ledger, dispatcher, clock, THUMBS_ALLOW_CIDRS=networks))
    assert finding.level is level
    assert networks in finding.found


@pytest.mark.parametrize(("free_mib", "level"), [(50, Level.FAIL), (500, Level.WARN), (5000, Level.OK)])
def test_disk_must_have_room(tmp_path: Path, free_mib: int, level: Level) -> None:
    assert judge_space(free_mib * MIB, tmp_path).level is level


def test_disk_is_not_checked_where_nothing_is_kept(services: Services) -> None:
    settings = build_test_settings(DATABASE_URL="postgres://127.0.0.1/x", REDIS_URL="redis://127.0.0.1")
    assert check_disk(replace(services, settings=settings)).found.startswith("not checked")


def test_secret_key_must_be_the_one_of_what_is_stored(services: Services) -> None:
    assert check_secret_key(services) == Finding(Level.OK, "nothing is stored")
    get_default_account(services)
    assert check_secret_key(services).level is Level.OK
    foreign = replace(build_account("other"), callback_secret=Cipher("another key " * 4).encrypt("whsec_"))
    record(services, foreign)
    assert check_secret_key(services).found == "it does not decrypt 1 of 2 stored secrets"


def test_unknown_settings_and_open_doors_are_told() -> None:
    assert check_settings(build_test_settings(), {"THUMBS_MAX_PIXEL": "1"}).found == "no such setting: THUMBS_MAX_PIXEL"
    assert check_settings(build_test_settings(), {}).remedy == "unset THUMBS_AUTH"
    assert check_settings(build_test_settings(THUMBS_HOST="127.0.0.1"), {}).level is Level.OK
    assert check_settings(build_test_settings(THUMBS_AUTH="required"), {}).level is Level.OK


def record(services: Services, account: Account) -> None:
    """Record an account."""
    assert services.ledger.accounts.record(account)
