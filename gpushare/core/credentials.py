"""Which key a request carries, and which tool sent it.

Called by: the web layer, before anything else of a request is read.
Rules: only values that begin with ``gs_`` are keys; everything else is the dummy some tool insists on
sending, and is ignored.  Nothing here says whether a key is valid: that is ``core.keys``.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from functools import lru_cache

from gpushare.core.errors import TwoKeys

KEY_PREFIX = "gs_"
KEY_HEADERS = ("x-api-key", "api-key")
"""Headers that hold nothing but a key."""
_BEARER = "Bearer "
_BEARER_KEY = _BEARER + KEY_PREFIX

# The start of the User-Agent, lower case, and the name shown for it; a closed list, so that agents can label
# metrics.  The first match wins.
_TOOLS = (
    ("ollama/", "ollama"),
    ("ollama-python/", "ollama-python"),
    ("ollama-js/", "ollama-js"),
    ("openai/", "openai"),
    ("asyncopenai/", "openai"),
    ("anthropic/", "anthropic"),
    ("asyncanthropic/", "anthropic"),
    ("claude-cli/", "claude-code"),
    ("codex", "codex"),
    ("continue", "continue"),
    ("cline", "cline"),
    ("zed/", "zed"),
    ("opencode/", "opencode"),
    ("githubcopilotchat/", "copilot"),
    ("litellm/", "litellm"),
    ("homeassistant/", "home-assistant"),
    ("open-webui", "open-webui"),
    ("ai-sdk/", "ai-sdk"),
    ("curl/", "curl"),
    ("python-requests/", "python"),
    ("python-httpx/", "python"),
    ("python/", "python"),
    ("node", "node"),
    ("go-http-client/", "go"),
    ("java-http-client/", "java"),
    ("mozilla/", "browser"),
)
TOOLS: frozenset[str] = frozenset(name for _, name in _TOOLS) | {"other"}
"""Every value ``tool_of`` can return."""


def find_key(authorizations: Sequence[str], others: Sequence[str], path_key: str | None) -> str | None:
    """Returns the one key a request carries, or None.

    Args:
        authorizations: every ``Authorization`` header; Bearer, and both fields of Basic, may hold a key.
        others: every value of the headers ``KEY_HEADERS``.
        path_key: the key segment of the path, if it has one.

    Raises:
        TwoKeys: two different keys, wherever they are.
    """
    if len(authorizations) == 1 and not others and path_key is None:  # as nearly every tool sends it
        value = authorizations[0]
        if value.startswith(_BEARER_KEY):
            return value[len(_BEARER) :].strip()
    found = {path_key} if path_key else set()
    for value in authorizations:
        found.update(filter(_is_key, _authorization(value)))
    found.update(filter(_is_key, map(str.strip, others)))
    if len(found) > 1:
        raise TwoKeys
    return found.pop() if found else None


def _is_key(value: str) -> bool:
    return value.startswith(KEY_PREFIX)


def _authorization(value: str) -> Iterator[str]:
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() == "bearer":
        yield rest.strip()
    elif scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return  # some other server's credential
        yield from pair.split(":", 1)


def hides_401(user_agent: str) -> bool:
    """Whether this caller throws the body of a 401 away, so that a 403 is needed to show the sentence.

    The ``ollama`` command line turns every 401 into its own sign-in (``cmd/cmd.go``).
    """
    return user_agent.lower().startswith("ollama/")


def tool_of(user_agent: str) -> str:
    """Returns the tool's name from the closed list ``TOOLS``; ``other`` for all the rest."""
    return _tool(user_agent[:64])


@lru_cache(maxsize=256)
def _tool(start_of_agent: str) -> str:
    lowered = start_of_agent.lower()
    return next((name for start, name in _TOOLS if lowered.startswith(start)), "other")
