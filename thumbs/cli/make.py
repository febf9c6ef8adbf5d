"""`thumbs make`: thumbnails of files, URLs and folders, without a server; for scripts, and for looking.

Here are the options and what is told: stdout is for programs (paths, JSON or the thumbnail itself), stderr for people.
`inputs` lists what there is to do, `making` does it.
"""

import dataclasses
import json
import os
import re
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from thumbs.cli.environment import NoDispatcher
from thumbs.cli.inputs import STANDARD, is_folder, list_inputs
from thumbs.cli.making import FETCH_AHEAD, Maker, Output, Result, make_all
from thumbs.cli.wire import show_text
from thumbs.domain import Fit, OutputFormat, Step, ThumbnailSpec
from thumbs.preparation import check_formats
from thumbs.services import Services, build
from thumbs.settings import read_settings

MAX_SIDE_PX: Final = 1_024
"""As in the API, and so is every default."""
DEFAULTS: Final = ThumbnailSpec()
FORMATS: Final = {
    ".jpg": OutputFormat.JPEG,
    ".jpeg": OutputFormat.JPEG,
    ".png": OutputFormat.PNG,
    ".webp": OutputFormat.WEBP,
    ".avif": OutputFormat.AVIF,
}
"""What an output's name asks for, unless --format does."""
INTERRUPTED: Final = 130
"""What a shell calls the end by Ctrl-C: 128 + SIGINT."""
CLEAR_LINE: Final = "\r\x1b[K"

_COLOR = re.compile("#[0-9a-fA-F]{6}")


def check_color(context: click.Context, parameter: click.Parameter, value: str) -> str:  # noqa: ARG001
    """Check a colour, for click."""
    if not _COLOR.fullmatch(value):
        raise click.BadParameter("Must be a colour such as #ffffff.")
    return value.lower()


