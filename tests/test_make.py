"""`thumbs make` on real files, a real server and real decoders: what it writes, what it tells, and how it ends."""

import hashlib
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import click
import psutil
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.docs.pages import read_page
from tests.support.decoders import list_decoders, wait_until
from tests.support.exchanges import Exchange, Reply
from tests.support.images import RED, build_photo, encode
from tests.support.servers import SourceServer
from thumbs import __version__
from thumbs.cli import main
from thumbs.cli.make import make
from thumbs.cli.making import InputError
from thumbs.domain import Thumbnail
from thumbs.settings import list_settings
from thumbs.web.schemas.jobs import JobRequestSchema

MIB = 1024 * 1024
JPEG = encode(build_photo(), "JPEG")
PNG = encode(build_photo(), "PNG")
LOOPBACK = {"THUMBS_ALLOW_CIDRS": "127.0.0.0/8"}
COMMAND = (sys.executable, "-m", "thumbs", "make")

Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Run `thumbs make` in the folder, with one decoder and just the settings of this test."""
    unset: dict[str, str | None] = {setting.variable: None for setting in list_settings().values()}

    def run(*arguments: object, stdin: bytes = b"", **variables: str) -> Result:
        environ = {**unset, "THUMBS_DECODERS": "1", **variables}
        return CliRunner().invoke(main, ["make", *map(str, arguments)], input=stdin, env=environ)

    return run


@pytest.fixture
def source() -> Iterator[SourceServer]:
    """A server of sources on this machine."""
    with SourceServer() as server:
        yield server


def clean_environ(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")} | variables


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write_files(folder: Path, **bodies: bytes) -> None:
    """Write files; `__` in a name stands for the dot."""
    for name, body in bodies.items():
        (folder / name.replace("__", ".")).write_bytes(body)


# ── outputs ─────────────────────────────────────────────────────────────────────────────────────────────


def test_thumbnail_is_written_to_the_working_directory_and_nothing_else_is(run: Run, folder: Path) -> None:
    """No data directory, no ledger; and the file can be read by whom a new file can."""
    (folder / "photos").mkdir()
    (folder / "photos" / "cat.jpg").write_bytes(JPEG)
    result = run("photos/cat.jpg")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "cat.thumb.jpg\n", "")
    assert list_files(folder) == ["cat.thumb.jpg", "photos/cat.jpg"]
    assert (folder / "cat.thumb.jpg").stat().st_mode == (folder / "photos/cat.jpg").stat().st_mode
    with Image.open("cat.thumb.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (100, 100))


def test_options_are_those_of_a_job(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG)
    size = ("--width", 60, "--height", 90)
    result = run("cat.jpg", *size, "--fit", "contain", "--format", "jpeg", "--background", "#FF0000", "--quality", 95)
    assert result.stdout == "cat.thumb.jpg\n"
    with Image.open("cat.thumb.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (60, 90))
        assert image.getpixel((0, 0)) == pytest.approx(RED, abs=5)
    assert len(run("cat.jpg", "-o", "-", *size, "--quality", 1).stdout_bytes) < Path("cat.thumb.jpg").stat().st_size


@pytest.mark.parametrize("name", ["width", "height", "fit", "format", "quality", "background"])
def test_option_has_the_default_and_the_bounds_of_the_api(name: str) -> None:
    field = JobRequestSchema().fields[name]
    [option] = [each for each in make.params if each.name == name]
    assert (option.default if name != "format" else "auto") == field.load_default
    for validator in field.validators:
        for bound in ("min", "max"):
            assert getattr(option.type, bound, None) == getattr(validator, bound, None)
        if isinstance(option.type, click.Choice):
            assert list(option.type.choices) == validator.choices  # type: ignore[attr-defined]


def test_output_may_be_a_file_whose_extension_is_heard(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG)
    assert run("cat.jpg", "-o", "new/small.webp").stdout == "new/small.webp\n"
    with Image.open("new/small.webp") as image:
        assert image.format == "WEBP"
    assert run("cat.jpg", "-o", "as-told.webp", "--format", "png").exit_code == 0
    with Image.open("as-told.webp") as image:
        assert image.format == "PNG"


def test_output_that_is_there_is_written_over_only_by_force(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG, small__jpg=b"mine")
    refused = run("cat.jpg", "-o", "small.jpg")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "cat.jpg: output_exists: small.jpg is there already; --force writes over it.\n"
    assert (folder / "small.jpg").read_bytes() == b"mine"
    assert run("cat.jpg", "-o", "small.jpg", "--force").exit_code == 0
    assert (folder / "small.jpg").read_bytes().startswith(b"\xff\xd8")
    assert list_files(folder) == ["cat.jpg", "small.jpg"]


def test_input_is_never_written_over(run: Run, folder: Path) -> None:
    """Not by force, not by another name, and not by the thumbnail of another input."""
    write_files(folder, cat__jpg=JPEG, cat__thumb__jpg=JPEG)
    (folder / "link.jpg").hardlink_to(folder / "cat.jpg")
    assert "output_exists" in run("cat.jpg", "-o", "link.jpg", "--force").stderr
    assert "output_exists" in run("cat.jpg", "cat.thumb.jpg", "--force").stderr
    assert (folder / "cat.jpg").read_bytes() == (folder / "cat.thumb.jpg").read_bytes() == JPEG


def test_output_that_cannot_be_written_is_told(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG)
    result = run("cat.jpg", "-o", "cat.jpg/small.jpg")
    assert result.stderr == "cat.jpg: output_unwritable: cat.jpg/small.jpg cannot be written: Not a directory.\n"
    assert (result.exit_code, list_files(folder)) == (1, ["cat.jpg"])


def test_pipe_is_written_into_and_stays_a_pipe(run: Run, folder: Path) -> None:
    """As /dev/null does: replaced by a file, it would be gone for everybody."""
    write_files(folder, cat__jpg=JPEG)
    os.mkfifo(folder / "pipe")
    bodies: list[bytes] = []
    reader = threading.Thread(target=lambda: bodies.append((folder / "pipe").read_bytes()), daemon=True)
    reader.start()
    assert run("cat.jpg", "-o", "pipe").exit_code == 0
    reader.join(10)
    assert bodies[0].startswith(b"\xff\xd8")
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


def test_stdin_goes_to_stdout(run: Run, folder: Path) -> None:
    result = run("-", "--width", 40, stdin=JPEG)
    with Image.open(BytesIO(result.stdout_bytes)) as image:
        assert (image.format, image.size) == ("JPEG", (40, 100))
    assert (result.exit_code, result.stderr, list_files(folder)) == (0, "", [])


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────────────


def test_each_failure_is_one_line_and_the_others_are_done(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG, cat__eps=b"%!PS-Adobe", empty__jpg=b"", cut__jpg=JPEG[:700], dog__png=PNG)
    result = run("cat.jpg", "cat.eps", "empty.jpg", "cut.jpg", "gone\n.jpg", "", "dog.png", "-o", "small")
    assert (result.exit_code, result.stdout) == (1, "small/cat.thumb.jpg\nsmall/dog.thumb.jpg\n")
    *failures, summary = result.stderr.splitlines()
    assert failures == [
        "cat.eps: unsupported_format: The source is not an image in a supported format.",
        "empty.jpg: source_empty: The source is empty.",
        "cut.jpg: image_corrupt: The image is damaged or cut short.",
        "gone .jpg: source_unreadable: The source cannot be read: No such file or directory.",
        ": source_unreadable: The source cannot be read: Is a directory.",
    ]
    assert summary.startswith("2 made, 5 failed, in ")


def test_folder_is_searched_for_images_by_content(run: Run, folder: Path) -> None:
    """A file that is too large is told when it is an image; what we made, what is hidden and folders are left out."""
    (folder / "in" / "sub").mkdir(parents=True)
    big = encode(Image.effect_noise((300, 300), 90), "PNG")
    small = encode(Image.new("RGB", (20, 20)), "PNG")
    write_files(folder / "in", a__txt=small, big__png=big, film__mp4=b"\0" * 2 * len(big), notes__md=b"# Cats")
    write_files(folder / "in", b__thumb__png=small, __hidden__png=small)
    write_files(folder / "in" / "sub", a__png=small)
    result = run("in", "-o", "out", THUMBS_MAX_SOURCE_BYTES=str(len(big) - 1))
    assert (result.exit_code, result.stdout) == (1, "out/a.thumb.jpg\n")
    assert result.stderr.splitlines()[0] == "in/big.png: source_too_large: The source has more bytes than the limit."
    assert result.stderr.splitlines()[1].startswith("1 made, 1 failed, 2 skipped (unsupported_format), in ")


def test_folders_in_folders_are_taken_when_asked_for(run: Run, folder: Path) -> None:
    (folder / "in" / "sub").mkdir(parents=True)
    write_files(folder / "in", a__png=PNG)
    write_files(folder / "in" / "sub", a__png=PNG)
    result = run("in", "-r", "-o", "out")
    assert result.stdout.splitlines() == ["out/a.thumb.jpg", "out/sub/a.thumb.jpg"]


def test_file_of_a_folder_is_never_taken_for_stdin(run: Run, folder: Path) -> None:
    (folder / "-").write_bytes(PNG)
    assert run(".").stdout == "-.thumb.jpg\n"


# ── URLs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_url_is_fetched_as_the_worker_does(run: Run, source: SourceServer) -> None:
    url = source.serve("/cat.jpg", JPEG)
    result = run(url, source.url("/gone.jpg"), **LOOPBACK)
    assert (result.exit_code, result.stdout) == (1, "cat.thumb.jpg\n")
    assert result.stderr.splitlines()[0] == (
        f"{source.url('/gone.jpg')}: source_http_error: The source answered with an HTTP error."
    )
    assert {request.headers["user-agent"] for request in source.requests} == {f"thumbs/{__version__}"}


def test_url_is_refused_by_policy(run: Run, source: SourceServer) -> None:
    result = run(source.serve("/cat.jpg", JPEG), "file:///etc/passwd", "http://169.254.169.254/")
    codes = [line.split(": ")[1] for line in result.stderr.splitlines()[:-1]]
    assert (result.exit_code, codes) == (1, ["url_not_allowed"] * 3)
    assert source.requests == []


def test_more_urls_than_a_host_has_slots_wait_for_their_turn(run: Run, source: SourceServer) -> None:
    def answer(exchange: Exchange) -> None:
        time.sleep(0.3)
        exchange.reply(Reply(200, JPEG, {"Content-Type": "image/jpeg"}))

    urls = [source.script(f"/{number}.jpg", answer) for number in range(2)]
    result = run(*urls, THUMBS_FETCH_MAX_PER_HOST="1", **LOOPBACK)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────


def test_json_has_an_object_for_each_input(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG)
    result = run("cat.jpg", "gone.jpg", "--json", "--width", 50)
    made, failed = map(json.loads, result.stdout.splitlines())
    body = (folder / "cat.thumb.jpg").read_bytes()
    facts = {"input": "cat.jpg", "output": "cat.thumb.jpg", "content_type": "image/jpeg", "width": 50, "height": 100}
    assert made.items() >= (facts | {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}).items()
    assert made["source"] == {"content_type": "image/jpeg", "width": 320, "height": 240, "bytes": len(JPEG)}
    assert list(made["timings_ms"]) == ["fetched", "decoded", "stored"]
    assert made.keys() - failed.keys() == {each.name for each in fields(Thumbnail)}
    assert (failed["input"], failed["output"], failed["error"]["code"]) == ("gone.jpg", None, "source_unreadable")


def test_steps_are_explained_with_times_and_sizes(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG, cat__eps=b"%!PS-Adobe")
    result = run("cat.jpg", "cat.eps", "--explain", "--quiet")
    lines = [line.split() for line in result.stderr.splitlines() if not line.startswith("    ")]
    assert [line[0] for line in lines[:5]] == ["cat.jpg", "fetched", "decoded", "stored", "cat.eps"]
    assert lines[1][2:] == ["ms", f"{len(JPEG):,}", "bytes"]
    assert lines[2][2:] == ["ms", "image/jpeg", "320x240", "→", "image/jpeg", "100x100"]
    assert lines[3][-2:] == ["in", "cat.thumb.jpg"]
    assert result.stderr.endswith("supported format. (no known signature)\n")


def test_steps_of_the_decoder_are_explained_within_it(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG)
    lines = run("cat.jpg", "--explain").stderr.splitlines()
    steps = [line for line in lines if line.startswith("    ")]
    assert lines[lines.index(steps[0]) - 1].startswith("  decoded")
    assert [step[4:18].strip() for step in steps] == [
        *("sniff", "measure", "open", "admit", "shrink on load"),
        *("average", "convert colour", "shrink", "orient", "fit", "flatten", "encode", "describe"),
    ]
    assert steps[2].endswith("320x240")
    assert steps[-1].endswith("100x100")


def test_quiet_tells_failures_only(run: Run, folder: Path) -> None:
    write_files(folder, cat__jpg=JPEG)
    result = run("cat.jpg", "gone.jpg", "--quiet")
    assert (result.stdout, len(result.stderr.splitlines())) == ("", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument"),
        (["cat.jpg", "--width", "0"], "1<=x<=1024"),
        (["cat.jpg", "--height", "1025"], "1<=x<=1024"),
        (["cat.jpg", "--quality", "101"], "1<=x<=100"),
        (["cat.jpg", "--fit", "crop"], "'cover', 'contain', 'fill', 'inside'"),
        (["cat.jpg", "--format", "gif"], "'auto', 'jpeg', 'png', 'webp', 'avif'"),
        (["cat.jpg", "--background", "red"], "Must be a colour such as #ffffff."),
        (["-", "-"], "only once"),
        (["cat.jpg", "dog.jpg", "-o", "-"], "Only one thumbnail"),
        ([".", "-o", "-"], "Only one thumbnail"),
        (["-", "--json"], "--json"),
        (["cat.jpg", "dog.jpg", "-o", "cat.jpg"], "several inputs need a folder"),
    ],
)
def test_what_is_typed_wrong_ends_with_2_and_a_hint(run: Run, folder: Path, arguments: list[str], words: str) -> None:
    write_files(folder, cat__jpg=JPEG)
    result = run(*arguments)
    assert (result.exit_code, result.stdout, list_files(folder)) == (2, "", ["cat.jpg"])
    assert words in result.stderr.splitlines()[-1]
    assert "Try 'main make --help' for help." in result.stderr


def test_setting_that_is_wrong_ends_with_1_and_a_line(run: Run, folder: Path) -> None:
    result = run("cat.jpg", THUMBS_MAX_PIXELS="many")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: THUMBS_MAX_PIXELS='many'")


def test_page_has_every_option_and_code() -> None:
    page = read_page("make.md")
    options = [name for option in make.params if isinstance(option, click.Option) for name in option.opts]
    assert [name for name in options if f"`{name}`" not in page and f"`{name} OUT`" not in page] == []
    assert [error.code for error in InputError.__subclasses__() if f"| `{error.code}` |" not in page] == []


# ── as a process ────────────────────────────────────────────────────────────────────────────────────────


def test_bar_is_shown_on_a_terminal(folder: Path) -> None:
    """A failure clears the bar's line for its own; a thumbnail is not written to a terminal."""
    write_files(folder, cat__jpg=JPEG, dog__jpg=JPEG)
    ours, theirs = pty.openpty()
    environ = clean_environ(TERM="xterm", THUMBS_DECODERS="1")
    with subprocess.Popen([*COMMAND, "cat.jpg", "gone.jpg"], env=environ, stdout=theirs, stderr=theirs) as process:
        status = process.wait(30)
    refused = subprocess.run([*COMMAND, "cat.jpg", "-o", "-"], env=environ, stdout=theirs, stderr=theirs, check=False)
    shown = os.read(ours, 64 * 1024).decode()
    os.close(ours)
    os.close(theirs)
    assert (status, refused.returncode) == (1, 2)
    assert "[####" in shown
    assert "100%" in shown
    assert "\r\x1b[Kgone.jpg: source_unreadable" in shown
    assert "no text for a terminal" in shown
    assert "cat.thumb.jpg" not in shown  # Paths are for programs; here they would tear the bar apart.


