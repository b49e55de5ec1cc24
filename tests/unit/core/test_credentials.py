"""Finding the one key of a request."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.credentials import KEY_HEADERS, TOOLS, find_key, hides_401, tool_of
from gpushare.core.errors import TwoKeys

KEY = "gs_7f3a2c_" + "a" * 32
OTHER = "gs_000000_" + "b" * 32


def basic(pair: str) -> str:
    """Returns an Authorization value."""
    return "Basic " + base64.b64encode(pair.encode()).decode()


def found_key(headers: list[tuple[str, str]], path_key: str | None) -> str | None:
    """Looks into the headers as the web layer does, which compares their names without case."""
    named = [(name.lower(), value) for name, value in headers]
    authorizations = [value for name, value in named if name == "authorization"]
    others = [value for name, value in named if name in KEY_HEADERS]
    return find_key(authorizations, others, path_key)


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", f"Bearer {KEY}"),
        ("AUTHORIZATION", f"bearer  {KEY} "),
        ("X-Api-Key", KEY),
        ("api-key", f" {KEY}"),
        ("Authorization", basic(f"alice:{KEY}")),
        ("Authorization", basic(f"{KEY}:")),
        ("Authorization", basic(KEY)),
    ],
)
def test_every_place_a_tool_can_put_a_key(header: tuple[str, str]) -> None:
    """Bearer, x-api-key, api-key and both fields of Basic are accepted, names and schemes without case."""
    assert found_key([("Host", "atlas"), header], None) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer ollama")],
        [("Authorization", "Bearer")],
        [("Authorization", "")],
        [("Authorization", KEY)],
        [("Authorization", f"Token {KEY}")],
        [("Authorization", "Basic !!!")],
        [("Authorization", "Basic /////w==")],
        [("Authorization", "AAAAC3Nz:sig")],
        [("Cookie", f"key={KEY}")],
        [("X-Api-Key", "sk-123")],
    ],
)
def test_what_is_no_key_here_is_ignored(headers: list[tuple[str, str]]) -> None:
    """Dummies, other schemes and other servers' credentials count as no key."""
    assert found_key(headers, None) is None


@pytest.mark.parametrize("dummy", ["Bearer ollama", "AAAAC3Nz:c2ln", basic("user:pw")])
def test_a_path_key_beats_dummies(dummy: str) -> None:
    """Tools that insist on some token do not spoil the key in the address."""
    assert found_key([("Authorization", dummy)], KEY) == KEY


@pytest.mark.parametrize(
    ("headers", "path_key"),
    [
        ([("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {OTHER}")], None),
        ([("Authorization", f"Bearer {KEY}")], OTHER),
        ([("X-Api-Key", KEY), ("Authorization", basic(f"a:{OTHER}"))], None),
        ([("Authorization", basic(f"{KEY}:{OTHER}"))], None),
    ],
)
def test_two_different_keys_are_neither(headers: list[tuple[str, str]], path_key: str | None) -> None:
    """A request with two identities has none; it is refused rather than guessed."""
    with pytest.raises(TwoKeys):
        found_key(headers, path_key)


def test_the_same_key_twice_is_one_key() -> None:
    """An SDK that sends the key in two headers is understood."""
    assert found_key([("Authorization", f"Bearer {KEY}"), ("X-Api-Key", KEY)], KEY) == KEY


@given(st.lists(st.tuples(st.sampled_from(["authorization", "x-api-key"]), st.text()), max_size=4))
def test_any_header_text_is_survived(headers: list[tuple[str, str]]) -> None:
    """Whatever the headers hold, the answer is a key, none, or the refusal of two."""
    try:
        found = found_key(headers, None)
    except TwoKeys:
        return
    assert found is None or found.startswith("gs_")


def test_only_the_ollama_command_hides_a_401() -> None:
    """Its library namesakes show the body of a 401 and keep the true status."""
    assert hides_401("ollama/0.33.0 (arm64 darwin) Go/go1.26")
    assert not hides_401("ollama-python/0.6.3 (x86_64 linux)")
    assert not hides_401("")


@pytest.mark.parametrize(
    ("agent", "tool"),
    [
        ("ollama/0.33.0 (amd64 linux)", "ollama"),
        ("ollama-python/0.6.3", "ollama-python"),
        ("AsyncOpenAI/Python 3.52.0", "openai"),
        ("Anthropic/JS 1.11.0", "anthropic"),
        ("claude-cli/2.1.0 (external, cli)", "claude-code"),
        ("codex_exec/0.171.0 (Debian 12.0.0; x86_64)", "codex"),
        ("ai-sdk/openai-compatible/2.0.92 runtime/bun/1.3.13", "ai-sdk"),
        ("Java-http-client/17.0.15", "java"),
        ("Mozilla/5.0 (X11)", "browser"),
        ("curl/8.5.0", "curl"),
        ("<script>", "other"),
        ("", "other"),
    ],
)
def test_tools_are_named_from_a_closed_list(agent: str, tool: str) -> None:
    """The agent's own text never becomes a label."""
    assert tool_of(agent) == tool
    assert tool in TOOLS
