import json
from pathlib import Path

import pytest

from gpushare.cli.terminal import ExitCode
from gpushare.core.tools import TOOLS, Site
from gpushare.core.tools.text import to_text

from .conftest import Gateway, Run

ROOT = Path(__file__).parents[3]
KEY = "gs_000000_own"
FACTS = {"schema": "gpushare.connecting/1", "base_url": "https://gpu.lan", "model": "m:1b", "context": 5000}


@pytest.fixture
def atlas(gateway: Gateway) -> Gateway:
    """A gateway with a public address and a loaded model."""
    gateway.answer("/gpushare/v1/connecting", (200, json.dumps(FACTS).encode()))
    return gateway


def test_a_tool_is_filled_in_with_what_the_server_says_and_the_key(
    run: Run, atlas: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as the page, with nothing left to fill in."""
    monkeypatch.setenv("GPUSHARE_KEY", KEY)
    said = run("connect", "zed", "--url", atlas.url)
    site = Site(base_url="https://gpu.lan", key=KEY, model="m:1b", context=5000)
    assert (said.code, said.out, said.err) == (0, to_text(TOOLS["zed"](site)) + "\n", "")


def test_without_a_key_an_example_stands_for_it(run: Run, atlas: Gateway) -> None:
    """Which is said beside the result."""
    said = run("connect", "curl", "--url", atlas.url)
    assert "Bearer gs_your_key" in said.out
    assert "gpushare login" in said.err


def test_without_an_answer_the_steps_are_shown_all_the_same(run: Run, nobody: str) -> None:
    """With an example for the model, which is said."""
    said = run("connect", "codex", "--url", nobody)
    assert said.code == 0
    assert f'base_url = "{nobody}/v1"' in said.out
    assert "are examples: cannot reach gpushare" in said.err


def test_a_server_cannot_put_commands_into_the_steps(run: Run, gateway: Gateway) -> None:
    """What is no address and no model's name is left out: people paste this into a shell."""
    hostile = FACTS | {"base_url": "http://x$(reboot)", "model": '$(reboot)"\x1b[2J'}
    gateway.answer("/gpushare/v1/connecting", (200, json.dumps(hostile).encode()))
    said = run("connect", "aider", "--url", gateway.url)
    assert "reboot" not in said.out
    assert f"OLLAMA_API_BASE={gateway.url}" in said.out


def test_without_a_tool_all_are_listed(run: Run, atlas: Gateway) -> None:
    """By the words that name them; JSON has the steps of all."""
    said = run("connect", "--url", atlas.url)
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == list(TOOLS)
    document = json.loads(run("connect", "--url", atlas.url, "--json").out)
    assert document["schema"] == "gpushare.tools/1"
    assert [tool["slug"] for tool in document["tools"]] == list(TOOLS)


def test_an_unknown_tool_is_wrong_usage(run: Run) -> None:
    """The known ones are named."""
    said = run("connect", "emacs")
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert "open-webui" in said.err


def test_markdown_is_the_page_of_the_documents(run: Run) -> None:
    """Without asking a server."""
    assert run("connect", "--markdown").out == (ROOT / "docs/connect.md").read_text()


def test_a_block_is_copied(run: Run, atlas: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, or the one that is named; what is left is told."""
    copied: list[str] = []

    def copy(text: str) -> str:
        copied.append(text)
        return "xclip"

    monkeypatch.setattr("gpushare.cli.connect.copy", copy)
    said = run("connect", "codex", "--copy", "--url", atlas.url)
    assert said.err.endswith("Copied block 1 of 3 with xclip; the next: --block 2\n")
    run("connect", "codex", "--copy", "--block", "3", "--url", atlas.url)
    assert copied[0].startswith('model = "m:1b"')
    assert copied[1] == "codex"
    assert run("connect", "codex", "--copy", "--block", "4", "--url", atlas.url).code == ExitCode.USAGE


def test_without_a_clipboard_copying_fails(run: Run, atlas: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are on the screen; a script learns that the rest did not work."""
    monkeypatch.setattr("gpushare.cli.connect.copy", lambda _text: None)
    said = run("connect", "curl", "--copy", "--url", atlas.url)
    assert said.code == ExitCode.FAILED
    assert said.out
