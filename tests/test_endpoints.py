"""What callers do with their endpoints: register, change, delete, disable, rotate; and who hears of what."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.builders import parse_event
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.races import race
from tests.support.services import (
    Post,
    ScriptedOutbound,
    accept,
    build_answer,
    build_test_services,
    deliver_all,
    get_endpoint,
    list_deliveries,
    meanwhile,
    record_delivery,
    register,
)
from tests.support.sweeps import sweep_after
from thumbs.accounts import create_account, get_default_account
from thumbs.deliver import deliver
from thumbs.domain import CALLBACKS, Account, Endpoint, EndpointStatus
from thumbs.endpoints import (
    NewEndpoint,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    ping_endpoint,
    recover,
    rotate_secret,
)
from thumbs.errors import Conflict, NotFound, UrlNotAllowed
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services

URL = "https://app.example/endpoint"
CALLBACK = "https://app.example/hooks"
DAY_SECONDS = 86_400


@pytest.fixture
def clock() -> FrozenClock:
    """Today's time: the verifier looks at the real one."""
    return FrozenClock(datetime.now(UTC))


@pytest.fixture
def account(services: Services) -> Account:
    return get_default_account(services)


def get_posts(outbound: ScriptedOutbound, url: str = URL, kind: str = "job.succeeded") -> list[Post]:
    """Get what was posted to a URL of one type of event."""
    return [post for post in outbound.posted if post.url == url and parse_event(post.body)["type"] == kind]


def verifies(secret: str, post: Post) -> bool:
    """Tell whether the PyPI package, as receivers use it, takes a webhook."""
    try:
        Webhook(secret).verify(post.body, dict(post.headers))
    except WebhookVerificationError:
        return False
    return True


def run_job(services: Services, callback_url: str | None = None) -> None:
    """Run a job to its end, and make every attempt that is due."""
    process(services, accept(services, callback_url=callback_url).id)
    deliver_all(services)


def tell_statuses(services: Services, endpoint: Endpoint) -> list[tuple[str, str | None]]:
    return [(each.status, each.reason) for each in list_deliveries(services, endpoint.id)]


# ── registering ─────────────────────────────────────────────────────────────────────────────────────────


def test_new_endpoint_is_pinged_at_once(
    services: Services, account: Account, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    endpoint, _ = create_endpoint(services, account, NewEndpoint(URL, ("job.*",)))
    [(delivery_id, _)] = dispatcher.delivered
    deliver(services, delivery_id)
    [post] = get_posts(outbound, kind="ping")
    assert parse_event(post.body)["data"] == {"endpoint_id": endpoint.id}


def test_secret_is_given_once_and_encrypted_at_rest(services: Services) -> None:
    endpoint, secret = register(services)
    stored = get_endpoint(services, endpoint)
    assert secret.startswith("whsec_")
    assert secret not in repr(stored) + stored.secret
    assert services.cipher.decrypt(stored.secret) == secret


def test_secret_may_be_the_callers_own(services: Services, outbound: ScriptedOutbound) -> None:
    _, secret = register(services, secret="whsec_" + "A" * 43 + "=")
    assert secret == "whsec_" + "A" * 43 + "="
    assert verifies(secret, outbound.posted[-1])


def test_headers_are_encrypted_at_rest_and_sent(services: Services, outbound: ScriptedOutbound) -> None:
    endpoint, _ = register(services, headers={"X-Team": "hunter2"})
    assert "hunter2" not in get_endpoint(services, endpoint).headers["X-Team"]
    assert outbound.posted[-1].headers["X-Team"] == "hunter2"


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "ftp://app.example/", "https://u:p@app.example/", ""])
def test_url_that_policy_forbids_is_refused_by_its_field(services: Services, account: Account, url: str) -> None:
    with pytest.raises(UrlNotAllowed) as caught:
        create_endpoint(services, account, NewEndpoint(url, ("*",)))
    assert caught.value.field == "url"
    assert services.ledger.endpoints.list_for_account(account.id) == []


def test_account_with_as_many_endpoints_as_it_may_have_is_told(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_WEBHOOK_MAX_ENDPOINTS="1")
    register(services)
    dispatched = len(dispatcher.delivered)
    with pytest.raises(Conflict):
        register(services)
    assert len(dispatcher.delivered) == dispatched


# ── who hears of what ───────────────────────────────────────────────────────────────────────────────────


def test_job_is_told_to_the_endpoints_that_asked_for_it(services: Services, outbound: ScriptedOutbound) -> None:
    register(services, event_types=("job.*",))
    register(services, "https://deaf.example/", event_types=("batch.*", "job.failed"))
    run_job(services)
    assert len(get_posts(outbound)) == 1
    assert get_posts(outbound, "https://deaf.example/") == []


