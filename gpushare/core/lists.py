"""Model lists as seen by a key that may not see every model.

Keys without a restriction get Ollama's bytes unchanged; this module is only for the others.
"""

import json

from gpushare.core.names import may_use


def filter_list(body: bytes, patterns: tuple[str, ...]) -> bytes:
    """Returns a model list without the models outside ``patterns``.

    Understands ``{"models": [{"name"}]}`` (tags, ps) and ``{"data": [{"id"}]}`` (OpenAI).  A body of any
    other shape becomes an empty object, and rows of another shape are left out: what is not understood is not
    shown.
    """
    try:
        document = json.loads(body)
        for field, name in (("models", "name"), ("data", "id")):
            if isinstance(document, dict) and isinstance(document.get(field), list):
                document[field] = [row for row in document[field] if _may_see(row, name, patterns)]
                return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        pass
    return b"{}"


def _may_see(row: object, name: str, patterns: tuple[str, ...]) -> bool:
    return isinstance(row, dict) and isinstance(row.get(name), str) and may_use(patterns, row[name])
