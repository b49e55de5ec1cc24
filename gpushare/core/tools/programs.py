"""Programs with settings of their own (chats, editors, agents): where these are and what goes into them.

The forms are those of each program's own documents; ``Tool.seen`` tells which were run.
"""

import json

from gpushare.core.tools.base import AGENT_CONTEXT, IN_THE_SHELL, Site, Step, Tool, exports

_REPLY = 4096  # tokens kept for an answer where a tool divides the context


def ollama(site: Site) -> Tool:
    """Ollama's own command line."""
    address = f"OLLAMA_HOST={site.base_url}/k/{site.key}"
    return Tool(
        slug="ollama",
        name="`ollama` command line",
        address=f"`{address}`",
        key="in the address: it cannot send one",
        steps=(
            Step(say="In the shell:", copy=f"export {address}", kind="sh"),
            Step(say="Ask something:", copy=f'ollama run {site.model} "Say hello."', kind="sh"),
        ),
        check="`ollama list` shows this server's models.",
        quirk="It sends no key in a header and does not read `OLLAMA_API_KEY`; an admin may have "
        "turned keys in addresses off (`auth.key_in_path`). Pulling and deleting models is for admins.",
        seen="its requests, in every run of the tests",
    )


def claude_code(site: Site) -> Tool:
    """Claude Code, by its variables."""
    models = {
        f"ANTHROPIC_{name}": site.model
        for name in ("MODEL", "DEFAULT_OPUS_MODEL", "DEFAULT_SONNET_MODEL", "DEFAULT_HAIKU_MODEL")
    }
    variables = exports(
        ANTHROPIC_BASE_URL=site.base_url,
        ANTHROPIC_AUTH_TOKEN=site.key,
        **models,
        CLAUDE_CODE_SUBAGENT_MODEL=site.model,
        CLAUDE_CODE_ATTRIBUTION_HEADER="0",
    )
    return Tool(
        slug="claude-code",
        name="Claude Code",
        address=f"`ANTHROPIC_BASE_URL={site.base_url}`",
        key=f"`ANTHROPIC_AUTH_TOKEN={site.key}`, and its model names set to a local model",
        steps=(
            Step(say=IN_THE_SHELL, copy=f"{variables}\nunset ANTHROPIC_API_KEY", kind="sh"),
            Step(say="Start it:", copy="claude", kind="sh"),
        ),
        check="`/status` in it shows this address, and a first question is answered.",
        quirk="The address is without `/v1`; with it, it blames the model. Ollama must be 0.14 or newer. It "
        "has names for a large, a usual and a small model; all must be one that this server has, or calls "
        "fail. Without the last variable each conversation begins with a line of its own, and the GPU reads "
        f"the same long prompt anew for each. Turned away, it waits as long as it is told.{_agent(site)}",
        seen="2.1.197",
    )


def codex(site: Site) -> Tool:
    """Codex's command line, by its settings file."""
    return Tool(
        slug="codex",
        name="Codex CLI",
        address=f'`base_url = "{site.base_url}/v1"`',
        key="the variable that `env_key` names",
        steps=(
            Step(
                say="In `~/.codex/config.toml`, the first four lines above every table:",
                copy=f"""model = "{site.model}"
model_provider = "gpushare"
model_context_window = {site.context}
web_search = "disabled"

[model_providers.gpushare]
name = "gpushare"
base_url = "{site.base_url}/v1"
env_key = "GPUSHARE_KEY"
wire_api = "responses\"""",
                kind="toml",
            ),
            Step(say=IN_THE_SHELL, copy=exports(GPUSHARE_KEY=site.key), kind="sh"),
            Step(say="Start it:", copy="codex", kind="sh"),
        ),
        check='`codex exec "Say hello."` prints a greeting.',
        quirk="It warns that it does not know the model; that is harmless. It asks for no list of models: "
        "`model` must be one that this server has. Its web search would be Ollama's, which this server keeps "
        "closed. Turned away, it comes back five times within a few seconds, whatever it is told, and shows "
        f"only the number; `stream_max_retries` in the last table makes that more.{_agent(site)}",
        seen="0.171.0",
    )


