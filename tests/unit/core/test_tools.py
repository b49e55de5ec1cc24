import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gpushare.core.model import ResidentModel
from gpushare.core.tools import EXAMPLE_KEY, TOOLS, Site, Step, Tool, tools
from gpushare.core.tools.choice import choose_model
from gpushare.core.tools.text import plain, to_markdown, to_text
from tests.tools.programs import PROGRAMS

ROOT = Path(__file__).parents[3]
SITE = Site(base_url="http://box:99", key="gs_key", model="m:1b", context=5000)
EVERY = [pytest.param(tool, id=tool.slug) for tool in tools(SITE)]


def settings(slug: str, kind: str) -> Any:
    """Returns what a program would read from the settings file of its steps."""
    block = next(step.copy for step in TOOLS[slug](SITE).steps if step.kind == kind)
    if kind == "yaml":
        return pytest.importorskip("yaml").safe_load(block)
    return tomllib.loads(block) if kind == "toml" else json.loads(block)


@pytest.mark.parametrize("tool", EVERY)
def test_nothing_to_copy_is_left_to_fill_in(tool: Tool) -> None:
    """Address and key are there, and no example stands where they belong."""
    copied = "\n".join(step.copy for step in tool.blocks)
    assert "http://box:99" in copied
    assert "gs_key" in copied
    for placeholder in (EXAMPLE_KEY, "qwen", "<", "…", "...", "YOUR", "localhost", "11434"):
        assert placeholder not in copied


@pytest.mark.parametrize("tool", EVERY)
def test_a_tool_says_how_to_see_that_it_works_and_what_is_odd(tool: Tool) -> None:
    """Sentences end, blocks do not; code is marked in pairs."""
    assert TOOLS[tool.slug](SITE) == tool
    for sentence in (tool.check, tool.quirk):
        assert sentence.endswith(".")
        assert sentence.count("`") % 2 == 0
    for step in tool.steps:
        assert step.say.endswith(":" if step.copy else ".")
        assert step.copy == step.copy.strip()


def test_the_settings_files_are_what_their_programs_read() -> None:
    """Each file parses, and the fields that matter hold the address, the key and the model."""
    codex = settings("codex", "toml")
    provider = codex["model_providers"][codex["model_provider"]]
    assert (codex["model"], codex["model_context_window"]) == ("m:1b", 5000)
    assert codex["web_search"] == "disabled"
    assert (provider["base_url"], provider["wire_api"]) == ("http://box:99/v1", "responses")
    assert f"export {provider['env_key']}=gs_key" in TOOLS["codex"](SITE).steps[1].copy
    opencode = settings("opencode", "json")
    name, _, model = opencode["model"].partition("/")
    assert opencode["provider"][name]["options"] == {"baseURL": "http://box:99/v1", "apiKey": "gs_key"}
    assert opencode["provider"][name]["models"][model]["limit"] == {"context": 5000, "output": 2500}
    copilot = settings("copilot", "json")
    assert copilot["url"] == "http://box:99/v1/chat/completions"
    assert copilot["maxInputTokens"] + copilot["maxOutputTokens"] == 5000
    assert settings("zed", "json")["language_models"]["ollama"] == {
        "api_url": "http://box:99",
        "context_window": 5000,
    }
    (entry,) = settings("continue", "yaml")["models"]
    assert (entry["provider"], entry["model"], entry["apiBase"]) == ("ollama", "m:1b", "http://box:99")
    assert (entry["apiKey"], entry["defaultCompletionOptions"]) == ("gs_key", {"contextLength": 5000})
    (model,) = settings("aider", "yaml")
    assert model == {"name": "ollama_chat/m:1b", "extra_params": {"num_ctx": 5000}}


def test_the_versions_seen_are_those_that_the_tests_run() -> None:
    """A newer program is run before the page says that it was."""
    run = json.loads((ROOT / "tests/tools/package.json").read_text())["dependencies"]
    assert sorted(run) == sorted(program.package for program in PROGRAMS)
    for program in PROGRAMS:
        seen = TOOLS[program.slug](SITE).seen
        assert seen is not None
        assert seen.endswith(run[program.package])


def test_agents_are_told_when_the_context_is_small() -> None:
    """The advice stands only where it is not followed already."""
    roomy = Site(base_url="http://box:99", context=131_072)
    for slug in ("claude-code", "codex", "opencode"):
        assert "here it is 5000" in TOOLS[slug](SITE).quirk
        assert "want a context" not in TOOLS[slug](roomy).quirk


def test_text_for_the_terminal_can_be_marked_and_copied() -> None:
    """Numbered sentences without marks; blocks at the edge of the screen, unchanged."""
    steps = (Step(say="Set `X`:", copy="x:\n  y", kind="yaml"), Step(say="Go."))
    tool = Tool(
        slug="t",
        name="`t` tool",
        address="",
        key="",
        steps=steps,
        check="`t` runs.",
        quirk="None.",
        seen=None,
    )
    assert to_text(tool) == (
        "t tool\n\n1. Set X:\n\nx:\n  y\n\n2. Go.\n\nCheck that it works: t runs.\nGood to know: None."
    )
    assert plain("`a` b") == "a b"


def test_the_page_is_what_the_table_makes() -> None:
    """After a change: gpushare connect --markdown > docs/connect.md."""
    assert (ROOT / "docs/connect.md").read_text() == to_markdown()


def test_the_readme_has_the_rows_of_the_table() -> None:
    """Every tool, with where its address and its key go."""
    every = tools(Site(base_url="http://atlas:11435", key="gs_…"))
    rows = "".join(f"| {tool.name} | {tool.address} | {tool.key} |\n" for tool in every)
    assert rows in (ROOT / "README.md").read_text()


def resident(name: str, context: int | None = 4096) -> ResidentModel:
    """A loaded model."""
    return ResidentModel(name=name, size_bytes=1, vram_bytes=1, context=context, expires=None)


@pytest.mark.parametrize(
    ("loaded", "used", "installed", "chosen"),
    [
        ([resident("A"), resident("b:1")], {"c:1": 9}, ["A", "b:1", "c:1"], ("a:latest", 4096)),
        ([], {"c:1": 2, "b:1": 3, "gone:1": 9}, ["a:1", "b:1", "c:1"], ("b:1", None)),
        ([], {}, ["a:1", "b:1"], ("a:1", None)),
        ([resident("nomic-embed-text:v1")], {}, ["nomic-embed-text:v1", "a:1"], ("a:1", None)),
        ([resident("nomic-embed-text:v1")], {}, [], ("nomic-embed-text:v1", 4096)),
        ([resident("$(reboot)")], {'"; rm': 1}, ['"; rm', "a b"], (None, None)),
        ([], {}, [], (None, None)),
    ],
)
def test_the_model_is_one_that_works_at_once(
    loaded: list[ResidentModel], used: dict[str, int], installed: list[str], chosen: tuple[str, int]
) -> None:
    """In memory, else most used, else any; a name that a shell would act on is none."""
    assert choose_model(loaded, used, installed) == chosen


def test_a_limited_key_is_shown_a_model_it_may_use() -> None:
    """The steps of a key with few models work for it."""
    assert choose_model([resident("a:1")], {}, ["a:1", "b:1"], patterns=("b*",)) == ("b:1", None)
