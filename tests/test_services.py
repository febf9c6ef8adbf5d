"""Wiring: the data directory and its key are made once, an old schema is refused, and chance and time are handed in."""

import os
import stat
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from tests.support.builders import NOW
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import SECRET_KEY, build_lost_ledger, build_test_services, build_test_settings
from thumbs.accounts import create_account, get_default_account
from thumbs.errors import LedgerUnavailable, SettingsError
from thumbs.ledger import Ledger
from thumbs.migrations import upgrade
from thumbs.preparation import SECRET_KEY_FILE, prepare
from thumbs.services import Services, SystemClock, build, check_ledger, name_agent
from thumbs.settings import Settings, read_settings
from thumbs.signing import parse_secret


@pytest.fixture
def services(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Services:
    return build_test_services(ledger, dispatcher, clock)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an environment in which only the data directory is set."""
    return read_settings({"THUMBS_DATA_DIR": str(tmp_path / "deep" / "var")})


# ── prepare ─────────────────────────────────────────────────────────────────────────────────────────────


def test_data_directory_is_made_with_a_key_for_its_owner_alone(settings: Settings) -> None:
    prepared = prepare(settings)
    path = settings.data_dir / SECRET_KEY_FILE
    assert path.read_text() == prepared.secret_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in settings.data_dir.iterdir()] == [SECRET_KEY_FILE]


def test_key_of_the_data_directory_stays_the_same(settings: Settings) -> None:
    assert prepare(settings) == prepare(settings)


def test_key_that_is_set_is_used_and_none_is_made(settings: Settings) -> None:
    prepared = prepare(replace(settings, secret_key=SECRET_KEY))
    assert prepared.secret_key == SECRET_KEY
    assert not (settings.data_dir / SECRET_KEY_FILE).exists()


def test_processes_that_start_at_once_agree_on_one_key(settings: Settings) -> None:
    keys: list[str | None] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        keys.append(prepare(settings).secret_key)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_key_file_that_is_damaged_is_refused(settings: Settings, text: str) -> None:
    """An empty file would mean a key that everybody knows."""
    settings.data_dir.mkdir(parents=True)
    (settings.data_dir / SECRET_KEY_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=SECRET_KEY_FILE):
        prepare(settings)


def test_data_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    settings = read_settings({"THUMBS_DATA_DIR": str(tmp_path / "file" / "var")})
    with pytest.raises(SettingsError, match=r"^THUMBS_DATA_DIR='.*' cannot be used: .* directory"):
        prepare(settings)


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_key_must_be_set_where_processes_do_not_share_a_directory(variable: str, tmp_path: Path) -> None:
    urls = {"DATABASE_URL": "postgres://db/thumbs", "REDIS_URL": "redis://cache"}
    settings = read_settings({"THUMBS_DATA_DIR": str(tmp_path), variable: urls[variable]})
    with pytest.raises(SettingsError, match=r"^THUMBS_SECRET_KEY"):
        prepare(settings)


WITHOUT_HEIF = "import sys; sys.modules['pillow_heif'] = None; "
"""What makes Python believe that it is not installed."""

STARTS = {
    "worker": "import tasks",
    "make": "from thumbs.cli import main; sys.argv = ['thumbs', 'make', 'none.jpg']; main()",
    "up": "from thumbs.cli import main; sys.argv = ['thumbs', 'up']; main()",
}


@pytest.mark.parametrize("code", STARTS.values(), ids=STARTS.keys())
def test_format_without_its_decoder_is_told_at_the_start(code: str, tmp_path: Path) -> None:
    environ = {**os.environ, "THUMBS_DATA_DIR": str(tmp_path), "THUMBS_FORMATS": "heif,jpeg"}
    command = [sys.executable, "-c", WITHOUT_HEIF + code]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode != 0
    assert "THUMBS_FORMATS='jpeg,heif' cannot be used: heif needs pillow-heif" in done.stderr
    assert "pip install 'thumbs[heif]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_decoder_that_is_installed_is_not_imported_here(tmp_path: Path) -> None:
    code = "import sys; import tasks; sys.exit('pillow_heif' in sys.modules or 'PIL' in sys.modules)"
    environ = {**os.environ, "THUMBS_DATA_DIR": str(tmp_path), "THUMBS_FORMATS": "heif,jpeg"}

    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False, timeout=60).returncode == 0


# ── build ───────────────────────────────────────────────────────────────────────────────────────────────


def test_build_starts_and_connects_nothing(settings: Settings, dispatcher: RecordingDispatcher) -> None:
    """A process that cannot reach its stores yet still starts."""
    with closing(build(prepare(settings), dispatcher)) as services:
        assert services.settings.data_dir == settings.data_dir
        assert not (settings.data_dir / "ledger.db").exists()


def test_built_ledger_is_where_the_settings_say(settings: Settings, dispatcher: RecordingDispatcher) -> None:
    prepared = prepare(settings)
    upgrade(prepared.database_url)
    with closing(build(prepared, dispatcher)) as services:
        check_ledger(services)
    assert (settings.data_dir / "ledger.db").exists()


def test_close_can_be_repeated(settings: Settings, dispatcher: RecordingDispatcher) -> None:
    services = build(prepare(settings), dispatcher)
    services.close()
    services.close()


# ── the schema ──────────────────────────────────────────────────────────────────────────────────────────


def test_ledger_without_a_schema_is_refused_with_what_to_do(
    settings: Settings, dispatcher: RecordingDispatcher
) -> None:
    with (
        closing(build(prepare(settings), dispatcher)) as services,
        pytest.raises(SettingsError, match="thumbs migrate"),
    ):
        check_ledger(services)


def test_todays_schema_is_fine(services: Services) -> None:
    check_ledger(services)


def test_ledger_that_does_not_answer_is_no_reason_to_refuse_the_start(
    dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """Requests are told 503, and it may come back."""
    check_ledger(build_test_services(build_lost_ledger(), dispatcher, clock))


# ── what a Services value does itself ───────────────────────────────────────────────────────────────────


def test_queue_that_is_down_is_told_and_not_raised(services: Services, dispatcher: RecordingDispatcher) -> None:
    assert services.dispatch_job("job_1", 2)
    services.dispatch_deliveries(["dlv_1", "dlv_2"])
    dispatcher.is_down = True
    assert not services.dispatch_job("job_1")
    services.dispatch_deliveries(["dlv_3"])
    assert (dispatcher.processed, dispatcher.delivered) == ([("job_1", 2)], [("dlv_1", 0), ("dlv_2", 0)])


def test_lease_lasts_as_long_as_the_setting_says_and_its_token_is_drawn(services: Services) -> None:
    first, second = services.new_lease("job_1", NOW), services.new_lease("job_1", NOW)
    assert first.until == NOW + timedelta(seconds=services.settings.lease_seconds)
    assert first.token != second.token


def test_ids_are_prefixed_and_sort_by_time(services: Services) -> None:
    ids = [services.new_id("job") for _ in range(5)]
    assert all(each.startswith("job_") and len(each) == 30 for each in ids)
    assert len(set(ids)) == 5


def test_agent_tells_where_to_learn_more_when_there_is_a_public_url() -> None:
    assert name_agent("thumbs/1", build_test_settings()) == "thumbs/1"
    settings = build_test_settings(THUMBS_PUBLIC_URL="https://thumbs.example")
    assert name_agent("thumbs/1", settings) == "thumbs/1 (+https://thumbs.example/docs)"


def test_system_clock_is_aware_and_in_utc() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    began = clock.monotonic()
    clock.sleep(0)
    assert clock.monotonic() >= began


# ── accounts ────────────────────────────────────────────────────────────────────────────────────────────


def test_account_has_a_secret_that_is_encrypted_at_rest(services: Services) -> None:
    account = create_account(services, "acme")
    assert account is not None
    assert len(parse_secret(services.cipher.decrypt(account.callback_secret))) == 32
    assert services.ledger.accounts.find(account.id) == account


def test_account_whose_name_is_taken_is_not_made(services: Services) -> None:
    create_account(services, "acme")
    assert create_account(services, "acme") is None


def test_default_account_is_made_once(services: Services) -> None:
    assert get_default_account(services) == get_default_account(services)
    assert len(services.ledger.accounts.list_all()) == 1


def test_default_account_needs_the_ledger(dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    with pytest.raises(LedgerUnavailable):
        get_default_account(build_test_services(build_lost_ledger(), dispatcher, clock))


def test_key_must_be_set_where_the_disk_is_lost(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Heroku dyno's, at every restart: what was encrypted with a key on it could never be read again."""
    monkeypatch.setenv("DYNO", "web.1")
    with pytest.raises(SettingsError, match=r"^THUMBS_SECRET_KEY is not set: .* Heroku"):
        prepare(settings)
    assert prepare(replace(settings, secret_key=SECRET_KEY)).secret_key == SECRET_KEY
