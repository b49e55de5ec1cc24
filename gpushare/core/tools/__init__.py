"""What to type into which tool: the one table that the pages, the command line and the documents show.

Rules: nothing to copy holds a placeholder that could have been filled in; context sizes are the loaded
model's, so that following a page never makes Ollama load it again.
"""

from collections.abc import Callable, Mapping

from gpushare.core.tools import libraries, programs
from gpushare.core.tools.base import EXAMPLE_KEY, EXAMPLE_MODEL, USUAL_CONTEXT, Site, Step, Tool

__all__ = [
    "EXAMPLE_KEY",
    "EXAMPLE_MODEL",
    "TOOLS",
    "USUAL_CONTEXT",
    "Site",
    "Step",
    "Tool",
    "tools",
]

TOOLS: Mapping[str, Callable[[Site], Tool]] = {
    "ollama-python": libraries.ollama_python,
    "ollama-js": libraries.ollama_js,
    "openai-python": libraries.openai_python,
    "openai-js": libraries.openai_js,
    "anthropic": libraries.anthropic,
    "langchain": libraries.langchain,
    "curl": libraries.curl,
    "ollama": programs.ollama,
    "claude-code": programs.claude_code,
    "codex": programs.codex,
    "opencode": programs.opencode,
    "copilot": programs.copilot,
    "copilot-cli": programs.copilot_cli,
    "continue": programs.continue_dev,
    "cline": programs.cline,
    "zed": programs.zed,
    "aider": programs.aider,
    "open-webui": programs.open_webui,
}
"""Every tool by the word that names it in addresses and commands, in the order in which they are shown."""


def tools(site: Site) -> tuple[Tool, ...]:
    """Returns every tool, filled in."""
    return tuple(tool(site) for tool in TOOLS.values())
