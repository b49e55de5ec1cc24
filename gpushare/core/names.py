"""Model names: when two of them mean one model, and which of them leave this GPU.

Called by: ``core.body``, and whoever compares a name with a list from Ollama.
Rules: names are compared only in canonical form, the form of Ollama's own lists (``types/model/name.go``):
lower case, without the default registry and namespace, with a tag.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}"
_NAME = re.compile(
    rf"(?:https?://)?(?:[A-Za-z0-9_][A-Za-z0-9._:-]{{0,127}}/)?(?:{_PART}/)?{_PART}(?::{_PART}){{0,2}}"
)
_SCHEMES = ("http://", "https://")
_HOST, _NAMESPACE = "registry.ollama.ai", "library"


@lru_cache(maxsize=256)
def is_model_name(name: str) -> bool:
    """Whether Ollama could have a model of this name: ``[host/][namespace/]model[:tag][:source]``.

    A tag ``local`` is none, as it could be the source as well.
    """
    return _NAME.fullmatch(name) is not None and not name.lower().endswith(":local:local")


@lru_cache(maxsize=256)
def canonical_model(name: str) -> str:
    """Returns the one spelling under which a model is compared, queued and counted.

    ``llama3.2``, ``Llama3.2:latest`` and ``registry.ollama.ai/library/llama3.2`` are one model.
    """
    name = _without_defaults(name.lower()).removesuffix(":local")
    has_tag = name.rfind(":") > name.rfind("/")
    return name if has_tag else f"{name}:latest"


@lru_cache(maxsize=256)
def is_cloud(name: str) -> bool:
    """Whether Ollama would send a call for this model to ollama.com instead of running it here.

    The tag decides (``internal/modelref``): ``cloud``, or one that ends in ``-cloud``.
    """
    tag = canonical_model(name).rpartition(":")[2]
    return "/" not in tag and (tag == "cloud" or tag.endswith("-cloud"))


def may_use(patterns: Iterable[str], model: str) -> bool:
    """Whether a key limited to these names may use the model; no patterns means every model.

    A pattern is a name, or the beginning of one followed by ``*``.
    """
    patterns = tuple(patterns)
    wanted = canonical_model(model)
    return not patterns or any(_matches(pattern, wanted) for pattern in patterns)


def _matches(pattern: str, wanted: str) -> bool:
    if pattern.endswith("*"):
        return wanted.startswith(_without_defaults(pattern[:-1].lower()))
    return canonical_model(pattern) == wanted


def _without_defaults(name: str) -> str:
    if "/" not in name:
        return name
    for scheme in _SCHEMES:
        name = name.removeprefix(scheme)
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == _HOST:
        del parts[0]
    if len(parts) == 2 and parts[0] == _NAMESPACE:
        del parts[0]
    return "/".join(parts)
