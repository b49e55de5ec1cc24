"""The model field of a form with a file in it, found without touching the rest.

Called by: ``core.body``, for the one route that takes a form.
Rules: only the plain form that HTTP clients write is read; whatever Go's ``mime/multipart`` could read in
another way (encoded parts, continued parameters, loose boundaries) is refused.
"""

import re

from gpushare.core.errors import InvalidRequest

PARTS_MAX = 64

_TYPE = re.compile(r"""multipart/form-data\s*;\s*boundary=(?:"([^"\\]+)"|([^\s";]+))""", re.IGNORECASE)
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=?-]{1,70}")
_DISPOSITION = re.compile(
    rb'form-data; *name="([^"\\\r\n]*)"(; *filename="(?:[^"\\\r\n]|\\.)*"|; *filename\*=[^;\r\n]*)*',
    re.IGNORECASE,
)
_LOOSE_END = re.compile(rb"[\r\n\0]")  # Go ends a line at a bare line feed too
_PART_HEADERS = {b"content-disposition", b"content-type", b"content-length"}


def boundary_of(content_type: str) -> str:
    """Returns the boundary of a ``multipart/form-data`` type.

    Raises:
        InvalidRequest: another type, or a boundary in a form not read here.
    """
    match = _TYPE.fullmatch(content_type.strip())
    boundary = (match[1] or match[2]) if match else ""
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("The request must be a multipart/form-data form with a plain boundary.")
    return boundary


def read_form_field(body: bytes, *, boundary: str, field: str) -> str | None:
    """Returns the text of a field that appears at most once and is no file; None if it is not there.

    Raises:
        InvalidRequest: not a form by the plain rules, or the field appears twice or as a file.
    """
    found = None
    for name, is_file, content in _parts(body, b"--" + boundary.encode()):
        if name != field.encode():
            continue
        if found is not None or is_file:
            raise InvalidRequest(f'The form\'s field "{field}" must appear once, as text.')
        found = content
    try:
        return None if found is None else found.decode()
    except UnicodeDecodeError:
        raise _malformed() from None


def _parts(body: bytes, mark: bytes) -> list[tuple[bytes, bool, bytes]]:
    """Returns name, whether it is a file, and content of every part."""
    pieces = (b"\r\n" + body).split(b"\r\n" + mark, PARTS_MAX + 1)
    if len(pieces) > PARTS_MAX + 1 or pieces[0] or pieces[-1] not in (b"--", b"--\r\n"):
        raise _malformed()
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> tuple[bytes, bool, bytes]:
    head, blank, content = piece.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"\r\n"):
        raise _malformed()
    fields: dict[bytes, bytes] = {}
    for line in head[2:].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if (
            not colon
            or name.lower() not in _PART_HEADERS
            or name.lower() in fields
            or _LOOSE_END.search(value)
        ):
            raise _malformed()
        fields[name.lower()] = value.strip()
    match = _DISPOSITION.fullmatch(fields.get(b"content-disposition", b""))
    if match is None:
        raise _malformed()
    return match[1], match[2] is not None, content


def _malformed() -> InvalidRequest:
    return InvalidRequest("The form is not in the plain form that is read here. Send it as curl -F does.")
