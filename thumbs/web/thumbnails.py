"""`/t/…`: the thumbnails. Nobody needs a key here: the name has 128 random bits and was told to the caller alone."""

from flask import Response, request
from flask_smorest import Blueprint
from werkzeug.wrappers import Response as BaseResponse

from thumbs.domain import Blob
from thumbs.errors import NotFound
from thumbs.web.context import get_services
from thumbs.web.openapi import BYTES, tell_headers, tell_unchanged

blueprint = Blueprint("thumbnails", __name__, description="The finished images.")


@blueprint.get("/t/<name>")
@blueprint.doc(security=[])
@blueprint.response(
    200, BYTES, content_type="image/*", description="The image.", headers=tell_headers("ETag", "Cache-Control")
)
@blueprint.alt_response(**tell_unchanged())
def get_thumbnail(name: str) -> BaseResponse:
    """Get a thumbnail."""
    services = get_services()
    blob = services.blobs.find(name, services.clock.now())
    if blob is None:
        raise NotFound("There is no such thumbnail, or it has expired.")
    return render_blob(blob)


def render_blob(blob: Blob) -> BaseResponse:
    """Render a blob for ever: under this name the bytes never change, until they expire."""
    left = blob.expires_at - get_services().clock.now()
    response = Response(blob.body, mimetype=blob.content_type)
    response.headers["Cache-Control"] = f"public, immutable, max-age={max(0, int(left.total_seconds()))}"
    response.set_etag(blob.sha256)
    return response.make_conditional(request)
