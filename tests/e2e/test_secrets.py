"""No secret is anywhere but where it belongs: a whole run of the service is searched for each of them.

The run has everything that a secret goes through: keys, rotations, webhooks to a receiver that says back what it was
sent, wrong keys, broken requests, stores that are gone, rows that cannot be read, and the tools of operators.
"""

import ast
import base64
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.guards.sources import list_modules, name_module, parse
from tests.support.builders import build_attempt, build_delivery
from tests.support.dispatcher import RecordingDispatcher
from tests.support.exchanges import Reply, Request
from tests.support.images import build_photo, encode
from tests.support.runs import PASSWORD, SECRET_KEY, Run, run_embedded, run_production
from tests.support.secrets import Secret, find_secrets
from tests.support.servers import Receiver, SourceServer
from tests.support.services import build_test_settings
from tests.support.stack import find_free_port, wait_until
from thumbs.accounts import get_default_account
from thumbs.domain import Answer, LeasedDelivery
from thumbs.endpoints import NewEndpoint, Rotation, create_endpoint
from thumbs.keys import parse_key
from thumbs.ledger import Ledger
from thumbs.services import Services, build

OTHER_SECRET_KEY = "another planted secret key, of somebody else's service"
OWN_SECRET = "whsec_" + base64.b64encode(b"planted key of a caller, 32 byte").decode()
BROKEN_SECRET = "whsec_planted-and-not-in-base64-at-all"
WRONG_SECRET = "planted-secret-part-of-a-key-that-was-wrong"
HEADER_VALUE = "planted-header-value"
PNG = encode(build_photo(), "PNG")
SECRET_NAME = re.compile(r"(?!is_|has_)\w*(secret|password|secret_key|api_key)")
HIDDEN_FIELD = re.compile(r"repr=False|is_secret=True")
SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/=]+")


