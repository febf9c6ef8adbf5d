"""What a person sees: the start page, and the interactive API reference. Everything they load comes from us."""

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, jsonify, render_template, request, send_from_directory

from thumbs import __version__
from thumbs.web.context import get_public_url

SWAGGER_UI_DIR = Path(flask_swagger_ui.__file__).parent / "dist"
SWAGGER_UI_FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})

blueprint = Blueprint("pages", __name__, static_folder="static", static_url_path="/static", template_folder="templates")


@blueprint.get("/")
def get_start() -> Response | str:
    """Greet: a page for a browser, JSON for everybody else."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return render_template("start.html", base=get_public_url(), version=__version__)
    base = get_public_url()
    return jsonify({"message": "hello world", "documentation": f"{base}/docs", "openapi": f"{base}/openapi.json"})


@blueprint.get("/docs")
def get_docs() -> str:
    """Show the API reference (Swagger UI)."""
    return render_template("docs.html")


@blueprint.get("/docs/assets/<name>")
def get_docs_asset(name: str) -> Response:
    """Serve one of Swagger UI's files."""
    return send_from_directory(SWAGGER_UI_DIR, name if name in SWAGGER_UI_FILES else "", max_age=86_400)
