"""Parent and children: none outlives the other, none is started by accident, and a parent holds no pixels."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.decoders import (
    MIB,
    RED_PNG,
    WAIT_SECONDS,
    build_sandbox,
    find_new_decoder,
    list_decoders,
    render_in,
    start_slow_render,
    wait_until,
)
from thumbs.sandbox import Sandbox

REPOSITORY = Path(__file__).parents[2]

PARENT = """
# No guard against being imported: a child that ran its parent's main script would start children of its own.
import sys, threading
from pathlib import Path
from thumbs.domain import DecodeLimits, ThumbnailSpec
from thumbs.sandbox import Sandbox

body = Path(sys.argv[1]).read_bytes()
sandbox = Sandbox(DecodeLimits(), decoders=2, timeout_seconds=10, memory_bytes=1 << 30)
sandbox.start()
sandbox.render(Path(sys.argv[2]).read_bytes(), [ThumbnailSpec()], wait_seconds=20)
assert not [name for name in sys.modules if name == "PIL" or name.startswith("thumbs.imaging")]
print("ready", flush=True)

def render_for_ever():
    while True:
        sandbox.render(body, [ThumbnailSpec()], wait_seconds=20)

if len(sys.argv) > 3:
    threading.Thread(target=render_for_ever, daemon=True).start()
    sys.stdin.read()
"""


def start_parent(tmp_path: Path, body: bytes, *arguments: str) -> "subprocess.Popen[bytes]":
    script, slow, quick = tmp_path / "parent.py", tmp_path / "slow", tmp_path / "quick"
    script.write_text(PARENT)
    slow.write_bytes(body)
    quick.write_bytes(RED_PNG)
    command = [sys.executable, str(script), str(slow), str(quick), *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)


def test_parent_that_is_killed_leaves_no_orphans(tmp_path: Path, slow_png: bytes) -> None:
    """Nor does one that decodes: the kernel kills it, without its interpreter's help."""
    with start_parent(tmp_path, slow_png, "for ever") as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        children = list_decoders(parent.pid)
        wait_until(lambda: any(child.cpu_percent() > 0 for child in children))

        parent.kill()

        _, alive = psutil.wait_procs(children, timeout=2)
        assert len(children) == 2
        assert all(child.status() == psutil.STATUS_ZOMBIE for child in alive)  # Dead; it is init's to notice.


def test_main_script_is_not_run_again_in_the_child(tmp_path: Path) -> None:
    """It also ends by itself, without close(), and without a word on stderr."""
    with start_parent(tmp_path, RED_PNG) as parent:
        stdout, stderr = parent.communicate(timeout=30)

    assert (stdout, stderr, parent.returncode) == (b"ready\n", b"", 0)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_render_under_way_outlives_a_signal_to_the_whole_group(
    threads: ThreadPoolExecutor, slow_png: bytes, signal_number: int
) -> None:
    """systemd and Ctrl-C signal every process of the group; the parent decides what that means."""
    before = list_decoders()
    with build_sandbox() as sandbox:
        future = start_slow_render(sandbox, threads, slow_png)
        find_new_decoder(before).send_signal(signal_number)

        assert future.result(timeout=WAIT_SECONDS).source_width == 7000


def test_idle_children_are_small(shared: Sandbox) -> None:
    render_in(shared, RED_PNG)

    assert all(child.memory_info().rss < 80 * MIB for child in list_decoders())