def test_output_is_there_as_a_whole_or_not_at_all(folder: Path) -> None:
    """Here no file may have more than 1 kB, as if the disk were full."""
    write_files(folder, cat__jpg=JPEG, small__png=b"mine")
    command = f"ulimit -f 1; exec {' '.join(COMMAND)} cat.jpg -o small.png --force --width 320 --height 320"
    done = subprocess.run(["bash", "-c", command], env=clean_environ(), capture_output=True, text=True, check=False)
    assert done.stderr == "cat.jpg: output_unwritable: small.png cannot be written: File too large.\n"
    assert (done.returncode, list_files(folder)) == (1, ["cat.jpg", "small.png"])
    assert (folder / "small.png").read_bytes() == b"mine"


def test_interrupt_ends_it_at_once_and_leaves_only_whole_files(folder: Path, source: SourceServer) -> None:
    """Ctrl-C goes to the whole group; one input hangs in a fetch, and one in a pipe that nobody writes to."""
    write_files(folder, cat__jpg=JPEG)
    os.mkfifo(folder / "pipe")
    hanging = source.script("/hanging.jpg", Exchange.wait)
    environ = clean_environ(**LOOPBACK, THUMBS_DECODERS="1")
    arguments = [*COMMAND, "cat.jpg", hanging, "pipe", "-o", "out"]
    with subprocess.Popen(arguments, env=environ, stderr=subprocess.PIPE, start_new_session=True) as process:
        source.wait_for(1, 30)
        wait_until((folder / "out" / "cat.thumb.jpg").exists, 30)
        children = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, b"")
    assert time.monotonic() - began < 10  # The fetch alone would take 20 s.
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert list_files(folder / "out") == ["cat.thumb.jpg"]


