"""What `thumbs make` makes thumbnails of: files, URLs and the files of folders, each with a name for its output.

`make` lists them before the first is read. Whether a file is an image is for the decoder to say.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

STANDARD: Final = "-"
"""Standard input as an input, standard output as the output."""
SUFFIX: Final = ".thumb"
"""Stands before an output's extension; what has it already is not taken for an input when a folder is searched."""
MAX_STEM_CHARS: Final = 100

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+|^\.+")


@dataclass(frozen=True, slots=True)
class Input:
    """What a thumbnail is made of; `stem` names its output, `is_found` says that it was not typed but in a folder."""

    name: str
    stem: Path
    is_found: bool = False


def list_inputs(arguments: Sequence[str], *, is_recursive: bool) -> list[Input]:
    """List what was typed, with the files of folders in their place; no two outputs get the same name."""
    used: dict[str, int] = {}  # The last number of each name.
    found = (each for argument in arguments for each in _list_inputs(argument, is_recursive))
    return [Input(each.name, _make_unique(each.stem, used), each.is_found) for each in found]


def is_url(argument: str) -> bool:
    """Tell whether an argument is to be fetched."""
    return _URL.match(argument) is not None


def is_folder(argument: str) -> bool:
    """Tell whether an argument is a folder that can be looked at; nothing at all is none, though Path says so."""
    with suppress(OSError, ValueError):
        return argument != "" and Path(argument).is_dir()
    return False


def _list_inputs(argument: str, is_recursive: bool) -> Iterator[Input]:
    if argument == STANDARD:
        yield Input(argument, Path("stdin"))
    elif is_url(argument):
        yield Input(argument, Path(_name_after_url(argument)))
    elif is_folder(argument):
        yield from _search(Path(argument), Path(), is_recursive)
    else:
        yield Input(argument, Path(Path(argument).stem or "source"))


def _search(top: Path, below: Path, is_recursive: bool) -> Iterator[Input]:
    """Find the files of a folder, sorted, none that is hidden and none that we made; links to folders are left out."""
    try:
        paths = sorted((top / below).iterdir())
    except OSError:
        yield Input(str(top / below), below / "folder")  # Fails when it is read, and says why.
        return
    for path in paths:
        if path.name.startswith(".") or path.stem.endswith(SUFFIX):
            continue
        if not is_folder(str(path)):
            yield from _list_file(path, below)
        elif is_recursive and not path.is_symlink():
            yield from _search(top, below / path.name, is_recursive)


def _list_file(path: Path, below: Path) -> Iterator[Input]:
    """List a file; pipes, sockets and devices are left out, which might be read for ever."""
    with suppress(OSError):
        if path.is_file():
            yield Input(str(path), below / path.stem, is_found=True)


def _name_after_url(url: str) -> str:
    with suppress(ValueError):
        stem = Path(unquote(urlsplit(url).path)).stem
        return _NOT_IN_NAMES.sub("_", stem)[:MAX_STEM_CHARS] or "source"
    return "source"


def _make_unique(stem: Path, used: dict[str, int]) -> Path:
    """Number a name that is used already: cat, cat-2, cat-3. Some file systems do not tell Cat from cat."""
    unique, number = stem, used.get(str(stem).casefold(), 1)
    while str(unique).casefold() in used:
        number += 1
        unique = stem.with_name(f"{stem.name}-{number}")
    used[str(stem).casefold()] = number
    used.setdefault(str(unique).casefold(), 1)
    return unique
