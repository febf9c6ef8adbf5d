"""Asking whether a source has changed: with what its own server gave, at the URL that gave it, and nowhere else."""

import pytest

from tests.support.builders import NOW
from tests.support.exchanges import Exchange, Reply
from tests.support.outbound import IMAGE, Build
from tests.support.servers import SourceServer
from thumbs.domain import Caching, Result
from thumbs.errors import SourceHttpError
from thumbs.outbound import Outbound

ETAG = '"v1"'
MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"


def serve(source: SourceServer, path: str = "/image", **headers: str) -> str:
    """Serve an image that is unchanged for whoever names its ETag or date."""

    def answer(exchange: Exchange) -> None:
        asked = exchange.request.headers
        is_known = asked.get("if-none-match") == ETAG or asked.get("if-modified-since") == MODIFIED
        exchange.reply(Reply(304, b"", headers) if is_known else Reply(200, IMAGE, {"ETag": ETAG, **headers}))

    return source.script(path, answer)


def see(url: str, etag: str | None = ETAG, last_modified: str | None = None) -> Result:
    return Result("key", "job_0", url, etag, last_modified, NOW)


def test_fetch_tells_what_the_answer_says_of_caches(outbound: Outbound, source: SourceServer) -> None:
    url = serve(source, **{"Cache-Control": "max-age=60", "Last-Modified": MODIFIED})
    fetched = outbound.fetch(url)
    assert fetched.body == IMAGE
    assert fetched.caching == Caching(url, fresh_seconds=60, etag=ETAG, last_modified=MODIFIED)


@pytest.mark.parametrize(("etag", "modified"), [(ETAG, None), (None, MODIFIED), (ETAG, MODIFIED)])
def test_source_that_is_as_it_was_seen_is_unchanged(
    outbound: Outbound, source: SourceServer, etag: str | None, modified: str | None
) -> None:
    url = serve(source)
    fetched = outbound.fetch(url, see(url, etag, modified))
    assert (fetched.is_unchanged, fetched.body) == (True, b"")
    assert (fetched.caching.etag, fetched.caching.last_modified) == (etag, modified)


def test_unchanged_source_is_fresh_for_as_long_as_it_says_now(outbound: Outbound, source: SourceServer) -> None:
    """RFC 9111 section 4.3.4."""
    url = serve(source, **{"Cache-Control": "max-age=60", "ETag": 'W/"v1"'})
    caching = outbound.fetch(url, see(url)).caching
    assert (caching.fresh_seconds, caching.etag) == (60, 'W/"v1"')


def test_source_that_has_changed_is_fetched(outbound: Outbound, source: SourceServer) -> None:
    url = serve(source)
    fetched = outbound.fetch(url, see(url, '"v0"'))
    assert (fetched.is_unchanged, fetched.body) == (False, IMAGE)


def test_etag_is_not_told_to_another_url(outbound: Outbound, source: SourceServer) -> None:
    """Two resources may have the same one: `"1"` is common."""
    fetched = outbound.fetch(serve(source), see(source.url("/another")))
    assert fetched.body == IMAGE
    [request] = source.requests
    assert not {"if-none-match", "if-modified-since"} & request.headers.keys()


def test_source_behind_a_redirect_is_asked_where_it_was_found(outbound: Outbound, source: SourceServer) -> None:
    target = serve(source)
    fetched = outbound.fetch(source.redirect_to(target), see(target))
    assert fetched.is_unchanged
    first, second = source.requests
    assert (first.headers.get("if-none-match"), second.headers["if-none-match"]) == (None, ETAG)


def test_redirect_that_says_nothing_of_caches_is_never_fresh(outbound: Outbound, source: SourceServer) -> None:
    """It may lead elsewhere the next time."""
    target = serve(source, **{"Cache-Control": "max-age=60"})
    assert outbound.fetch(source.redirect_to(target)).caching.fresh_seconds == 0


def test_304_that_nobody_asked_for_is_an_error(outbound: Outbound, source: SourceServer) -> None:
    with pytest.raises(SourceHttpError) as caught:
        outbound.fetch(source.url("/status/304"))
    assert caught.value.source_status == 304


def test_private_answer_is_kept_for_one_account_alone(build: Build, source: SourceServer) -> None:
    url = serve(source, **{"Cache-Control": "private, max-age=60"})
    assert build().fetch(url).caching.may_keep
    assert not build(is_shared_cache=True).fetch(url).caching.may_keep
