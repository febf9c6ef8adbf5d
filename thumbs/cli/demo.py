"""`thumbs demo`: the whole way once, with a built-in source and receiver, in a data directory of its own."""

import contextlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import click

from thumbs import signing
from thumbs.accounts import get_default_account
from thumbs.cli.environment import open_services

READY_TIMEOUT_SECONDS: Final = 30.0
WEBHOOK_TIMEOUT_SECONDS: Final = 6.0
STOP_TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as it arrived."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@click.command()
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="thumbs-demo.jpg", show_default=True
)
def demo(output: Path) -> None:
    """Submit a job to a server of its own, show the webhook that arrives, and save the thumbnail."""
    webhooks: SimpleQueue[Webhook] = SimpleQueue()
    with (
        tempfile.TemporaryDirectory(prefix="thumbs-demo-") as data_dir,
        _serve(webhooks) as neighbour,
        _run(data_dir) as port,
    ):
        job = _submit(port, source_url=f"{neighbour}/sample.jpg", callback_url=f"{neighbour}/hooks")
        click.echo(f"submitted   {job['id']}: {job['source_url']}")
        webhook = _receive(webhooks)
        _check_signature(webhook, data_dir)
        event = json.loads(webhook.body)
        click.echo(json.dumps(event, indent=2))
        if event["type"] != "job.succeeded":
            raise click.ClickException(f"the job ended as {event['type']}")
        _, body = _request(port, "GET", f"/t/{event['data']['job']['thumbnail']['url'].rsplit('/', 1)[1]}")
        output.write_bytes(body)
    click.echo(f"saved       {output} ({len(body)} bytes)")


@contextlib.contextmanager
def _serve(webhooks: "SimpleQueue[Webhook]") -> Iterator[str]:
    """Serve the sample image and take webhooks, on a free port of this machine; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = resources.files("thumbs.web").joinpath("static/sample.jpg").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            webhooks.put(Webhook({name.lower(): value for name, value in self.headers.items()}, body))

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the demo tells what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _run(data_dir: str) -> Iterator[int]:
    """Run `thumbs up` on a free port until the block ends; yields the port. Its log is shown when it fails."""
    port = _find_free_port()
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("THUMBS_") and name != "DATABASE_URL"
    }
    environment = kept | {"PORT": str(port), "THUMBS_DATA_DIR": data_dir, "WEB_CONCURRENCY": "1"}
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "thumbs", "up"]
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            try:
                _wait_until_ready(port, process)
                yield port
            except BaseException:
                log.seek(0)
                click.echo(log.read(), err=True)
                raise
            finally:
                _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            if _request(port, "GET", "/readyz")[0] == 200:
                return
        time.sleep(0.05)
    raise click.ClickException("the server did not get ready; its log is above")


def _submit(port: int, *, source_url: str, callback_url: str) -> dict[str, Any]:
    status, body = _request(port, "POST", "/v1/jobs", {"source_url": source_url, "callback_url": callback_url})
    if status != 202:
        raise click.ClickException(f"the job was not accepted: {status} {body.decode()}")
    job: dict[str, Any] = json.loads(body)
    return job


def _receive(webhooks: "SimpleQueue[Webhook]") -> Webhook:
    try:
        return webhooks.get(timeout=WEBHOOK_TIMEOUT_SECONDS)
    except Empty:
        raise click.ClickException(f"no webhook arrived within {WEBHOOK_TIMEOUT_SECONDS:g} s") from None


def _check_signature(webhook: Webhook, data_dir: str) -> None:
    """Verify the webhook as any receiver would, with the callback secret."""
    with open_services({"THUMBS_DATA_DIR": data_dir}) as services:
        secret = services.cipher.decrypt(get_default_account(services).callback_secret)
    key, headers = signing.parse_secret(secret), webhook.headers
    expected = signing.sign([key], headers["webhook-id"], int(headers["webhook-timestamp"]), webhook.body)
    if not hmac.compare_digest(expected, headers["webhook-signature"]):
        raise click.ClickException("the webhook's signature is wrong")
    click.echo(f"received    webhook-id: {headers['webhook-id']}")
    click.echo(f"verified    webhook-signature: {headers['webhook-signature']}")


def _request(port: int, method: str, path: str, document: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
