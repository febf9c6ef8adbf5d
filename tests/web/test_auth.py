"""Who may come in: a valid key names its account; without one there is 401, and a word on how to get one."""

import pytest
from flask.testing import FlaskClient

from tests.support.builders import NOW
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import accept, build_test_services
from thumbs.accounts import create_account
from thumbs.domain import Account, ApiKey
from thumbs.keys import build_key, parse_key
from thumbs.ledger import Ledger
from thumbs.services import Services
from thumbs.web import create_app

BODY = {"source_url": "https://img.example/cat.jpg"}


@pytest.fixture
def services(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Services:
    return build_test_services(ledger, dispatcher, clock, THUMBS_AUTH="required")


@pytest.fixture
def account(services: Services) -> Account:
    account = create_account(services, "acme")
    assert account is not None
    return account


def create_key(services: Services, account: Account) -> tuple[str, str]:
    """Create a key; returns its id and its text."""
    key_id = services.new_id("key")
    text, secret_sha256 = build_key(key_id, services.random.randbytes(32))
    services.ledger.accounts.record_key(ApiKey(key_id, account.id, secret_sha256, NOW))
    return key_id, text


def parse_id(text: str) -> str:
    """Parse the id of a key's text."""
    presented = parse_key(text)
    assert presented is not None
    return presented.id


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_key_lets_its_account_in(client: FlaskClient, services: Services, account: Account) -> None:
    _, key = create_key(services, account)
    job = client.post("/v1/jobs", json=BODY, headers=bearer(key)).get_json()
    assert services.ledger.jobs.get(account.id, job["id"])
    assert client.get(f"/v1/jobs/{job['id']}", headers=bearer(key)).status_code == 200


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_scheme_is_read_as_rfc_9110_says(
    client: FlaskClient, services: Services, account: Account, scheme: str
) -> None:
    _, key = create_key(services, account)
    assert client.get("/v1/jobs", headers={"Authorization": f"{scheme} {key}"}).status_code == 200


def test_nobody_is_let_in_without_a_key(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="thumbs"'


def test_first_caller_of_a_new_server_is_told_how_to_make_a_key(client: FlaskClient) -> None:
    assert "thumbs accounts create" in client.get("/v1/jobs").get_json()["detail"]


def test_key_comes_before_the_body(client: FlaskClient) -> None:
    """A stranger learns nothing about what would be valid."""
    assert client.post("/v1/jobs", data=b"{", content_type="application/json").status_code == 401


@pytest.mark.parametrize("kind", ["nothing", "garbage", "changed", "unknown", "basic", "no scheme", "not ASCII"])
def test_bad_key_is_refused(client: FlaskClient, services: Services, account: Account, kind: str) -> None:
    _, key = create_key(services, account)
    unknown, _ = build_key(services.new_id("key"), bytes(32))
    changed = key[:-2] + ("AA" if not key.endswith("AA") else "BB")
    presented = {
        "nothing": "Bearer ",
        "garbage": "Bearer tk_x",
        "changed": f"Bearer {changed}",
        "unknown": f"Bearer {unknown}",
        "basic": f"Basic {key}",
        "no scheme": key,
        "not ASCII": f"Bearer {key[:-1]}é",
    }
    answer = client.get("/v1/jobs", headers={"Authorization": presented[kind]})
    assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (401, True)


def test_revoked_key_is_refused(client: FlaskClient, services: Services, account: Account) -> None:
    key_id, key = create_key(services, account)
    _, other = create_key(services, account)
    services.ledger.accounts.revoke_key(key_id, NOW)
    assert client.get("/v1/jobs", headers=bearer(key)).status_code == 401
    assert client.get("/v1/jobs", headers=bearer(other)).status_code == 200


def test_another_accounts_job_is_404(client: FlaskClient, services: Services, account: Account) -> None:
    _, key = create_key(services, account)
    foreign = accept(services)
    assert client.get(f"/v1/jobs/{foreign.id}", headers=bearer(key)).status_code == 404
    assert client.get("/v1/jobs", headers=bearer(key)).get_json()["items"] == []


def test_use_of_a_key_is_recorded(client: FlaskClient, services: Services, account: Account) -> None:
    _, key = create_key(services, account)
    client.get("/v1/jobs", headers=bearer(key))
    assert services.ledger.accounts.list_keys(account.id)[0].last_used_at == services.clock.now()


def test_key_is_in_no_answer(client: FlaskClient, services: Services, account: Account) -> None:
    key_id, key = create_key(services, account)
    services.ledger.accounts.revoke_key(key_id, NOW)
    answer = client.get("/v1/jobs", headers=bearer(key))
    assert key not in answer.get_data(as_text=True) + str(answer.headers)


@pytest.mark.parametrize("path", ["/generateThumbnail", "/generateThumbnailAsync"])
def test_classic_routes_need_a_key_too(client: FlaskClient, path: str) -> None:
    assert client.get(f"{path}?url=https://img.example/cat.jpg").status_code == 401


def test_without_authentication_everybody_is_the_default_account(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_AUTH="off")
    open_client = create_app(services).test_client()
    job = open_client.post("/v1/jobs", json=BODY, headers=bearer("whatever")).get_json()
    account = ledger.accounts.find_by_name("default")
    assert account is not None
    assert ledger.jobs.get(account.id, job["id"])


def test_every_refusal_says_the_same(client: FlaskClient, services: Services, account: Account) -> None:
    """Whether it was the id or the secret that is wrong, or the key was revoked, is nobody's matter."""
    key_id, key = create_key(services, account)
    _, revoked = create_key(services, account)
    services.ledger.accounts.revoke_key(parse_id(revoked), NOW)
    wrong = key[:-2] + ("AA" if not key.endswith("AA") else "BB")
    unknown, _ = build_key(services.new_id("key"), bytes(32))
    presented = [{}, *({"Authorization": f"Bearer {each}"} for each in (wrong, unknown, revoked, "x"))]
    answers = [client.get("/v1/jobs", headers=headers) for headers in presented]
    problems = [answer.get_json() | {"request_id": ""} for answer in answers]
    assert problems == [problems[0]] * len(presented)
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {'Bearer realm="thumbs"'}
    assert services.ledger.accounts.find_key(key_id) is not None


def test_refused_key_is_not_used(client: FlaskClient, services: Services, account: Account) -> None:
    _, key = create_key(services, account)
    client.get("/v1/jobs", headers=bearer(key[:-2] + ("AA" if not key.endswith("AA") else "BB")))
    assert services.ledger.accounts.list_keys(account.id)[0].last_used_at is None
