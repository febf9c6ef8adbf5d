"""Reads the code blocks of our pages."""

import re

from tests.support.stack import ROOT


def read_page(name: str) -> str:
    """Read a page of the documentation."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def list_blocks(page: str, language: str) -> list[str]:
    """List a page's fenced blocks of a language; "" is none."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", read_page(page), re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


def read_files(page: str) -> dict[str, str]:
    """Read the Python files that a page prints: blocks that begin with a comment that names them."""
    named = (re.match(r"# (\w+\.py)\n", block) for block in list_blocks(page, "python"))
    return {match[1]: match.string for match in named if match}
