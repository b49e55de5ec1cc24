"""A tool's steps as text: for the terminal, and as the page ``docs/connect.md``.

Called by: ``gpushare connect``; a test holds the page equal to what ``to_markdown`` makes.
"""

from collections.abc import Iterator

from gpushare.core.tools import EXAMPLE_KEY, EXAMPLE_MODEL, Site, Tool, tools

EXAMPLE_URL = "http://atlas:11435"
NOT_SEEN = "no; from its documents"
WINDOWS = 'In PowerShell write `$env:NAME = "value"` for `export NAME=value`.'

HEAD = f"""# Connecting a tool

Made by `gpushare connect --markdown > docs/connect.md` from `gpushare/core/tools/`; change it there.

The page `/connect` of your server and `gpushare connect TOOL` show the same with its own address, the model
it has in memory and, if you want, your key. Here `{EXAMPLE_URL}` stands for the address of your server,
`{EXAMPLE_KEY}` for your key and `{EXAMPLE_MODEL}` for a model. {WINDOWS}

The last column of the table says with which version of a tool, unmodified, the steps were followed: it was
answered, given a wrong key, turned away, and ended in the middle of an answer, which freed the GPU.
`./run test tools` does that anew with those that npm installs within a minute.
"""

OTHERS = """
## Other tools

Whatever lets you set an address and a key takes one of the forms above. With these versions it was seen that
calls are answered, and what a wrong key looks like:

| tool | version | good to know |
|---|---|---|
| LiteLLM | 1.110.2 | `ollama_chat/`, `openai/` or `anthropic/` before the model; each has its variables |
| langchain-ollama | 1.1.0 | as ollama-python |
| LlamaIndex | llama-index-llms-ollama 0.11.0 | as ollama-python, with `base_url` |
| pydantic-ai | 2.38.0 | `OpenAIProvider` or `OllamaProvider` with `base_url` ending in `/v1` and `api_key` |
| instructor | 1.17.0 | `from_openai`; `from_provider("ollama/…")` sends no key, so it goes into the address |
| llm | 0.36, llm-ollama 0.19.1 | as ollama-python; with a wrong key it says `Unknown model` |
| Vercel AI SDK | 6.0.326 | its provider `ollama-ai-provider-v2` shows only the status of a refusal |
| Java's `HttpClient` | 17 | |
| ollama-js in a page | 0.6.4 | the page's origin must be in `server.allowed_origins` |
"""


def plain(text: str) -> str:
    """Returns a sentence without the marks around code."""
    return text.replace("`", "")


def to_text(tool: Tool) -> str:
    """Returns what a terminal shows; blocks stand at the edge, so that they can be marked and copied."""
    return "\n".join(_lines(tool))


def to_markdown() -> str:
    """Returns the page with every tool."""
    every = tools(Site(base_url=EXAMPLE_URL))
    index = "".join(
        f"| [{plain(tool.name)}](#{_anchor(tool)}) | `{tool.slug}` | {tool.seen or NOT_SEEN} |\n"
        for tool in every
    )
    head = f"{HEAD}\n| tool | word for `gpushare connect` | seen to work |\n|---|---|---|\n"
    return head + index + "".join(map(_section, every)) + OTHERS


def _lines(tool: Tool) -> Iterator[str]:
    yield plain(tool.name)
    for number, step in enumerate(tool.steps, 1):
        yield f"\n{number}. {plain(step.say)}"
        if step.copy:
            yield f"\n{step.copy}"
    yield f"\nCheck that it works: {plain(tool.check)}"
    yield f"Good to know: {plain(tool.quirk)}"


def _section(tool: Tool) -> str:
    steps = "".join(
        f"\n{number}. {step.say}\n" + (f"\n{_fenced(step.copy, step.kind)}\n" if step.copy else "")
        for number, step in enumerate(tool.steps, 1)
    )
    ends = f"Check that it works: {tool.check}\n\nGood to know: {tool.quirk}"
    return f"\n## {plain(tool.name)}\n{steps}\n{ends}\n"


def _fenced(block: str, kind: str) -> str:
    """Returns a block as part of a list's item, so that the numbers go on behind it."""
    return "\n".join(f"   {line}".rstrip() for line in (f"```{kind or 'text'}", *block.split("\n"), "```"))


def _anchor(tool: Tool) -> str:
    return plain(tool.name).lower().replace(" ", "-")
