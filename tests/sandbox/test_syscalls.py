"""Where there is no seccomp, a child goes without it; what it forbids elsewhere is in `test_child`."""

import subprocess
import sys

import pytest

CODE = """
import sys
from thumbs.sandbox import syscalls
sys.platform = {platform!r}
print(syscalls.forbid_system_calls())
open("/dev/null").close()
"""


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_other_systems_are_not_asked_for_a_filter(platform: str) -> None:
    """An Intel Mac is x86_64, too, and its C library has no prctl: the child would die of an AttributeError."""
    command = [sys.executable, "-c", CODE.format(platform=platform)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("False\n", "", 0)