@pytest.fixture(scope="module", params=["embedded", "production"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is over."""
    folder: Path = tmp_path_factory.mktemp("run")
    if request.param == "embedded":
        service = run_embedded(folder)
    else:
        service = run_production(folder, request.getfixturevalue("postgres"), request.getfixturevalue("valkey_url"))
    with SourceServer() as source, Receiver() as receiver, service as run:
        live(run, source, receiver)
    return run


def live(run: Run, source: SourceServer, receiver: Receiver) -> None:
    """Do all that a secret goes through."""
    run.plant("the secret key", SECRET_KEY)
    run.plant("the stores' password", PASSWORD)
    make_account(run)
    receiver.answer_by(build_echo(receiver))
    endpoint_id = make_endpoints(run, receiver)
    job_id = make_jobs(run, source, receiver)
    knock_wrongly(run, source)
    lose_stores(run, source)
    look_around(run, job_id, endpoint_id)
    break_rows(run, job_id, endpoint_id)
    use_tools(run)
    run.told["the command lines"] = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in run.stack.list_pids())
    for number, signature in enumerate(SIGNATURE.findall(str([each.headers for each in receiver.requests]))):
        run.plant(f"signature {number}", signature, is_data=True)


def make_account(run: Run) -> None:
    """Make an account with three keys, one of which is revoked."""
    told = run.run_command("accounts", "create", "acme", is_telling=True)
    run.key = run.plant("the API key", find(r"tk_\S+", told))
    run.plant("the callback secret", find(r"whsec_\S+", told))
    run.plant("a second API key", run.run_command("keys", "create", "acme", is_telling=True).strip())
    revoked = run.plant("a revoked API key", run.run_command("keys", "create", "acme", is_telling=True).strip())
    run.run_command("keys", "revoke", f"key_{revoked.split('_')[1]}")
    run.run_command("keys", "list", "acme")
    run.call("GET", "/v1/jobs", key=revoked)


def build_echo(receiver: Receiver) -> Any:
    """Build a receiver's answer, in which is whatever it was sent; the first callback is answered with 500."""

    def answer(request: Request) -> Reply:
        status = 500 if request.path == "/callback" and receiver.count("/callback") == 1 else 200
        headers = {f"X-Echo-{name}": value for name, value in request.headers.items()}
        return Reply(status, json.dumps(dict(request.headers)).encode() + request.body, headers)

    return answer


def make_endpoints(run: Run, receiver: Receiver) -> str:
    """Register receivers with headers and secrets, change and rotate them; returns the id of one."""
    own = {"url": receiver.url("/own"), "secret": run.plant("a secret of the caller's own", OWN_SECRET)}
    run.call("POST", "/v1/endpoints", json=own, is_telling=True)
    run.plant("a secret that is none", BROKEN_SECRET)
    run.call("POST", "/v1/endpoints", json=own | {"secret": BROKEN_SECRET})
    token = run.plant("the query of an endpoint", "planted-query-of-an-endpoint", is_data=True)
    first, second = (run.plant(f"{name} header value", f"planted-{name}-header-value") for name in ("a", "another"))
    body = {"url": receiver.url(f"/hook?token={token}"), "headers": {"Authorization": f"Bearer {first}"}}
    endpoint = run.call("POST", "/v1/endpoints", json=body, is_telling=True).json()
    run.plant("an endpoint's first secret", endpoint["secret"])
    receiver.wait_for(2)  # The pings.
    path = f"/v1/endpoints/{endpoint['id']}"
    run.call("PATCH", path, json={"headers": {"Authorization": f"Bearer {second}", "X-Tenant": second}})
    for owner in (endpoint["id"], "callbacks"):
        rotation = run.call("POST", f"/v1/endpoints/{owner}/rotate-secret", json={"grace_seconds": 60}, is_telling=True)
        run.plant(f"the rotated secret of {owner}", rotation.json()["secret"])
    return str(endpoint["id"])


def make_jobs(run: Run, source: SourceServer, receiver: Receiver) -> str:
    """Make jobs that succeed, that fail, and one that stays on the queue; returns the id of the first."""
    sig = f"?sig={run.plant('the query of a source', 'planted-query-of-a-source', is_data=True)}"
    token = run.plant("the query of a callback", "planted-query-of-a-callback", is_data=True)
    body = {"source_url": source.serve("/photo", PNG) + sig, "callback_url": receiver.url(f"/callback?token={token}")}
    key = {"Idempotency-Key": run.plant("an Idempotency-Key", "planted-idempotency-key", is_data=True)}
    first = run.call("POST", "/v1/jobs", json=body, headers=key)
    assert first.status == 202
    run.call("POST", "/v1/jobs", json=body, headers=key)
    run.call("POST", "/v1/jobs", json=body | {"width": 50}, headers=key)
    run.wait_for_job(first.json()["id"], "delivered")
    refused = f"http://127.0.0.1:{find_free_port()}/"
    failing = [source.url("/no") + sig, source.redirect_to(source.url("/no") + sig), source.url("/status/410") + sig]
    jobs = [run.call("POST", "/v1/jobs", json={"source_url": url}) for url in failing]
    for url in (refused + sig, source.url("/nonsense") + sig, source.url("/status/503") + sig + "&retry_after=50"):
        run.call("POST", "/v1/jobs", json={"source_url": url})
    for job in jobs:
        run.wait_for_job(job.json()["id"])
    wait_until(lambda: source.count("/status/503"), 20)
    password = run.plant("a password in a URL", "planted-password-in-a-url", is_data=True)
    run.call("POST", "/v1/jobs", json={"source_url": f"http://planted:{password}@127.0.0.1/"})
    run.call("GET", "/generateThumbnail", params={"url": source.url("/photo") + sig})
    return str(first.json()["id"])


def knock_wrongly(run: Run, source: SourceServer) -> None:
    """Come with keys that are wrong or malformed, and with requests that are not even HTTP."""
    key_id = run.key.split("_")[1]
    wrong = f"tk_{key_id}_{run.plant('the wrong part of a key', WRONG_SECRET)}"
    run.call("GET", "/v1/jobs", key=wrong)
    run.call("GET", "/v1/jobs", key=run.plant("a malformed key", "planted-malformed-key"))
    basic = base64.b64encode(f"planted:{run.plant('a basic password', 'planted-basic-password')}".encode()).decode()
    run.call("GET", "/v1/jobs", headers={"Authorization": f"Basic {basic}"})
    run.call("POST", "/v1/jobs", json=[run.plant("a body that is none", "planted-body", is_data=True)])
    run.send_raw(f"GET /generateThumbnail?url={source.url('/a b')}?sig=planted-query-of-a-source HTTP/1.1\r\nHost: x")
    run.send_raw(f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {run.key}")


def lose_stores(run: Run, source: SourceServer) -> None:
    """Take the databases away for a while, where there is a proxy before them, and call the API meanwhile."""
    for proxy in run.stores:
        proxy.cut()
        for method, path, json_body in (
            ("GET", "/v1/jobs", None),
            ("POST", "/v1/jobs", {"source_url": source.url("/photo")}),
        ):
            run.call(method, path, json=json_body)
        run.call("GET", "/readyz")
        proxy.restore()
        wait_until(lambda: run.call("GET", "/readyz").status == 200, 20)


def look_around(run: Run, job_id: str, endpoint_id: str) -> None:
    """Look at everything that can be looked at."""
    document = run.call("GET", "/openapi.json").json()
    paths = [path for path, item in document["paths"].items() if "{" not in path and "get" in item]
    deliveries = run.call("GET", f"/v1/jobs/{job_id}/deliveries").json()["items"]
    of_ids = [f"/v1/jobs/{job_id}", f"/v1/endpoints/{endpoint_id}", f"/v1/deliveries/{deliveries[0]['id']}"]
    for path in (*paths, *of_ids, "/", "/docs", "/metrics"):
        run.call("GET", path)


def break_rows(run: Run, job_id: str, endpoint_id: str) -> None:
    """Make rows that cannot be read, so that a request, a run and an attempt end in an error that nobody expected."""
    run.execute(
        f"""UPDATE jobs SET spec = '"x"', status = 'queued', run_at = 0, dispatched_at = 0 WHERE id = '{job_id}'"""
    )
    assert run.call("GET", f"/v1/jobs/{job_id}").status == 500
    run.execute(f"""UPDATE endpoints SET headers = '{{"Authorization": "x"}}' WHERE id = '{endpoint_id}'""")
    run.call("POST", f"/v1/endpoints/{endpoint_id}/ping")
    run.wait_for_log("a request failed")
    run.wait_for_log("a task failed", 2)


def use_tools(run: Run) -> None:
    """Use an operator's tools, also with settings that are wrong."""
    run.run_command("doctor")
    run.run_command("settings")
    run.plant("another secret key", OTHER_SECRET_KEY)
    run.run_command("keys", "list", "acme", environ={"THUMBS_SECRET_KEY": OTHER_SECRET_KEY})
    nowhere = f"planted:{PASSWORD}@127.0.0.1:{find_free_port()}/0"
    lost = {"DATABASE_URL": f"postgresql://{nowhere}", "REDIS_URL": f"redis://{nowhere}"}
    run.run_command("doctor", environ=lost | {"THUMBS_EGRESS_PROXY_URL": f"http://{nowhere.removesuffix('/0')}"})
    run.run_command("settings", environ={"DATABASE_URL": f"mysql://{nowhere}"})
    run.run_command("migrate", environ=lost)


def find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[0]


# ── the search ──────────────────────────────────────────────────────────────────────────────────────────


def test_search_finds_what_is_there(run: Run) -> None:
    """Else the tests below would find nothing either: queries are in the ledger, ids on the queue and in the log."""
    shown = [secret for secret in run.secrets if secret.name == "the query of a source"]
    assert find_secrets(shown, run.stored)
    assert find_secrets(shown, run.told)
    assert any(b"job_" in content for content in run.queued.values())
    assert "a request failed" in run.stack.read_log()


def test_log_holds_no_secret(run: Run) -> None:
    """Nor signatures, nor the queries of URLs."""
    assert find_secrets(run.secrets, {"the log": run.stack.read_log().encode()}) == []


def test_queue_holds_ids_only(run: Run) -> None:
    assert find_secrets(run.secrets, run.queued) == []


def test_ledger_holds_no_secret_in_clear(run: Run) -> None:
    """Keys as hashes, signing secrets and headers encrypted; also in what a receiver said back."""
    assert find_secrets([secret for secret in run.secrets if not secret.is_data], run.stored) == []


def test_nobody_is_told_a_secret_twice(run: Run) -> None:
    """Not by the API, not by a problem document, not by a tool; also not what a receiver said back."""
    assert find_secrets([secret for secret in run.secrets if not secret.is_data], run.told) == []


# ── what Python shows of a value ────────────────────────────────────────────────────────────────────────


def test_repr_shows_no_secret(ledger: Ledger, dispatcher: RecordingDispatcher) -> None:
    """Of nothing that holds one: a value may get into a log line, or into the text of an error."""
    store = f"planted:{PASSWORD}@127.0.0.1:1/0"
    urls = {"DATABASE_URL": f"postgresql://{store}", "REDIS_URL": f"redis://{store}"}
    settings = build_test_settings(THUMBS_SECRET_KEY=SECRET_KEY, **urls)
    services = build(settings, dispatcher)
    values = [services, *(getattr(services, each.name) for each in fields(services)), services.ledger.jobs]
    values += list_holders(replace(services, ledger=ledger))
    secrets = [Secret("it", text) for text in (SECRET_KEY, PASSWORD, OWN_SECRET, WRONG_SECRET, HEADER_VALUE)]
    assert find_secrets(secrets, {type(value).__name__: f"{value!r} {value}".encode() for value in values}) == []


def list_holders(services: Services) -> list[object]:
    """List values that hold one of the secrets, in clear or encrypted."""
    account = get_default_account(services)
    new = NewEndpoint("https://app.example/", ("*",), headers={"Authorization": HEADER_VALUE}, secret=OWN_SECRET)
    endpoint, _ = create_endpoint(services, account, new)
    assert services.cipher.decrypt(endpoint.secret) == OWN_SECRET
    answer = Answer(200, {"x-echo": HEADER_VALUE}, HEADER_VALUE.encode(), is_truncated=False)
    attempt = build_attempt("dlv_1", response_headers=answer.headers, response_body=HEADER_VALUE)
    key = parse_key(f"tk_{'0' * 26}_{WRONG_SECRET}")
    assert key is not None
    leased = LeasedDelivery(build_delivery(), attempt, HEADER_VALUE.encode(), endpoint)
    return [account, new, endpoint, answer, attempt, key, leased, Rotation(OWN_SECRET, account.created_at)]


def test_field_that_is_named_like_a_secret_is_left_out_of_repr() -> None:
    """Of every dataclass; a hash may be shown."""
    shown = [
        f"{name_module(path)}: {node.name}.{item.target.id}"
        for path in list_modules()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        if SECRET_NAME.fullmatch(item.target.id) and not HIDDEN_FIELD.search(ast.unparse(item))
    ]
    assert shown == []
