"""Every setting is documented, from the code, with its unit and its default."""

import pytest

from tests.guards.sources import ROOT, read_page
from thumbs.cli.settings import render_markdown
from thumbs.settings import list_settings
from thumbs.variables import Setting

UNITS = ("_bytes", "_seconds", "_days")
SETTINGS = list_settings()


def test_page_is_the_one_that_the_code_makes() -> None:
    """`make docs` writes it."""
    assert read_page("docs/settings.md") == render_markdown()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.variable)
def test_setting_is_documented(setting: Setting) -> None:
    assert f"`{setting.variable}`" in read_page("docs/settings.md") + read_page("README.md")


def test_readme_leads_to_the_page() -> None:
    assert "docs/settings.md" in read_page("README.md")


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.endswith(UNITS)])
def test_variable_ends_with_its_unit(name: str) -> None:
    assert SETTINGS[name].variable.endswith(name.upper())


def test_every_variable_that_is_named_in_the_documents_exists() -> None:
    """A page must not promise a setting that was renamed."""
    known = {setting.variable for setting in SETTINGS.values()}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    words = {word.strip("`.,;:()[]…|'\"") for page in pages for word in page.read_text(encoding="utf-8").split()}
    told = {word.partition("=")[0].strip("`") for word in words if word.startswith("THUMBS_")}
    assert {name for name in told if name.isidentifier()} - known == set()
