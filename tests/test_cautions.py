"""What is warned of at the start, and what is not."""

import pytest

from thumbs.cautions import list_cautions
from thumbs.cli.up import DEVELOPMENT_DEFAULTS
from thumbs.settings import read_settings


def test_defaults_need_no_caution() -> None:
    assert list_cautions(read_settings({})) == []


def test_developer_alone_on_loopback_needs_no_caution() -> None:
    """`thumbs up` says nothing at every start: nobody reads what is always said."""
    assert list_cautions(read_settings(DEVELOPMENT_DEFAULTS)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "thumbs.internal"])
def test_open_door_is_told_with_its_address(host: str) -> None:
    (caution,) = list_cautions(read_settings({"THUMBS_AUTH": "off", "THUMBS_HOST": host, "PORT": "8123"}))
    assert caution.startswith(f"THUMBS_AUTH=off on THUMBS_HOST={host}: ")
    assert "8123" in caution
    assert "THUMBS_AUTH=required" in caution


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_networks_that_are_not_public_are_told(host: str) -> None:
    """Also on loopback, as soon as others come in through a proxy, with keys."""
    environ = {"THUMBS_ALLOW_CIDRS": "10.0.0.0/8, fd00::/8", "THUMBS_HOST": host}
    (caution,) = list_cautions(read_settings(environ))
    assert caution.startswith("THUMBS_ALLOW_CIDRS=10.0.0.0/8,fd00::/8: ")
    assert "Unset it" in caution


def test_both_are_told_each_in_a_line() -> None:
    cautions = list_cautions(read_settings({"THUMBS_AUTH": "off", "THUMBS_ALLOW_CIDRS": "10.0.0.0/8"}))
    assert len(cautions) == 2
    assert not any("\n" in caution for caution in cautions)
