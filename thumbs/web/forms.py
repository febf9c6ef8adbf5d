"""A form (multipart/form-data) that brings a file along, read as if it had been sent as JSON."""

from io import BytesIO
from typing import IO, Any, Final

from flask import Request
from marshmallow import Schema, fields
from webargs.flaskparser import abort
from werkzeug.exceptions import HTTPException

from thumbs.web.strictjson import parse_json

FORM_TYPE: Final = "multipart/form-data"
FILE_PART: Final = "file"
FILE_MEMBER: Final = "source_data"


class FormRequest(Request):
    """A request whose files stay in memory: they are read whole, and a disk may be full or not for writing."""

    def _get_file_stream(self, *_args: Any, **_options: Any) -> IO[bytes]:
        """Give what a file is written into; werkzeug's own is a temporary file from 500 kB on."""
        return BytesIO()


def read_form(req: Request, schema: Schema) -> dict[str, Any]:
    """Read the parts of a form as members: text where the schema has text, JSON where not, and the file's bytes."""
    parts: list[tuple[str, Any]] = []
    for name, text in req.form.items(multi=True):
        parts.append((name, _read_text(text, schema.fields.get(name))))
    for name, file in req.files.items(multi=True):
        parts.append((FILE_MEMBER if name == FILE_PART else name, file.stream.read()))
    names = [name for name, _ in parts]
    for name in names:
        if names.count(name) > 1:
            abort(422, messages={"form": {name: ["Must be there once."]}})
    return dict(parts)


def _read_text(text: str, field: Any) -> Any:
    """Read a part's text; what is no JSON where there should be some stays text, which its field refuses."""
    if field is None or isinstance(field, fields.String):
        return text
    try:
        return parse_json(text.encode("utf-8"))
    except HTTPException:
        return text
