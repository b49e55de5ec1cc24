"""The page that says what to type into which tool."""

from dataclasses import dataclass

from aiohttp import web

from gpushare.web.callers import base_url
from gpushare.web.pages.render import Page, render
from gpushare.web.parts import PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One line of the page that says what to type into which tool."""

    name: str
    address: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectPage(Page):
    """What ``connect.html`` uses."""

    tools: tuple[Tool, ...]


async def connect_page(request: web.Request) -> web.Response:
    """Shows what to type into which tool."""
    page = ConnectPage(
        path="/connect",
        title="Connect a tool · gpushare",
        host=request.app[PARTS].host,
        base_url=base_url(request),
        tools=tools(base_url(request)),
    )
    return render(request, "connect.html", page)


def tools(base: str) -> tuple[Tool, ...]:
    """Returns what to type into the common tools; other tools take one of the first three forms."""
    key = "gs_…"
    host = base.rstrip("/")
    return (
        Tool(name="OpenAI SDKs", address=f"OPENAI_BASE_URL={host}/v1", key=f"OPENAI_API_KEY={key}"),
        Tool(name="Anthropic SDKs", address=f"ANTHROPIC_BASE_URL={host}", key=f"ANTHROPIC_API_KEY={key}"),
        Tool(name="ollama-python", address=f"OLLAMA_HOST={host}", key=f"OLLAMA_API_KEY={key}"),
        Tool(
            name="ollama-js", address=f'host: "{host}"', key=f'headers: {{ Authorization: "Bearer {key}" }}'
        ),
        Tool(name="LangChain", address=f'base_url="{host}/v1"', key=f'api_key="{key}"'),
        Tool(name="ollama command line", address=f"OLLAMA_HOST={host}/k/{key}", key="in the address"),
        Tool(name="Claude Code", address=f"ANTHROPIC_BASE_URL={host}", key=f"ANTHROPIC_AUTH_TOKEN={key}"),
        Tool(name="Open WebUI", address=host, key="the connection's key"),
        Tool(name="Continue", address=f"apiBase: {host}", key=f"apiKey: {key}"),
        Tool(name="Cline", address=host, key="the API key field"),
        Tool(name="Zed", address=f"language_models.ollama.api_url: {host}", key=f"OLLAMA_API_KEY={key}"),
        Tool(name="aider", address=f"OLLAMA_API_BASE={host}", key=f"OLLAMA_API_KEY={key}"),
        Tool(name="curl", address=f"{host}/api/chat", key=f'-H "Authorization: Bearer {key}"'),
    )