def opencode(site: Site) -> Tool:
    """OpenCode, by its settings file."""
    settings = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            "gpushare": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "gpushare",
                "options": {"baseURL": f"{site.base_url}/v1", "apiKey": site.key},
                "models": {
                    site.model: {
                        "name": site.model,
                        "limit": {"context": site.context, "output": _reply(site)},
                    }
                },
            }
        },
        "model": f"gpushare/{site.model}",
    }
    return Tool(
        slug="opencode",
        name="OpenCode",
        address=f'`"baseURL": "{site.base_url}/v1"`',
        key=f'`"apiKey": "{site.key}"`',
        steps=(
            Step(say="In `~/.config/opencode/opencode.json`:", copy=_json(settings), kind="json"),
            Step(say="Start it:", copy="opencode", kind="sh"),
        ),
        check='`opencode run "Say hello."` prints a greeting.',
        quirk=f"It asks for no list of models: every one you want stands in the file.{_agent(site)}",
        seen="1.18.33",
    )


def continue_dev(site: Site) -> Tool:
    """Continue, the extension for editors."""
    return Tool(
        slug="continue",
        name="Continue",
        address=f"`apiBase: {site.base_url}`",
        key=f"`apiKey: {site.key}`",
        steps=(
            Step(
                say="In `~/.continue/config.yaml`; if you have one, add the entry below `models`:",
                copy=f"""name: gpushare
version: 0.0.1
schema: v1
models:
  - name: "{site.model} on gpushare"
    provider: ollama
    model: "{site.model}"
    apiBase: "{site.base_url}"
    apiKey: "{site.key}"
    roles: [chat, edit, apply]
    defaultCompletionOptions:
      contextLength: {site.context}""",
                kind="yaml",
            ),
        ),
        check="the model stands in the list below the chat, and a first question is answered.",
        quirk="Without `contextLength` it asks for 8192 tokens, and Ollama loads the model again for "
        "everybody.",
        seen="its command line 1.5.47",
    )


def cline(site: Site) -> Tool:
    """Cline, the extension for editors."""
    return Tool(
        slug="cline",
        name="Cline",
        address=f"base URL `{site.base_url}`",
        key="the API key field",
        steps=(
            Step(say="In Cline's settings, under API Configuration, choose the provider Ollama."),
            Step(say="Turn on the custom base URL and set it to:", copy=site.base_url),
            Step(say="Into the field for the API key:", copy=site.key),
            Step(say="As the model:", copy=site.model),
            Step(say="As the context window:", copy=str(site.context)),
        ),
        check="a first question is answered.",
        quirk="It asks for 32768 tokens of context unless told otherwise; another size than the one here "
        "makes Ollama load the model again for everybody. It gets the list of models without the "
        "key, so the list is empty where `auth.anonymous_models` is off: type the name then. It "
        "gives up after five minutes without an answer. Its command line takes the address by "
        f"`cline auth -p openai-compatible -b {site.base_url}/v1`, the key by `-k` and the model by `-m`.",
        seen="its command line 3.0.65",
    )


def zed(site: Site) -> Tool:
    """The editor Zed."""
    settings = {
        "language_models": {"ollama": {"api_url": site.base_url, "context_window": site.context}},
        "agent": {"default_model": {"provider": "ollama", "model": site.model}},
    }
    return Tool(
        slug="zed",
        name="Zed",
        address=f'`"api_url": "{site.base_url}"`',
        key=f"`OLLAMA_API_KEY={site.key}`",
        steps=(
            Step(
                say="In `~/.config/zed/settings.json`, merged with what is there:",
                copy=_json(settings),
                kind="json",
            ),
            Step(say="In the agent's settings, under LLM providers, Ollama, as the API key:", copy=site.key),
        ),
        check="the models of this server are in the agent's list, and a first question is answered.",
        quirk="It asks for 4096 tokens of context unless told otherwise, and tells Ollama to keep the model "
        "for ever. `OLLAMA_API_KEY` works too, if Zed is started from a shell that has it. An error in the "
        "middle of an answer reads `Unable to parse chat response` there.",
        seen=None,
    )


