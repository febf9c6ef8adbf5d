"""The corpus: real photographs, PngSuite and broken files. It is no part of the repository; THUMBS_CORPUS names it."""

import csv
import os
from pathlib import Path

import pytest

CORPUS = Path(os.environ.get("THUMBS_CORPUS", Path(__file__).parents[2].parent / "shared" / "corpus"))


def list_manifest() -> list[dict[str, str]]:
    """List the files with what is expected of each; nothing without the corpus."""
    manifest = CORPUS / "MANIFEST.tsv"
    if not manifest.exists():
        return []
    with manifest.open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


ROWS = list_manifest()
needs_corpus = pytest.mark.skipif(not ROWS, reason=f"no corpus at {CORPUS}; set THUMBS_CORPUS")
