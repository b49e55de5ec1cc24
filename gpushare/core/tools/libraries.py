"""Libraries and programs one calls by hand: what to type to reach this server.

Rules: what is printed here runs as it stands; ``tests/e2e/test_snippets.py`` runs it.
"""

import json

from gpushare.core.tools.base import IN_THE_SHELL, Site, Step, Tool, exports

HELLO = "Say hello."
_PROMPT = f'[{{"role": "user", "content": "{HELLO}"}}]'
_JS_PROMPT = f'[{{ role: "user", content: "{HELLO}" }}]'
_GREETING = "it prints a greeting."
IN_THE_TESTS = "in every run of the tests"


def ollama_python(site: Site) -> Tool:
    """Ollama's library for Python."""
    return Tool(
        slug="ollama-python",
        name="ollama-python",
        address=f"`OLLAMA_HOST={site.base_url}`",
        key=f"`OLLAMA_API_KEY={site.key}`",
        steps=(
            Step(
                say=IN_THE_SHELL,
                copy=exports(OLLAMA_HOST=site.base_url, OLLAMA_API_KEY=site.key),
                kind="sh",
            ),
            Step(
                say="In Python:",
                copy=f"""import ollama

answer = ollama.chat(model="{site.model}", messages={_PROMPT})
print(answer.message.content)""",
                kind="python",
            ),
        ),
        check=_GREETING,
        quirk="It waits for ever and never tries again by itself. `OLLAMA_HOST` is also the address that an "
        "`ollama serve` of your own would listen on.",
        seen=IN_THE_TESTS,
    )


def ollama_js(site: Site) -> Tool:
    """Ollama's library for JavaScript."""
    headers = f'headers: {{ Authorization: "Bearer {site.key}" }}'
    return Tool(
        slug="ollama-js",
        name="ollama-js",
        address=f'`new Ollama({{ host: "{site.base_url}", {headers} }})`',
        key="in `headers`",
        steps=(
            Step(
                say="In a module (`.mjs`):",
                copy=f"""import {{ Ollama }} from "ollama";

const ollama = new Ollama({{
  host: "{site.base_url}",
  {headers},
}});
const answer = await ollama.chat({{ model: "{site.model}", messages: {_JS_PROMPT} }});
console.log(answer.message.content);""",
                kind="js",
            ),
        ),
        check=_GREETING,
        quirk="It reads no variable for the address, and sends `OLLAMA_API_KEY` to ollama.com alone. Node "
        "gives up after five minutes without the start of an answer.",
        seen=IN_THE_TESTS,
    )


def openai_python(site: Site) -> Tool:
    """OpenAI's library for Python."""
    return Tool(
        slug="openai-python",
        name="OpenAI library for Python",
        address=f"`OPENAI_BASE_URL={site.base_url}/v1`",
        key=f"`OPENAI_API_KEY={site.key}`",
        steps=(
            _openai_variables(site),
            Step(
                say="In Python:",
                copy=f"""from openai import OpenAI

answer = OpenAI().chat.completions.create(
    model="{site.model}",
    messages={_PROMPT},
)
print(answer.choices[0].message.content)""",
                kind="python",
            ),
        ),
        check=_GREETING,
        quirk="The address ends in `/v1`. Turned away with 429 or 503, it waits as long as it is told and "
        "tries twice more.",
        seen=IN_THE_TESTS,
    )


def openai_js(site: Site) -> Tool:
    """OpenAI's library for JavaScript."""
    return Tool(
        slug="openai-js",
        name="OpenAI library for JavaScript",
        address=f"`OPENAI_BASE_URL={site.base_url}/v1`",
        key=f"`OPENAI_API_KEY={site.key}`",
        steps=(
            _openai_variables(site),
            Step(
                say="In a module (`.mjs`):",
                copy=f"""import OpenAI from "openai";

const answer = await new OpenAI().chat.completions.create({{
  model: "{site.model}",
  messages: {_JS_PROMPT},
}});
console.log(answer.choices[0].message.content);""",
                kind="js",
            ),
        ),
        check=_GREETING,
        quirk="The address ends in `/v1`. Node gives up after five minutes without the start of an answer;"
        " the library then tries twice more.",
        seen=IN_THE_TESTS,
    )


def anthropic(site: Site) -> Tool:
    """Anthropic's libraries."""
    return Tool(
        slug="anthropic",
        name="Anthropic libraries",
        address=f"`ANTHROPIC_BASE_URL={site.base_url}`",
        key=f"`ANTHROPIC_API_KEY={site.key}`",
        steps=(
            Step(
                say=IN_THE_SHELL,
                copy=exports(ANTHROPIC_BASE_URL=site.base_url, ANTHROPIC_API_KEY=site.key),
                kind="sh",
            ),
            Step(
                say="In Python; the one for TypeScript reads the same variables:",
                copy=f"""from anthropic import Anthropic

answer = Anthropic().messages.create(
    model="{site.model}",
    max_tokens=1000,
    messages={_PROMPT},
)
print(answer.content[-1].text)""",
                kind="python",
            ),
        ),
        check=_GREETING,
        quirk="The address is without `/v1`. Ollama must be 0.14 or newer. It refuses by itself to make a "
        "call without `stream` that it expects to take more than ten minutes.",
        seen=IN_THE_TESTS,
    )


def langchain(site: Site) -> Tool:
    """LangChain for Python."""
    return Tool(
        slug="langchain",
        name="LangChain",
        address=f'`ChatOpenAI(base_url="{site.base_url}/v1", api_key="{site.key}")`',
        key="as written",
        steps=(
            Step(
                say="In Python, with `langchain-openai` installed:",
                copy=f"""from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url="{site.base_url}/v1",
    api_key="{site.key}",
    model="{site.model}",
)
print(model.invoke("{HELLO}").text)""",
                kind="python",
            ),
        ),
        check=_GREETING,
        quirk="An asynchronous stream ends when no token comes for two minutes (`stream_chunk_timeout`). "
        "`OpenAIEmbeddings` needs `check_embedding_ctx_length=False`, or it sends numbers of tokens, which "
        "Ollama refuses.",
        seen=IN_THE_TESTS,
    )


def curl(site: Site) -> Tool:
    """The program curl."""
    body = json.dumps(
        {"model": site.model, "messages": [{"role": "user", "content": HELLO}], "stream": False}
    )
    return Tool(
        slug="curl",
        name="curl",
        address=f"`{site.base_url}/api/chat`",
        key=f'`-H "Authorization: Bearer {site.key}"`',
        steps=(
            Step(
                say="In the shell:",
                copy=f"""curl "{site.base_url}/api/chat" \\
  -H "Authorization: Bearer {site.key}" \\
  -d '{body}'""",
                kind="sh",
            ),
        ),
        check="it prints one JSON object with a greeting in it.",
        quirk='`-N` and `"stream": true` show each token as it comes. It tries again only with `--retry`.',
        seen=IN_THE_TESTS,
    )


def _openai_variables(site: Site) -> Step:
    return Step(
        say=IN_THE_SHELL,
        copy=exports(OPENAI_BASE_URL=f"{site.base_url}/v1", OPENAI_API_KEY=site.key),
        kind="sh",
    )
