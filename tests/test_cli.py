"""The command line in a data directory of its own: what it prints, and how it ends when something is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.services import SECRET_KEY
from thumbs import __version__
from thumbs.cli import main
from thumbs.cli.environment import open_services
from thumbs.keys import is_secret_of, parse_key
from thumbs.ledger import SCHEMA_REVISION
from thumbs.settings import list_settings
from thumbs.signing import parse_secret

Run = Callable[..., Result]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"THUMBS_DATA_DIR": str(tmp_path / "var"), "THUMBS_SECRET_KEY": SECRET_KEY}


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """Run a command to its end, with just the settings of this test."""
    unset: dict[str, str | None] = {setting.variable: None for setting in list_settings().values()}

    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(main, arguments, env={**unset, **environ, **variables})

    return run


@pytest.fixture
def migrated(run: Run) -> Run:
    assert run("migrate").exit_code == 0
    return run


def check_one_line_error(result: Result, status: int, *words: str) -> None:
    [line] = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (status, "")
    assert line.startswith("Error: ")
    assert all(word in line for word in words)


# ── migrate ─────────────────────────────────────────────────────────────────────────────────────────────


def test_migrate_makes_the_ledger_and_can_be_repeated(run: Run, environ: dict[str, str]) -> None:
    for _ in range(2):
        result = run("migrate")
        assert (result.exit_code, result.stdout) == (0, f"The ledger's schema is at {SCHEMA_REVISION}.\n")
    assert (Path(environ["THUMBS_DATA_DIR"]) / "ledger.db").exists()


def test_command_before_migrate_says_what_to_do(run: Run) -> None:
    check_one_line_error(run("accounts", "list"), 1, "thumbs migrate")


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_prints_every_one_with_value_and_origin(run: Run) -> None:
    lines = run("settings", PORT="8080").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [each.variable for each in list_settings().values()]
    assert lines[0].split() == ["PORT", "8080", "set"]
    assert next(line for line in lines if line.startswith("THUMBS_LEASE_SECONDS")).split()[1:] == ["45", "default"]


def test_settings_masks_secrets(run: Run) -> None:
    result = run("settings")
    assert SECRET_KEY not in result.stdout
    assert next(line for line in result.stdout.splitlines() if line.startswith("THUMBS_SECRET_KEY")).split()[1:] == [
        "********",
        "set",
    ]


def test_settings_in_markdown_has_a_row_for_every_one(run: Run) -> None:
    page = run("settings", "--markdown").stdout
    assert page.startswith("# Settings\n")
    assert all(f"\n| `{each.variable}` | " in page for each in list_settings().values())


def test_bad_setting_is_told_in_one_line(run: Run) -> None:
    check_one_line_error(run("settings", PORT="http"), 1, "PORT='http'", "1 to 65535")


def test_data_directory_that_cannot_be_made_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("migrate", THUMBS_DATA_DIR=str(tmp_path / "file" / "var"))
    check_one_line_error(result, 1, "THUMBS_DATA_DIR")


# ── accounts and keys ───────────────────────────────────────────────────────────────────────────────────


def read_field(result: Result, name: str) -> str:
    """Read a field of what `accounts create` prints."""
    line = next(line for line in result.stdout.splitlines() if line.startswith(name))
    return line.removeprefix(name).split()[0]


def test_new_account_has_a_key_that_works_and_a_callback_secret(migrated: Run, environ: dict[str, str]) -> None:
    result = migrated("accounts", "create", "acme")
    presented = parse_key(read_field(result, "API key"))
    assert presented is not None
    assert len(parse_secret(read_field(result, "callback secret"))) == 32
    with open_services(environ) as services:
        key = services.ledger.accounts.find_key(presented.id)
        account = services.ledger.accounts.find_by_name("acme")
    assert key is not None
    assert account is not None
    assert is_secret_of(presented, key.secret_sha256)
    assert (key.account_id, account.id) == (account.id, read_field(result, "account"))


def test_account_whose_name_is_taken_says_how_to_add_a_key(migrated: Run) -> None:
    migrated("accounts", "create", "acme")
    check_one_line_error(migrated("accounts", "create", "acme"), 1, "thumbs keys create acme")


def test_accounts_are_listed_oldest_first(migrated: Run) -> None:
    for name in ("zebra", "acme"):
        migrated("accounts", "create", name)
    lines = migrated("accounts", "list").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["zebra", "acme"]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "x" * 101])
def test_name_that_cannot_be_shown_is_refused(migrated: Run, name: str) -> None:
    result = migrated("accounts", "create", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "1 to 100 characters" in result.stderr
    assert migrated("accounts", "list").stdout == ""


def test_list_without_accounts_says_how_to_make_one(migrated: Run) -> None:
    assert "thumbs accounts create NAME" in migrated("accounts", "list").stderr


def test_key_is_listed_with_its_times(migrated: Run) -> None:
    migrated("accounts", "create", "acme")
    line = migrated("keys", "list", "acme").stdout
    assert re.fullmatch(r"key_\w{26}  created 2\S+Z  never used  valid\n", line)


def test_another_key_is_printed_once_and_listed_without_its_secret(migrated: Run) -> None:
    migrated("accounts", "create", "acme")
    presented = parse_key(migrated("keys", "create", "acme").stdout.strip())
    assert presented is not None
    listed = migrated("keys", "list", "acme").stdout
    assert len(listed.splitlines()) == 2
    assert presented.id in listed
    assert presented.secret not in listed


def test_revoked_key_is_listed_as_such_and_cannot_be_revoked_again(migrated: Run) -> None:
    migrated("accounts", "create", "acme")
    key_id = migrated("keys", "list", "acme").stdout.split()[0]
    assert migrated("keys", "revoke", key_id).stdout == f"{key_id} is revoked.\n"
    assert "revoked" in migrated("keys", "list", "acme").stdout
    check_one_line_error(migrated("keys", "revoke", key_id), 1, key_id, "thumbs keys list")


@pytest.mark.parametrize("command", ["create", "list"])
def test_key_of_an_unknown_account_says_how_to_make_one(migrated: Run, command: str) -> None:
    check_one_line_error(migrated("keys", command, "nobody"), 1, "thumbs accounts create nobody")


# ── in general ──────────────────────────────────────────────────────────────────────────────────────────


def test_version_is_the_packages(run: Run) -> None:
    assert run("--version").stdout.split()[-1] == __version__


@pytest.mark.parametrize("arguments", [["nonsense"], ["accounts", "create"], ["keys", "revoke"], ["settings", "--xml"]])
def test_what_is_typed_wrong_ends_with_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_every_command_says_what_it_does(run: Run) -> None:
    lines = run("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert {line.split()[0] for line in lines} >= {"up", "demo", "migrate", "settings", "accounts", "keys"}
    assert all(len(line.split()) > 2 for line in lines)
