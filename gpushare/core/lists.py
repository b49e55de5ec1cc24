"""Model lists as seen by a key that may not see every model.

Keys without a restriction get Ollama's bytes unchanged; this module is only for the others.
"""

import json

from gpushare.core.names import may_use


def filter_list(body: bytes, patterns: tuple[str, ...]) -> bytes:
    """Returns a model list without the models outside ``patterns``.

    Understands ``{"models": [{"name"}]}`` (tags, ps) and ``{"data": [{"id"}]}`` (OpenAI).  A body of any
    other shape becomes an empty object: what is not understood is not shown.
    """
    document = json.loads(body)
    if isinstance(document, dict):
        for field, name in (("models", "name"), ("data", "id")):
            rows = document.get(field)
            if isinstance(rows, list):
                document[field] = [row for row in rows if may_use(patterns, str(row.get(name, "")))]
                return json.dumps(document, separators=(",", ":")).encode()
    return b"{}"