@click.command(epilog="Limits, and which addresses may be reached, are settings: see `thumbs settings`.")
@click.argument("arguments", metavar="PATH_OR_URL...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="A file for one input, a folder for several; - is stdout.")
@click.option("--width", type=click.IntRange(1, MAX_SIDE_PX), default=DEFAULTS.width, show_default=True)
@click.option("--height", type=click.IntRange(1, MAX_SIDE_PX), default=DEFAULTS.height, show_default=True)
@click.option("--fit", type=click.Choice([str(fit) for fit in Fit]), default=str(DEFAULTS.fit), show_default=True)
@click.option(
    "--format",
    type=click.Choice([str(each) for each in OutputFormat]),
    help="[default: by OUT's extension, else auto: JPEG, or PNG where the source has transparent pixels]",
)
@click.option("--quality", type=click.IntRange(1, 100), default=DEFAULTS.quality, show_default=True)
@click.option("--background", metavar="#RRGGBB", default=DEFAULTS.background, show_default=True, callback=check_color)
@click.option("-f", "--force", is_flag=True, help="Write over outputs that are there; never over an input.")
@click.option("-r", "--recursive", is_flag=True, help="Take the folders in folders, too.")
@click.option("-q", "--quiet", is_flag=True, help="Tell failures only.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object per input.")
@click.option("--explain", is_flag=True, help="Tell the steps, with their times and sizes.")
def make(arguments: tuple[str, ...], **options: Any) -> None:
    """Make thumbnails of files, URLs and folders of images, without a server.

    \b
    thumbs make cat.jpg                          writes cat.thumb.jpg
    thumbs make photos/ -o small --width 320     one for each image of the folder
    thumbs make - < cat.jpg > small.jpg          as a filter
    """
    output = choose_output(arguments, options)
    spec = build_spec(options, output)
    try:
        is_well = _make(arguments, spec, output, options)
    except KeyboardInterrupt:
        # A thread may hang in a pipe that nobody writes to. Outputs are whole, or not there.
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    sys.exit(0 if is_well else 1)


def choose_output(arguments: tuple[str, ...], options: dict[str, Any]) -> Output:
    """Choose where the thumbnails go; raises UsageError."""
    if arguments.count(STANDARD) > 1:
        raise click.UsageError("- can be an input only once.")
    name, is_forced = options["output"], options["force"]
    is_single = len(arguments) == 1 and not is_folder(arguments[0])
    if name == STANDARD or (name is None and arguments == (STANDARD,)):
        _check_stdout(is_single=is_single, is_json=options["is_json"])
        return Output(file=STANDARD)
    if name is None:
        return Output(is_forced=is_forced)
    if is_single and not name.endswith("/") and not is_folder(name):
        return Output(file=name, is_forced=is_forced)
    if Path(name).exists() and not is_folder(name):
        raise click.UsageError(f"-o {name}: several inputs need a folder, and this is a file.")
    return Output(Path(name), is_forced=is_forced)


def build_spec(options: dict[str, Any], output: Output) -> ThumbnailSpec:
    """Build what is asked for; a file's extension is heard where no format is given."""
    by_name = FORMATS.get(Path(output.file).suffix.lower()) if output.file else None
    return ThumbnailSpec(
        width=options["width"],
        height=options["height"],
        fit=Fit(options["fit"]),
        format=OutputFormat(options["format"] or by_name or DEFAULTS.format),
        quality=options["quality"],
        background=options["background"],
    )


def _check_stdout(*, is_single: bool, is_json: bool) -> None:
    if not is_single:
        raise click.UsageError("Only one thumbnail can go to stdout: name a folder with -o.")
    if is_json:
        raise click.UsageError("Not both the thumbnail and --json can go to stdout: name a file with -o.")
    if sys.stdout.isatty():
        raise click.UsageError("A thumbnail is no text for a terminal: name a file with -o, or use a pipe.")


def _make(arguments: tuple[str, ...], spec: ThumbnailSpec, output: Output, options: dict[str, Any]) -> bool:
    """Make all, and tell of each; returns whether none failed."""
    began = time.monotonic()
    inputs = list_inputs(arguments, is_recursive=options["recursive"])
    report = Report(options, output, len(inputs))
    services = _build_services(len(inputs))
    try:
        services.sandbox.start()
        maker = Maker(services, spec, output, inputs)
        results = make_all(maker, inputs, threads=services.settings.decoders + FETCH_AHEAD)
        with report.bar, closing(results):
            for result in results:
                report.tell(result)
    finally:
        services.close()
    report.sum_up(time.monotonic() - began)
    return not report.counts["failed"]


def _build_services(input_count: int) -> Services:
    """Build the services, of which only outbound and sandbox are used; nothing is made, and no more than needed."""
    settings = read_settings(os.environ)
    check_formats(settings)
    decoders = max(1, min(settings.decoders, input_count))
    return build(dataclasses.replace(settings, decoders=decoders), NoDispatcher())


class Report:
    """Tells what becomes of each input, and of all."""

    def __init__(self, options: dict[str, Any], output: Output, input_count: int) -> None:
        """Take how much is to be told; the bar is for terminals, several inputs, and where nothing else is told."""
        is_several = input_count > 1
        self._is_quiet, self._is_json, self._is_explained = options["quiet"], options["is_json"], options["explain"]
        is_bar = is_several and sys.stderr.isatty() and not self._is_quiet and not self._is_explained
        is_clear = not (is_bar and sys.stdout.isatty())
        self._is_listing = is_clear and output.file != STANDARD and not self._is_quiet and not self._is_json
        self._is_summed_up = is_several and not self._is_quiet
        self._clear = CLEAR_LINE if is_bar else ""
        self.bar: Any = click.progressbar(length=input_count, file=sys.stderr, hidden=not is_bar)
        self.counts: Counter[str] = Counter()

    def tell(self, result: Result) -> None:
        """Tell of one."""
        self._count(result)
        if self._is_explained:
            click.echo("\n".join(explain(result)), err=True)
        if result.fault and not result.is_skipped and not self._is_explained:
            name = show_text(result.name)
            click.echo(f"{self._clear}{name}: {result.fault.code}: {show_text(result.fault.message)}", err=True)
        if self._is_json and not result.is_skipped:
            click.echo(json.dumps(describe(result)))
        if self._is_listing and result.output:
            click.echo(show_text(str(result.output)) if sys.stdout.isatty() else os.fsencode(result.output))
        self.bar.update(1)

    def sum_up(self, seconds: float) -> None:
        """Tell of all."""
        if self._is_summed_up:
            told = f"{self.counts['made']} made, {self.counts['failed']} failed"
            skipped = f", {self.counts['skipped']} skipped (unsupported_format)" if self.counts["skipped"] else ""
            click.echo(f"{told}{skipped}, in {seconds:.1f} s", err=True)

    def _count(self, result: Result) -> None:
        if result.is_skipped:
            self.counts["skipped"] += 1
        else:
            self.counts["failed" if result.fault else "made"] += 1


def describe(result: Result) -> dict[str, Any]:
    """Describe what became of an input as JSON has it; the facts are called as in a job."""
    made = dataclasses.asdict(result.thumbnail) if result.thumbnail else {}
    fault = result.fault
    return {
        "input": result.name,
        "output": str(result.output) if result.output else None,
        **made,
        "source": result.source and dataclasses.asdict(result.source),
        "timings_ms": result.timings_ms,
        "error": fault and {"code": fault.code, "message": fault.message},
    }


def explain(result: Result) -> list[str]:
    """Explain what became of an input, step by step."""
    sizes = _list_sizes(result)
    lines = [show_text(result.name)]
    for name, ms in result.timings_ms.items():
        lines.append(_explain_step(f"  {name}", ms, sizes.get(name, "")))
        if name == "decoded":
            lines += [_explain_step(f"    {step.name}", step.ms, _tell_size(step)) for step in result.steps]
    return [*lines, *_explain_fault(result)]


def _explain_step(name: str, ms: float, size: str) -> str:
    return f"{name:18} {ms:9,.1f} ms  {size}".rstrip()


def _tell_size(step: Step) -> str:
    return f"{step.width}x{step.height}" if step.width else ""


def _list_sizes(result: Result) -> dict[str, str]:
    source, made = result.source, result.thumbnail
    sizes = {"fetched": f"{result.source_bytes:,} bytes" if result.source_bytes is not None else ""}
    if source and made:
        shown = f"{made.content_type} {made.width}x{made.height}"
        sizes["decoded"] = f"{source.content_type} {source.width}x{source.height} → {shown}"
        sizes["stored"] = f"{made.bytes:,} bytes in {show_text(str(result.output))}"
    return sizes


def _explain_fault(result: Result) -> list[str]:
    if result.fault is None:
        return []
    detail = f" ({show_text(result.fault.detail)})" if result.fault.detail else ""
    ended = "skipped" if result.is_skipped else "failed"
    return [f"  {ended} {result.fault.code}: {show_text(result.fault.message)}{detail}"]
