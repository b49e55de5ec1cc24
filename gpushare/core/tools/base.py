"""What is said of a tool: what to type where, how to see that it works, and what is odd about it."""

from dataclasses import dataclass

EXAMPLE_KEY = "gs_your_key"
"""Stands for a key nobody has pasted; plain ASCII, so that a tool sends it and is told that it is unknown."""
EXAMPLE_MODEL = "qwen3-coder:30b"
USUAL_CONTEXT = 32_768
"""Ollama's own choice on a card of 24 GB."""
AGENT_CONTEXT = 65_536
"""What coding agents advise."""
IN_THE_SHELL = "In the shell, or in `~/.profile` for always:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is filled in.

    ``base_url`` has no slash at its end.  ``context`` is the number of tokens the model was loaded with: a
    tool that asks for another number makes Ollama load the model again, for everybody.
    """

    base_url: str
    key: str = EXAMPLE_KEY
    model: str = EXAMPLE_MODEL
    context: int = USUAL_CONTEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do: a sentence, with code in backquotes, and what to copy.

    ``kind`` is the language of ``copy``; empty for a value that goes into a field of a form.
    """

    say: str
    copy: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    ``address`` and ``key`` are the shortest that can be said of the two.  ``seen`` tells with which version
    of the tool the steps were run; None where they are from its documents only.
    """

    slug: str
    name: str
    address: str
    key: str
    steps: tuple[Step, ...]
    check: str
    quirk: str
    seen: str | None

    @property
    def blocks(self) -> tuple[Step, ...]:
        """The steps that have something to copy."""
        return tuple(step for step in self.steps if step.copy)


def exports(**variables: str) -> str:
    """Returns the shell lines that set variables."""
    return "\n".join(f"export {name}={value}" for name, value in variables.items())