def copilot(site: Site) -> Tool:
    """Copilot in Visual Studio Code, by its custom endpoint."""
    model = {
        "id": site.model,
        "name": f"{site.model} on gpushare",
        "url": f"{site.base_url}/v1/chat/completions",
        "toolCalling": True,
        "vision": False,
        "maxInputTokens": site.context - _reply(site),
        "maxOutputTokens": _reply(site),
    }
    return Tool(
        slug="copilot",
        name="VS Code Copilot",
        address=f'`"url": "{site.base_url}/v1/chat/completions"`',
        key="the key field of its Custom Endpoint",
        steps=(
            Step(
                say="Run `Chat: Manage Language Models`, Add Models, Custom Endpoint; group and display "
                "name gpushare, API type Chat Completions, and as the API key:",
                copy=site.key,
            ),
            Step(
                say="VS Code opens `chatLanguageModels.json`. Into the list `models` of the new entry:",
                copy=_json(model),
                kind="json",
            ),
        ),
        check="the model is in the list below the chat (restart VS Code if not), and a first question is "
        "answered.",
        quirk="VS Code 1.122 or newer. Its entry Ollama cannot send a key, so use Custom Endpoint. Agents "
        "show only models that can call tools. Titles and commit messages need `chat.utilityModel` "
        "set to this model too. In a company account an admin must have allowed own keys.",
        seen=None,
    )


def copilot_cli(site: Site) -> Tool:
    """Copilot's command line, by its variables."""
    return Tool(
        slug="copilot-cli",
        name="Copilot CLI",
        address=f"`COPILOT_PROVIDER_BASE_URL={site.base_url}/v1`",
        key=f"`COPILOT_PROVIDER_API_KEY={site.key}`",
        steps=(
            Step(
                say=IN_THE_SHELL,
                copy=exports(
                    COPILOT_PROVIDER_BASE_URL=f"{site.base_url}/v1",
                    COPILOT_PROVIDER_API_KEY=site.key,
                    COPILOT_MODEL=site.model,
                    COPILOT_PROVIDER_MAX_PROMPT_TOKENS=str(site.context - _reply(site)),
                    COPILOT_PROVIDER_MAX_OUTPUT_TOKENS=str(_reply(site)),
                ),
                kind="sh",
            ),
            Step(say="Start it:", copy="copilot", kind="sh"),
        ),
        check='`copilot -p "Say hello."` prints a greeting.',
        quirk="It needs no account of GitHub then. It reports a wrong key in words of its own. Turned away, "
        f"it waits as long as it is told and tries five times.{_agent(site)}",
        seen="1.0.102",
    )


def aider(site: Site) -> Tool:
    """The pair programmer aider."""
    return Tool(
        slug="aider",
        name="aider",
        address=f"`OLLAMA_API_BASE={site.base_url}`",
        key=f"`OLLAMA_API_KEY={site.key}`",
        steps=(
            Step(
                say=IN_THE_SHELL,
                copy=exports(OLLAMA_API_BASE=site.base_url, OLLAMA_API_KEY=site.key),
                kind="sh",
            ),
            Step(
                say="In `~/.aider.model.settings.yml`:",
                copy=f"""- name: ollama_chat/{site.model}
  extra_params:
    num_ctx: {site.context}""",
                kind="yaml",
            ),
            Step(say="Start it:", copy=f"aider --model ollama_chat/{site.model}", kind="sh"),
        ),
        check=f'`aider --model ollama_chat/{site.model} --message "Say hello."` prints a greeting.',
        quirk="Without `num_ctx` it asks for another context size with every request, and Ollama loads the "
        "model again each time, for everybody. A call that fails, even for a wrong key, it repeats for a "
        "minute, and shows why each time.",
        seen="0.86.2",
    )


def open_webui(site: Site) -> Tool:
    """The chat Open WebUI."""
    return Tool(
        slug="open-webui",
        name="Open WebUI",
        address=f"connection URL `{site.base_url}`",
        key="the connection's key",
        steps=(
            Step(
                say="In Admin Panel, Settings, Connections, Ollama API, add a connection with the URL:",
                copy=site.base_url,
            ),
            Step(say="As its key (Bearer):", copy=site.key),
        ),
        check="the models of this server are in the list of a new chat.",
        quirk="Everybody behind its one key is one person to the queue. It sends more requests than people"
        " type: for titles, tags and follow-up questions.",
        seen="0.12.4",
    )


def _agent(site: Site) -> str:
    """Returns what to say where an agent wants more context than there is."""
    if site.context >= AGENT_CONTEXT:
        return ""
    return f" Agents want a context of {AGENT_CONTEXT} tokens or more; here it is {site.context}."


def _reply(site: Site) -> int:
    """Returns the tokens kept for an answer: never more than half of the context."""
    return min(_REPLY, site.context // 2)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