def test_many_photos_use_every_decoder_and_little_memory(folder: Path) -> None:
    """60 sources of 5 MiB: held all at once, they would be 300 MiB."""
    write_files(folder, photo__bmp=encode(build_photo(1400, 1250), "BMP"))
    (folder / "in").mkdir()
    for number in range(60):
        (folder / "in" / f"{number:02}.bmp").hardlink_to(folder / "photo.bmp")
    peak_bytes = 0
    first_seconds: dict[int, float] = {}
    last_seconds: dict[int, float] = {}
    with subprocess.Popen([*COMMAND, "in", "-q", "-o", "out"], env=clean_environ(THUMBS_DECODERS="2")) as process:
        while process.poll() is None:
            with suppress(psutil.Error):
                peak_bytes = max(peak_bytes, psutil.Process(process.pid).memory_info().rss)
                if len(list_files(folder / "out")) >= 5:
                    last_seconds |= {each.pid: each.cpu_times().user for each in list_decoders(process.pid)}
                    first_seconds = last_seconds | first_seconds
            time.sleep(0.01)
    assert (process.returncode, len(list_files(folder / "out"))) == (0, 60)
    assert [last_seconds[pid] > first_seconds[pid] for pid in first_seconds] == [True, True]
    assert peak_bytes < 220 * MIB
