"""/v1/endpoints: what may be registered and changed, by which field it is refused, and what is never shown."""

import base64
import logging
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, build_answer, build_test_services
from tests.web.calls import URL, check_refused, end_job, list_deliveries, register, register_foreign
from tests.web.conftest import ActingClock
from thumbs.deliver import deliver
from thumbs.domain import EVENT_PATTERNS
from thumbs.ledger import Ledger
from thumbs.services import Services
from thumbs.signing import build_secret, verify
from thumbs.web import create_app

SECRET = build_secret(bytes(range(24)))
VALUE = "a value that nobody sees"
UNKNOWN = "ep_01K5Z8M3V7Q2X9T4B6N8R0WYCD"

BAD_URLS: list[Any] = [None, 7, "", [URL], URL + "x" * 2_048]
FORBIDDEN_URLS = ["hooks", "ftp://app.example/", "https://u:p@app.example/", "http://10.0.0.1/", "http://x:25/"]
FORBIDDEN_URLS += [f"{URL}\0", f"{URL}\ud800", f"{URL}\n", "https://"]
BAD_EVENT_TYPES: list[Any] = [None, "*", [], ["job.done"], ["ping"], ["JOB.*"], [7], [None], ["*"] * 21, {"*": True}]
BAD_DESCRIPTIONS: list[Any] = [7, ["x"], "x" * 256, "a\0b", "\ud800"]
BAD_NAMES = ["", "X_A", "X A", "X-A\n", "Ä", "x" * 65, "X:A"]
OUR_NAMES = ["webhook-id", "Webhook-X", "THUMBS-x", "Host", "Content-Type", "content-length", "Content-"]
OUR_NAMES += ["Connection", "TRANSFER-encoding", "user-agent"]
BAD_HEADER_VALUES: list[Any] = [None, 7, ["x"], "", " ", " x", "x ", "\xa0x", "x" * 1_025]
BAD_HEADER_VALUES += ["a\r\nB: c", "a\nb", "a\tb", "a\0", "☃", "\x85", "\x7f", "\ud800"]
BAD_HEADERS: list[Any] = [
    *[None, [], "x", {"X-A": "1", "x-a": "2"}, {f"X-{number}": "x" for number in range(11)}],
    *[{name: "x"} for name in BAD_NAMES + OUR_NAMES],
    *[{"X-A": value} for value in BAD_HEADER_VALUES],
]
BAD_SECRETS: list[Any] = [7, "", "x", "whsec_", "whsec_!", "whsec_" + "é" * 32, SECRET + "\n", SECRET[6:]]
BAD_SECRETS += [f"whsec_{base64.b64encode(bytes(size)).decode()}" for size in (23, 65)]
BAD_VALUES: dict[str, list[Any]] = {
    "url": BAD_URLS,
    "event_types": BAD_EVENT_TYPES,
    "description": BAD_DESCRIPTIONS,
    "headers": BAD_HEADERS,
    "status": ["disabled"],
    "id": [UNKNOWN],
    "health": ["ok"],
}
BAD_NEW = [(field, bad) for field, values in BAD_VALUES.items() for bad in values]
BAD_NEW += [("secret", bad) for bad in BAD_SECRETS] + [("headers", {"X-A": "***"})]
BAD_CHANGES = [(field, bad) for field, values in BAD_VALUES.items() for bad in values] + [("secret", SECRET)]

GOOD_HEADERS: list[dict[str, str]] = [
    {},
    {f"X-{number}": "x" for number in range(10)},
    {"x" * 64: "y" * 1_024},
    {"Authorization": "Bearer x y=~!", "Hosts": "1", "X-Content-Type": "2", "thumbs": "3"},
    {"X-Name": "Größe ½"},
]


