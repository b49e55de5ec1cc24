"""When two model names are one model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.names import canonical_model, is_cloud, is_model_name, may_use

PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,6}", fullmatch=True)


@pytest.mark.parametrize(
    "name",
    [
        "llama3.2",
        "Llama3.2:latest",
        "library/llama3.2",
        "registry.ollama.ai/library/llama3.2:LATEST",
        "https://registry.ollama.ai/library/llama3.2",
        "llama3.2:local",
        "llama3.2:latest:local",
    ],
)
def test_spellings_of_one_model(name: str) -> None:
    """Case, default registry, default tag and the local suffix make no difference."""
    assert is_model_name(name)
    assert canonical_model(name) == "llama3.2:latest"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("qwen3-coder:30b", "qwen3-coder:30b"),
        ("alice/Mine", "alice/mine:latest"),
        ("hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M", "hf.co/bartowski/llama-3.2-1b-gguf:q4_k_m"),
        ("host:5000/a/b", "host:5000/a/b:latest"),
        ("library/library/a", "library/library/a:latest"),
        ("registry.ollama.ai/a", "registry.ollama.ai/a:latest"),
        ("registry.ollama.ai/registry.ollama.ai/a", "registry.ollama.ai/a:latest"),
    ],
)
def test_other_names_keep_their_parts(name: str, canonical: str) -> None:
    """A namespace, a host with a port and a tag stay part of the name."""
    assert is_model_name(name)
    assert canonical_model(name) == canonical


@given(st.lists(PART, min_size=1, max_size=3), PART)
def test_the_canonical_form_is_stable(parts: list[str], tag: str) -> None:
    """Canonical names are their own canonical form, whatever the case they came in."""
    name = "/".join(parts) + ":" + tag
    once = canonical_model(name)
    assert canonical_model(once) == once == canonical_model(name.upper().lower())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 10_240,
        "a/../b",
        "../a",
        "a:local:Local",
        "a\nb",
        "a b",
        "\u202ea",
        'a"b',
        "a/b/c/d",
        "/a",
        "a:",
        "a\x00",
        "a\n",
    ],
)
def test_what_no_model_is_called(name: str) -> None:
    """Paths, control characters and endless names are no model names."""
    assert not is_model_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "gpt-oss:120b-cloud",
        "x:cloud",
        "X:CLOUD",
        "x:7b:cloud",
        "a/b:7b-Cloud",
        "x:cloud:local",
        "x:7b-cloud:local",
    ],
)
def test_cloud_names_are_recognised(name: str) -> None:
    """Every spelling that makes Ollama call ollama.com is seen."""
    assert is_cloud(name)


@pytest.mark.parametrize("name", ["cloud", "x-cloud", "x:cloudy", "x:cloud-7b", "h:5000/x-cloud", "cloud/x"])
def test_names_that_only_sound_like_the_cloud(name: str) -> None:
    """Only the tag sends a call away."""
    assert not is_cloud(name)


def test_a_key_without_patterns_may_use_everything() -> None:
    """No list means no limit."""
    assert may_use((), "anything")


@pytest.mark.parametrize("pattern", ["llama3.2", "LLAMA3.2:latest", "llama*", "*", "library/llama3*"])
def test_patterns_match_in_canonical_form(pattern: str) -> None:
    """A pattern is a name in any spelling, or the beginning of one."""
    assert may_use(("other", pattern), "registry.ollama.ai/library/Llama3.2")


@pytest.mark.parametrize("pattern", ["llama3", "llama3.2:1b", "ama*", ""])
def test_other_patterns_do_not_match(pattern: str) -> None:
    """A name without a star is the whole name, and a star only stands at the end."""
    assert not may_use((pattern,), "llama3.2")
