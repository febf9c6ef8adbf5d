"""Which jobs ask for the same, and what an answer's headers say of its use: RFC 9111, read as a cache has to."""

from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from tests.support.builders import NOW
from thumbs.domain import Caching, Fit, ThumbnailSpec
from thumbs.errors import (
    DecoderCrashed,
    DecoderTimeout,
    Expired,
    ImageCorrupt,
    ImageTooLarge,
    JobError,
    RenderFailed,
    SourceForbidden,
    SourceHttpError,
    SourceTimeout,
    StorageUnavailable,
    WorkerLost,
)
from thumbs.reuse import MAX_FRESH_SECONDS, is_lasting, name_source, name_work, pass_on, read_caching

URL = "https://img.example/cat.jpg"
SPEC = ThumbnailSpec()


def tell(seconds: float) -> str:
    """Write the moment that many seconds from now as headers do."""
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


def read(**headers: str) -> Caching:
    """Read headers as a private cache; `cache_control` is Cache-Control."""
    return read_caching(URL, name_headers(headers), NOW, is_shared=False)


def read_as_shared(**headers: str) -> Caching:
    """Read them as a shared one."""
    return read_caching(URL, name_headers(headers), NOW, is_shared=True)


def name_headers(headers: dict[str, str]) -> CaseInsensitiveDict[str]:
    return CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scope", "source", "spec", "variants"),
    [
        ("acct_2", URL, SPEC, {}),
        ("acct_1", URL + "?v=2", SPEC, {}),
        ("acct_1", URL, replace(SPEC, fit=Fit.FILL), {}),
        ("acct_1", URL, SPEC, {"big": SPEC}),
    ],
    ids=["account", "source", "spec", "variants"],
)
def test_work_of_another_kind_has_another_name(scope: str, source: str, spec: Any, variants: Any) -> None:
    assert name_work(scope, source, spec, variants) != name_work("acct_1", URL, SPEC, {})


def test_same_work_has_the_same_name() -> None:
    variants = {"a": SPEC, "b": replace(SPEC, width=7)}
    backwards = dict(reversed(variants.items()))
    assert name_work("", URL, SPEC, variants) == name_work("", URL, ThumbnailSpec(), backwards)


def test_source_has_a_name_within_its_scope() -> None:
    assert len({name_source(scope, url) for scope in ("", "acct_1") for url in (URL, URL + "?")}) == 4


# ── freshness ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"cache_control": "max-age=600"}, 600),
        ({"cache_control": "public, MAX-AGE=600"}, 600),
        ({"cache_control": 'max-age="600"'}, 600),
        ({"cache_control": "max-age=600, max-age=7"}, 600),
        ({"cache_control": 'private="x, max-age=9", max-age=600'}, 600),
        ({"cache_control": "max-age=600", "age": "100"}, 500),
        ({"cache_control": "max-age=600", "date": tell(-200)}, 400),
        ({"cache_control": "max-age=600", "age": "100", "date": tell(-200)}, 400),
        ({"cache_control": "max-age=600", "date": tell(3_600)}, 600),
        ({"cache_control": "max-age=600", "age": "700"}, 0),
        ({"cache_control": "max-age=600", "age": "x"}, 600),
        ({"cache_control": "max-age=600, no-cache"}, 0),
        ({"cache_control": "max-age=-5"}, 0),
        ({"cache_control": "max-age=soon"}, 0),
        ({"cache_control": "max-age"}, 0),
        ({"cache_control": "max-age=" + "9" * 400}, MAX_FRESH_SECONDS),
        ({"cache_control": "s-maxage=600"}, 0),
        ({"expires": tell(600), "date": tell(0)}, 600),
        ({"expires": tell(-600), "date": tell(0)}, 0),
        ({"expires": "0", "date": tell(0)}, 0),
        ({"expires": tell(600)}, 0),
        ({"expires": tell(600), "date": tell(0), "cache_control": "max-age=5"}, 5),
        ({"expires": "Fri, 31 Dec 9999 23:59:59 GMT", "date": tell(0)}, MAX_FRESH_SECONDS),
        ({"last_modified": tell(-1_000_000)}, 0),
    ],
)
def test_answer_is_fresh_for_as_long_as_it_says(headers: dict[str, str], seconds: float) -> None:
    """RFC 9111 sections 4.2.1 to 4.2.3; what nothing is said of is not guessed."""
    assert read(**headers).fresh_seconds == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize("headers", [{"cache_control": "no-store"}, {"cache_control": "No-Store=x"}, {"vary": "*"}])
def test_answer_that_is_not_to_be_stored_is_not_kept(headers: dict[str, str]) -> None:
    assert not read(**headers).may_keep


@pytest.mark.parametrize("headers", [{}, {"cache_control": "no-cache, private"}, {"vary": "Accept"}])
def test_other_answers_are_kept(headers: dict[str, str]) -> None:
    """We always send the same headers, so what varies by them is the same."""
    assert read(**headers).may_keep


def test_shared_cache_keeps_nothing_private_and_hears_s_maxage() -> None:
    private = read_as_shared(cache_control="private, max-age=600")
    assert (private.may_keep, private.is_private) == (False, True)
    assert read_as_shared(cache_control="s-maxage=7, max-age=600").fresh_seconds == 7
    assert read(cache_control="s-maxage=7, max-age=600").fresh_seconds == 600


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"', '""', '"!#~"'])
def test_etag_is_kept_as_it_came(etag: str) -> None:
    assert read(etag=etag).etag == etag


@pytest.mark.parametrize("etag", ["a", '"a', '"a"b"', '"é"', '"a b"', '"' + "x" * 2_000 + '"', "*"])
def test_etag_that_cannot_be_sent_back_is_none(etag: str) -> None:
    """RFC 9110 section 8.8.3."""
    assert read(etag=etag).etag is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (tell(-5), tell(-5)),
        (tell(0), None),
        (tell(60), None),
        (tell(-5) + " " + "x" * 300, tell(-5)),
        (tell(-5) + "\0", tell(-5)),
        ("Mon, 23 Nov 2026 12:00:00 +0200", "Mon, 23 Nov 2026 10:00:00 GMT"),
        ("yesterday", None),
        ("99999999999:00:00", None),
    ],
)
def test_last_modified_is_kept_when_it_is_a_date(text: str, kept: str | None) -> None:
    assert read(last_modified=text).last_modified == kept


def test_source_behind_a_redirect_is_as_fresh_as_the_older_of_the_two() -> None:
    redirect = Caching("https://a.example/", fresh_seconds=5)
    target = Caching("https://b.example/", fresh_seconds=600, etag='"a"')
    assert pass_on(redirect, target) == replace(target, fresh_seconds=5)
    assert not pass_on(replace(redirect, may_keep=False), target).may_keep


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "error",
    [
        SourceHttpError(source_status=404),
        ImageCorrupt(),
        ImageTooLarge(),
        DecoderTimeout(),
        DecoderCrashed(),
        SourceForbidden(),
    ],
    ids=lambda error: error.code,
)
def test_failure_that_will_come_again_is_lasting(error: JobError) -> None:
    assert is_lasting(error)


@pytest.mark.parametrize(
    "error",
    [
        SourceHttpError(source_status=503),
        SourceTimeout(),
        RenderFailed(),
        StorageUnavailable(),
        WorkerLost(),
        Expired(),
    ],
    ids=lambda error: error.code,
)
def test_failure_that_may_pass_or_is_not_the_sources_is_not_lasting(error: JobError) -> None:
    assert not is_lasting(error)