def get(client: FlaskClient, endpoint: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = client.get(f"/v1/endpoints/{endpoint['id']}").get_json()
    return told


def patch(client: FlaskClient, endpoint: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = client.patch(f"/v1/endpoints/{endpoint['id']}", json=changes)
    assert answer.status_code == 200, answer.get_json()
    told: dict[str, Any] = answer.get_json()
    return told


def send_ping(client: FlaskClient, services: Services, endpoint: dict[str, Any]) -> None:
    ping = client.post(f"/v1/endpoints/{endpoint['id']}/ping").get_json()
    deliver(services, ping["delivery_id"])


# ── registering ─────────────────────────────────────────────────────────────────────────────────────────


def test_endpoint_is_told_whole_when_it_is_registered(client: FlaskClient) -> None:
    endpoint = register(client)
    assert endpoint.pop("id").startswith("ep_")
    assert endpoint.pop("secret").startswith("whsec_")
    assert endpoint == {
        "url": URL,
        "event_types": ["*"],
        "description": None,
        "headers": {},
        "status": "enabled",
        "disabled_reason": None,
        "health": "ok",
        "created_at": "2026-11-23T10:15:30.123Z",
    }


def test_answer_leads_to_the_endpoint_which_has_no_secret(client: FlaskClient) -> None:
    answer = client.post("/v1/endpoints", json={"url": URL})
    endpoint = answer.get_json()
    assert answer.headers["Location"] == f"http://localhost/v1/endpoints/{endpoint['id']}"
    del endpoint["secret"]
    assert client.get(answer.headers["Location"]).get_json() == endpoint


def test_new_endpoint_is_pinged(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    endpoint = register(client, event_types=["job.failed"])
    [ping] = list_deliveries(client, f"?endpoint_id={endpoint['id']}")
    [event] = client.get("/v1/events").get_json()["items"]
    assert dispatcher.delivered == [(ping["id"], 0)]
    assert (event["id"], event["type"], event["data"]) == (ping["event_id"], "ping", {"endpoint_id": endpoint["id"]})


@pytest.mark.parametrize("given", [{}, {"secret": None}, {"secret": SECRET}], ids=["drawn", "null", "given"])
def test_webhooks_are_signed_with_the_secret_that_was_told(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound, given: dict[str, Any]
) -> None:
    endpoint = register(client, **given)
    send_ping(client, services, endpoint)
    [post] = outbound.posted
    verify([endpoint["secret"]], post.headers, post.body, now=services.clock.now())
    assert given.get("secret") in (None, endpoint["secret"])


def test_event_types_are_kept_once_each(client: FlaskClient) -> None:
    endpoint = register(client, event_types=["job.*", "batch.finished", "job.*"])
    assert endpoint["event_types"] == ["job.*", "batch.finished"]


def test_every_pattern_can_be_asked_for(client: FlaskClient) -> None:
    assert register(client, event_types=list(EVENT_PATTERNS))["event_types"] == list(EVENT_PATTERNS)
    assert register(client, event_types=["*"] * 20)["event_types"] == ["*"]


def test_unknown_event_type_is_told_what_is_known(shared_client: FlaskClient) -> None:
    answer = shared_client.post("/v1/endpoints", json={"url": URL, "event_types": ["job.done"]})
    assert all(pattern in answer.get_json()["detail"] for pattern in EVENT_PATTERNS)


def test_description_has_255_characters_of_any_kind(client: FlaskClient) -> None:
    assert register(client, description="☃" * 255)["description"] == "☃" * 255


@pytest.mark.parametrize("headers", GOOD_HEADERS, ids=lambda headers: str(headers)[:24])
def test_headers_are_sent_and_their_values_are_not_shown(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound, headers: dict[str, str]
) -> None:
    endpoint = register(client, headers=headers)
    send_ping(client, services, endpoint)
    assert endpoint["headers"] == dict.fromkeys(headers, "***")
    assert headers.items() <= outbound.posted[-1].headers.items()


@pytest.mark.parametrize(("field", "bad"), BAD_NEW, ids=lambda value: ascii(value)[:24])
def test_bad_field_of_a_new_endpoint_is_refused_by_its_name(shared_client: FlaskClient, field: str, bad: Any) -> None:
    check_refused(shared_client.post("/v1/endpoints", json={"url": URL, field: bad}), field)


def test_missing_url_is_refused_by_its_name(shared_client: FlaskClient) -> None:
    check_refused(shared_client.post("/v1/endpoints", json={}), "url", "validation_failed")


def test_url_against_policy_has_a_code_of_its_own(client: FlaskClient) -> None:
    for url in FORBIDDEN_URLS:
        check_refused(client.post("/v1/endpoints", json={"url": url}), "url", "url_not_allowed")
    assert client.get("/v1/endpoints").get_json()["items"] == []


def test_name_of_a_new_endpoint_is_not_looked_up(client: FlaskClient) -> None:
    assert register(client, url="https://there.is.no.such.name.invalid/")["status"] == "enabled"


def test_one_endpoint_too_many_is_409(ledger: Ledger, dispatcher: RecordingDispatcher, clock: ActingClock) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_WEBHOOK_MAX_ENDPOINTS="2")
    client = create_app(services).test_client()
    register_foreign(services)
    first, _ = register(client), register(client)
    answer = client.post("/v1/endpoints", json={"url": URL})
    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")
    client.delete(f"/v1/endpoints/{first['id']}")
    register(client)


def test_account_may_have_20_endpoints(client: FlaskClient) -> None:
    for _ in range(20):
        register(client)
    assert client.post("/v1/endpoints", json={"url": URL}).status_code == 409


# ── what is never shown ─────────────────────────────────────────────────────────────────────────────────


def test_refusals_repeat_neither_secrets_nor_the_values_of_headers(client: FlaskClient) -> None:
    for bad in (
        {"secret": SECRET[:-4]},
        {"secret": f"x{SECRET}"},
        {"secret": SECRET, "headers": {"X-A": f"{VALUE}\n"}},
    ):
        text = client.post("/v1/endpoints", json={"url": URL} | bad).get_data(as_text=True)
        assert not any(hidden in text for hidden in (SECRET[8:24], VALUE))


def test_no_later_answer_shows_the_secret_or_the_values_of_headers(
    client: FlaskClient, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = register(client, secret=SECRET, headers={"X-A": VALUE})
    send_ping(client, services, endpoint)
    end_job(services)
    path = f"/v1/endpoints/{endpoint['id']}"
    answers = [client.get(each) for each in (path, "/v1/endpoints", "/v1/deliveries", "/v1/events")]
    answers += [client.patch(path, json={}), client.post(f"{path}/disable"), client.post(f"{path}/enable")]
    told = "".join(answer.get_data(as_text=True) for answer in answers) + str([vars(each) for each in caplog.records])
    assert {answer.status_code for answer in answers} == {200}
    assert not any(hidden in told for hidden in (SECRET[6:], VALUE))


# ── changing ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "https://other.example/"),
        ("event_types", ["job.failed"]),
        ("description", "ours"),
        ("description", None),
        ("headers", {"X-B": "***"}),
        ("headers", {}),
    ],
)
def test_change_leaves_the_rest_as_it_is(client: FlaskClient, field: str, value: Any) -> None:
    endpoint = register(client, event_types=["job.*"], description="mine", headers={"X-A": VALUE, "X-B": VALUE})
    del endpoint["secret"]
    assert patch(client, endpoint, **{field: value}) == endpoint | {field: value}
    assert get(client, endpoint) == endpoint | {field: value}


def test_change_of_nothing_changes_nothing(client: FlaskClient) -> None:
    endpoint = register(client, headers={"X-A": VALUE})
    assert patch(client, endpoint) | {"secret": endpoint["secret"]} == endpoint


def test_changed_event_types_are_kept_once_each(client: FlaskClient) -> None:
    assert patch(client, register(client), event_types=["job.*", "job.*"])["event_types"] == ["job.*"]


def test_hidden_value_keeps_the_one_that_the_header_has(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    """Who reads an endpoint, changes something and writes it back has lost nothing."""
    endpoint = register(client, headers={"X-A": VALUE, "X-B": "before"})
    patch(client, endpoint, headers={"x-a": "***", "X-B": "after"})
    send_ping(client, services, endpoint)
    assert {"x-a": VALUE, "X-B": "after"}.items() <= outbound.posted[-1].headers.items()
    assert get(client, endpoint)["headers"] == {"x-a": "***", "X-B": "***"}


def test_hidden_value_of_a_header_that_is_not_there_is_409(client: FlaskClient) -> None:
    path = f"/v1/endpoints/{register(client, headers={'X-A': VALUE})['id']}"
    answer = client.patch(path, json={"headers": {"X-B": "***"}})
    assert (answer.status_code, list(answer.get_json()["errors"]["json"])) == (409, ["headers"])
    assert client.get(path).get_json()["headers"] == {"X-A": "***"}


@pytest.mark.parametrize(("field", "bad"), BAD_CHANGES, ids=lambda value: ascii(value)[:24])
def test_bad_change_is_refused_by_its_name(shared_client: FlaskClient, field: str, bad: Any) -> None:
    check_refused(shared_client.patch(f"/v1/endpoints/{UNKNOWN}", json={field: bad}), field)


def test_changed_url_against_policy_has_a_code_of_its_own(client: FlaskClient) -> None:
    endpoint = register(client)
    for url in FORBIDDEN_URLS:
        answer = client.patch(f"/v1/endpoints/{endpoint['id']}", json={"url": url, "description": "x"})
        check_refused(answer, "url", "url_not_allowed")
    assert get(client, endpoint) | {"secret": endpoint["secret"]} == endpoint


def test_what_waits_goes_to_the_changed_url(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    endpoint = register(client)
    patch(client, endpoint, url="https://other.example/")
    deliver(services, list_deliveries(client)[0]["id"])
    assert [post.url for post in outbound.posted] == ["https://other.example/"]


# ── lists, health, deletion ─────────────────────────────────────────────────────────────────────────────


def test_list_goes_through_the_endpoints_newest_first(client: FlaskClient) -> None:
    ids = [register(client)["id"] for _ in range(5)]
    seen: list[str] = []
    query: str | None = "?limit=2"
    while query is not None:
        page: dict[str, Any] = client.get(f"/v1/endpoints{query}").get_json()
        seen += [endpoint["id"] for endpoint in page["items"]]
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == sorted(ids, reverse=True)


def test_list_tells_each_endpoint_as_it_is(client: FlaskClient) -> None:
    endpoint = register(client, headers={"X-A": VALUE})
    assert client.get("/v1/endpoints").get_json() == {"items": [get(client, endpoint)], "next_cursor": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "status=enabled"])
def test_bad_query_is_refused_by_its_name(shared_client: FlaskClient, query: str) -> None:
    answer = shared_client.get(f"/v1/endpoints?{query}")
    assert (answer.status_code, list(answer.get_json()["errors"]["query"])) == (422, [query.partition("=")[0]])


def test_health_tells_how_the_deliveries_go(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound, clock: ActingClock
) -> None:
    """A first failure degrades it; five in a row over several deliveries open the breaker."""
    endpoint, seen = register(client), []
    outbound.on_post = lambda: build_answer(500)
    for _ in range(5):
        end_job(services)
        deliver(services, list_deliveries(client)[0]["id"])
        seen.append(get(client, endpoint)["health"])
        clock.move(60)
    assert seen == ["degraded"] * 4 + ["open"]
    assert client.get("/v1/endpoints").get_json()["items"][0]["health"] == "open"


def test_deleted_endpoint_is_gone_and_its_deliveries_stay_on_record(client: FlaskClient) -> None:
    endpoint = register(client)
    answer = client.delete(f"/v1/endpoints/{endpoint['id']}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert client.get("/v1/endpoints").get_json()["items"] == []
    [ping] = list_deliveries(client, f"?endpoint_id={endpoint['id']}")
    assert (ping["status"], ping["reason"], ping["next_attempt_at"]) == ("failed", "endpoint_deleted", None)
