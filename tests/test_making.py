"""What `thumbs make` calls its outputs, how it tells of them, and what it does not write through."""

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.images import build_photo, encode
from thumbs.cli.inputs import list_inputs

COMMAND = (sys.executable, "-m", "thumbs", "make")
JPEG = encode(build_photo(), "JPEG")
STEERING_NAME = "cat\x1b[2J\r.jpg"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the working directory, with one decoder and no other settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("THUMBS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THUMBS_DECODERS", "1")
    return tmp_path


def make(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, timeout=60)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────


def test_outputs_never_share_a_name() -> None:
    names = ["cat.jpg", "Cat.png", "cat-2.jpg", "x/cat.webp", "https://h.example/a/cat.png?x=1", "https://h.example/"]
    stems = [str(each.stem) for each in list_inputs(names, is_recursive=False)]
    assert stems == ["cat", "Cat-2", "cat-2-2", "cat-3", "cat-4", "source"]


@pytest.mark.parametrize("path", ["/..%2f..%2fetc%2fpasswd", "/%2e%2e", "/a%00b.png", "/.ssh", "/" + "x" * 2000])
def test_name_from_a_url_stays_in_the_folder(path: str) -> None:
    [each] = list_inputs([f"https://h.example{path}"], is_recursive=False)
    assert each.stem.parent == Path()
    assert not each.stem.name.startswith(".")
    assert "\0" not in each.stem.name
    assert len(each.stem.name) <= 100


def test_name_cannot_steer_a_terminal(folder: Path) -> None:
    """An archive from somewhere may have files that are called like commands of a terminal."""
    (folder / STEERING_NAME).write_bytes(JPEG)
    ours, theirs = pty.openpty()
    done = subprocess.run([*COMMAND, STEERING_NAME], stdout=theirs, stderr=theirs, check=False, timeout=60)
    shown = os.read(ours, 64 * 1024)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, shown) == (0, b"cat [2J .thumb.jpg\r\n")


def test_name_is_told_to_a_program_as_it_is(folder: Path) -> None:
    (folder / STEERING_NAME).write_bytes(JPEG)
    assert make(STEERING_NAME).stdout == b"cat\x1b[2J\r.thumb.jpg\n"


# ── links ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pipe(folder: Path) -> int:
    """A pipe to which an output's name leads in the folder `out`: whoever may write there could have put it there."""
    (folder / "cat.jpg").write_bytes(JPEG)
    (folder / "out").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "out" / "cat.thumb.jpg").symlink_to(folder / "pipe")
    return os.open(folder / "pipe", os.O_RDWR | os.O_NONBLOCK)


def is_empty(pipe: int) -> bool:
    """Tell whether nobody wrote into the pipe, and close it."""
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return True
    finally:
        os.close(pipe)


def test_link_in_a_folder_is_an_output_that_is_there(folder: Path, pipe: int) -> None:
    """Only what was named itself is written into when it is no file, as /dev/null is."""
    done = make("cat.jpg", "-o", "out")
    assert is_empty(pipe)
    assert (done.returncode, b"output_exists" in done.stderr) == (1, True)
    assert (folder / "out" / "cat.thumb.jpg").is_symlink()


def test_link_in_a_folder_is_replaced_by_force_and_not_written_through(folder: Path, pipe: int) -> None:
    done = make("cat.jpg", "-o", "out", "--force")
    assert is_empty(pipe)
    assert (done.returncode, stat.S_ISREG((folder / "out" / "cat.thumb.jpg").lstat().st_mode)) == (0, True)
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