def test_endpoint_hears_nothing_of_another_account(services: Services, outbound: ScriptedOutbound) -> None:
    stranger = create_account(services, "stranger")
    assert stranger is not None
    create_endpoint(services, stranger, NewEndpoint("https://stranger.example/", ("*",)))
    run_job(services)
    assert get_posts(outbound, "https://stranger.example/") == []


def test_endpoint_is_signed_with_its_own_secret_and_no_other(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    _, secret = register(services)
    run_job(services)
    [post] = get_posts(outbound)
    assert verifies(secret, post)
    assert not verifies(services.cipher.decrypt(account.callback_secret), post)


def test_equal_url_gets_it_once_signed_with_both_keys(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    """Whether that receiver knows the endpoint's secret or the callbacks', it verifies."""
    _, secret = register(services)
    run_job(services, callback_url=URL)
    [post] = get_posts(outbound)
    assert verifies(secret, post)
    assert verifies(services.cipher.decrypt(account.callback_secret), post)


def test_callback_and_endpoint_get_the_same_bytes_under_the_same_id(
    services: Services, outbound: ScriptedOutbound
) -> None:
    register(services)
    run_job(services, callback_url=CALLBACK)
    [one], [other] = get_posts(outbound), get_posts(outbound, CALLBACK)
    assert (one.body, one.headers["webhook-id"]) == (other.body, other.headers["webhook-id"])
    assert one.headers["thumbs-delivery"] != other.headers["thumbs-delivery"]


def test_callback_outlives_the_endpoint_with_its_url(
    services: Services, account: Account, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """The URL came with a job, which knows nothing of endpoints: from then on it is signed and sent as a callback."""
    endpoint, secret = register(services, headers={"X-Team": "a"})
    outbound.on_post = lambda: build_answer(500)
    run_job(services, callback_url=URL)
    delete_endpoint(services, account, endpoint.id)
    outbound.on_post = build_answer
    sweep_after(services, clock, 60)
    deliver_all(services)
    first, second = get_posts(outbound)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert ("X-Team" in first.headers, "X-Team" in second.headers) == (True, False)
    assert verifies(services.cipher.decrypt(account.callback_secret), second)
    assert not verifies(secret, second)


# ── changing and deleting ───────────────────────────────────────────────────────────────────────────────


def test_hidden_header_keeps_its_value_and_others_are_replaced(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    """What was read can be sent back: whoever changes one header need not know the others."""
    endpoint, _ = register(services, headers={"X-Team": "a", "X-Env": "b", "X-Old": "c"})
    changes = {"headers": {"x-team": "***", "X-Env": "new"}}
    changed = change_endpoint(services, account, endpoint.id, changes)
    run_job(services)
    sent = {name.lower(): value for name, value in outbound.posted[-1].headers.items()}
    assert (sent["x-team"], sent["x-env"], "x-old" in sent) == ("a", "new", False)
    assert set(changed.headers) == {"x-team", "X-Env"}


def test_hidden_header_that_has_no_value_is_refused(services: Services, account: Account) -> None:
    endpoint, _ = register(services, headers={"X-Team": "a"})
    with pytest.raises(Conflict) as caught:
        change_endpoint(services, account, endpoint.id, {"headers": {"X-Other": "***"}})
    assert caught.value.field == "headers"
    assert get_endpoint(services, endpoint) == endpoint


def test_changed_url_gets_what_waits(services: Services, account: Account, outbound: ScriptedOutbound) -> None:
    endpoint, _ = register(services)
    process(services, accept(services, callback_url=None).id)
    change_endpoint(services, account, endpoint.id, {"url": "https://new.example/hooks"})
    deliver_all(services)
    assert len(get_posts(outbound, "https://new.example/hooks")) == 1


def test_changed_url_is_checked(services: Services, account: Account) -> None:
    endpoint, _ = register(services)
    with pytest.raises(UrlNotAllowed) as caught:
        change_endpoint(services, account, endpoint.id, {"url": "http://10.0.0.1/"})
    assert caught.value.field == "url"
    assert get_endpoint(services, endpoint) == endpoint


def test_changed_types_hold_for_what_comes(services: Services, account: Account, outbound: ScriptedOutbound) -> None:
    endpoint, _ = register(services)
    change_endpoint(services, account, endpoint.id, {"event_types": ("batch.*",), "description": "batches"})
    run_job(services)
    assert get_posts(outbound) == []
    assert get_endpoint(services, endpoint).description == "batches"


def test_deleted_endpoint_hears_nothing_more(services: Services, account: Account, outbound: ScriptedOutbound) -> None:
    endpoint, _ = register(services)
    process(services, accept(services, callback_url=None).id)
    delete_endpoint(services, account, endpoint.id)
    run_job(services)
    assert get_posts(outbound) == []
    assert tell_statuses(services, endpoint) == [("failed", "endpoint_deleted")]


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "another account's"])
def test_endpoint_that_is_not_the_accounts_is_not_found(
    services: Services, account: Account, clock: FrozenClock, is_deleted: bool
) -> None:
    endpoint, _ = register(services)
    if is_deleted:
        delete_endpoint(services, account, endpoint.id)
    owner = account if is_deleted else replace(account, id="acct_stranger")
    for use_case in (delete_endpoint, enable_endpoint, disable_endpoint, ping_endpoint):
        with pytest.raises(NotFound):
            use_case(services, owner, endpoint.id)
    with pytest.raises(NotFound):
        change_endpoint(services, owner, endpoint.id, {})
    with pytest.raises(NotFound):
        rotate_secret(services, owner, endpoint.id, DAY_SECONDS)
    with pytest.raises(NotFound):
        recover(services, owner, endpoint.id, clock.now(), None)


# ── disabled is not lost ────────────────────────────────────────────────────────────────────────────────


def test_disabled_endpoint_is_sent_nothing_and_misses_it_on_record(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    endpoint, _ = register(services)
    process(services, accept(services, callback_url=None).id)
    disabled = disable_endpoint(services, account, endpoint.id)
    run_job(services)
    assert (disabled.status, disabled.disabled_reason) == (EndpointStatus.DISABLED, "manual")
    assert get_posts(outbound) == []
    assert tell_statuses(services, endpoint) == [("failed", "endpoint_disabled")] * 2


def test_enabling_and_disabling_can_be_repeated(services: Services, account: Account) -> None:
    endpoint, _ = register(services)
    assert disable_endpoint(services, account, endpoint.id) == disable_endpoint(services, account, endpoint.id)
    assert (
        enable_endpoint(services, account, endpoint.id) == enable_endpoint(services, account, endpoint.id) == endpoint
    )


def test_attempt_under_way_while_its_endpoint_is_disabled_does_not_wait_for_ever(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    endpoint, _ = register(services)
    outbound.on_post = meanwhile(lambda: disable_endpoint(services, account, endpoint.id), lambda: build_answer(500))
    run_job(services)
    assert tell_statuses(services, endpoint) == [("failed", "endpoint_disabled")]


# ── rotation ────────────────────────────────────────────────────────────────────────────────────────────


def test_rotated_secret_signs_beside_the_old_one_until_the_grace_is_over(
    services: Services, account: Account, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    endpoint, old = register(services)
    rotation = rotate_secret(services, account, endpoint.id, 60)
    assert rotation.previous_expires_at == clock.now() + timedelta(seconds=60)
    for is_old_taken in (True, False):
        run_job(services)
        post = outbound.posted[-1]
        assert (verifies(rotation.secret, post), verifies(old, post)) == (True, is_old_taken)
        clock.move(60)


def test_newest_key_signs_first(services: Services, account: Account, outbound: ScriptedOutbound) -> None:
    endpoint, first = register(services)
    second, third = (rotate_secret(services, account, endpoint.id, 60).secret for _ in range(2))
    run_job(services)
    post = outbound.posted[-1]
    signatures = post.headers["webhook-signature"].split(" ")
    alone = [{**post.headers, "webhook-signature": signature} for signature in signatures]
    assert [verifies(third, replace(post, headers=headers)) for headers in alone] == [True, False, False]
    assert all(verifies(secret, post) for secret in (first, second, third))


def test_secret_of_callbacks_is_rotated_by_their_name(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    """Also for who holds an account as it was before: each rotation goes on from the newest."""
    old = services.cipher.decrypt(account.callback_secret)
    secrets = [old, *(rotate_secret(services, account, CALLBACKS, 60).secret for _ in range(2))]
    deliver(services, record_delivery(services).id)
    assert all(verifies(secret, outbound.posted[-1]) for secret in secrets)


def test_secret_that_was_given_signs_whoever_rotates_at_the_same_time(
    services: Services, account: Account, outbound: ScriptedOutbound
) -> None:
    endpoint, _ = register(services)

    def rotate() -> str | None:
        try:
            return rotate_secret(services, account, endpoint.id, 60).secret
        except Conflict:
            return None

    given = [secret for secret in race(*[rotate] * 6) if secret is not None]
    run_job(services)
    assert given
    assert all(verifies(secret, outbound.posted[-1]) for secret in given)
