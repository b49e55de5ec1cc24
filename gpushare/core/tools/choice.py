"""Which model the steps for a tool name: one that works here, and works at once if there is one."""

from collections.abc import Iterable, Iterator, Mapping

from gpushare.core.model import ResidentModel
from gpushare.core.names import canonical_model, is_model_name, may_use


def choose_model(
    loaded: Iterable[ResidentModel],
    used: Mapping[str, int],
    installed: Iterable[str],
    *,
    patterns: Iterable[str] = (),
) -> tuple[str | None, int | None]:
    """Returns the name of a model, and the context it is loaded with; None for what nobody knows.

    The first of: in memory, most used, installed.  A model that says it only embeds comes last.  The name is
    plain in every shell and settings file, as all names are that Ollama can have.

    Args:
        loaded: the models in memory.
        used: how many calls each model had; names that are not installed do not count.
        installed: the models in Ollama's store.
        patterns: what the caller's key is limited to.
    """
    patterns = tuple(patterns)
    contexts = {canonical_model(row.name): row.context for row in loaded}
    store = {canonical_model(name): name for name in installed}
    names = [
        name for name in _by_worth(contexts, used, store) if is_model_name(name) and may_use(patterns, name)
    ]
    best = next((name for name in names if "embed" not in name), names[0] if names else None)
    return best, contexts.get(canonical_model(best)) if best else None


def _by_worth(contexts: Iterable[str], used: Mapping[str, int], store: Mapping[str, str]) -> Iterator[str]:
    yield from contexts
    by_use = sorted(used, key=lambda name: used[name], reverse=True)
    yield from (store[name] for name in by_use if name in store)
    yield from store.values()
