"""The README's examples run as printed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.stack import ROOT, Stack, find_free_port, wait_until

README = (ROOT / "README.md").read_text(encoding="utf-8")


def list_blocks(language: str) -> list[str]:
    """List the README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def move(text: str, stack: Stack, receiver_port: int) -> str:
    """Put the ports of this test in place of the README's."""
    return text.replace("127.0.0.1:8000", f"127.0.0.1:{stack.port}").replace("9000", str(receiver_port))


@contextmanager
def run_receiver(source: str, stack: Stack, log: Path) -> Iterator[None]:
    """Run the README's receiver."""
    environ = os.environ | {"CALLBACK_SECRET": stack.read_secret()}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", source], env=environ, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def test_first_request_answers_the_finished_thumbnail(stack: Stack) -> None:
    [command] = [block for block in list_blocks("sh") if "Prefer: wait=10" in block]
    done = subprocess.run(["sh", "-c", move(command, stack, 0)], capture_output=True, text=True, check=True)
    assert '"status":"succeeded"' in done.stdout


def test_receiver_verifies_the_webhook_of_the_request(stack: Stack, tmp_path: Path) -> None:
    port, log = find_free_port(), tmp_path / "receiver.log"
    [source] = list_blocks("python")
    [command] = [block for block in list_blocks("sh") if "callback_url" in block]
    with run_receiver(move(source, stack, port), stack, log):
        subprocess.run(["sh", "-c", move(command, stack, port)], capture_output=True, check=True)
        line = wait_until(lambda: log.read_text(encoding="utf-8"), 20)
    assert re.match(rf"job\.succeeded {stack.base}/t/[0-9a-f]{{32}}\.jpg\n", line)


def test_every_make_target_and_command_of_the_readme_exists() -> None:
    """What the README tells to type is there to be typed."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(
        re.findall(r"\bmake ([a-z]+)\b", " ".join(list_blocks("sh")) + " ".join(re.findall(r"`(.*?)`", README)))
    )
    assert named - {"a"} <= targets
    helped = subprocess.run([sys.executable, "-m", "thumbs", "--help"], capture_output=True, text=True, check=True)
    commands = set(re.findall(r"`thumbs ([a-z]+)", README))
    assert commands <= {line.split()[0] for line in helped.stdout.splitlines() if line.startswith("  ")}


def test_every_page_that_the_readme_links_to_is_there() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert [path for path in linked if not (ROOT / path).exists()] == []
