"""The pretend model store: what is installed, and the documents about it."""

import hashlib
import time
from dataclasses import replace

from gpushare.sim import gojson
from gpushare.sim.gpu import Gpu
from gpushare.sim.script import Script, SimModel

_MODIFIED_NS = 1_785_500_000_123_456_789
_PREFIXES = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")


def full_name(name: str) -> str:
    """Returns the short name with its tag, in lower case: names match without regard to case."""
    name = name.lower()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    name = name.removesuffix(":local")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def is_name(name: str) -> bool:
    """Tells whether Ollama would accept this as a model name."""
    return bool(name) and all(char.isalnum() or char in "-_.:/" for char in name)


class Store:
    """Owns: the installed models and the blobs."""

    def __init__(self, script: Script) -> None:
        self._models = {full_name(model.name): model for model in script.models}
        self.blobs: set[str] = set()

    def find(self, name: str) -> SimModel | None:
        """Returns the installed model, or None."""
        return self._models.get(full_name(name))

    def put(self, name: str, like: SimModel | None = None) -> None:
        """Installs a model, as a copy of another where one is given."""
        made = replace(like or SimModel(name="x"), name=full_name(name))
        self._models[made.name] = made

    def remove(self, name: str) -> bool:
        """Removes a model and tells whether it was there."""
        return self._models.pop(full_name(name), None) is not None

    def tags(self) -> dict[str, object]:
        """Returns ``/api/tags``."""
        return {"models": [{**_head(model), **_tail(model)} for model in self._models.values()]}

    def models(self) -> dict[str, object]:
        """Returns ``/v1/models``."""
        return {"object": "list", "data": [one_model(name) for name in self._models]}

    def show(self, model: SimModel, *, verbose: bool) -> dict[str, object]:
        """Returns ``/api/show``; verbose adds the long vocabulary."""
        info: dict[str, object] = {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context,
            "tokenizer.ggml.tokens": [f"token{i}" for i in range(32_000)] if verbose else None,
        }
        return {
            "modelfile": f"# Simulated: there is no model here.\nFROM {model.name}\n",
            "parameters": 'stop                           "<|end|>"',
            "template": "{{ .Prompt }}",
            "details": _details(model),
            "model_info": info,
            "capabilities": _capabilities(model),
            "modified_at": gojson.timestamp(_MODIFIED_NS),
        }

    def ps(self, gpu: Gpu, now: float) -> dict[str, object]:
        """Returns ``/api/ps``: resident models, latest expiry first; ``now`` is the event loop's time."""
        runners = sorted(gpu.resident.values(), key=lambda runner: -runner.expires_at)
        wall = time.time()
        rows = []
        for runner in runners:
            expires = int((wall + runner.expires_at - now) * 1e9)
            size = runner.model.size
            row = {**_head(runner.model), "size": size, "digest": _digest(runner.model.name)}
            row |= {"details": _details(runner.model), "expires_at": gojson.timestamp(expires)}
            rows.append({**row, "size_vram": size, "context_length": runner.context})
        return {"models": rows}


def one_model(name: str) -> dict[str, object]:
    """Returns one entry of ``/v1/models``."""
    created = _MODIFIED_NS // 1_000_000_000
    return {"id": name, "object": "model", "created": created, "owned_by": "library"}


def _head(model: SimModel) -> dict[str, object]:
    name = full_name(model.name)
    return {"name": name, "model": name}


def _tail(model: SimModel) -> dict[str, object]:
    return {
        "modified_at": gojson.timestamp(_MODIFIED_NS),
        "size": model.size,
        "digest": _digest(model.name),
        "details": _details(model),
    }


def _digest(name: str) -> str:
    return hashlib.sha256(full_name(name).encode()).hexdigest()


def _capabilities(model: SimModel) -> list[str]:
    if model.embedding:
        return ["embedding"]
    return ["completion", "tools", *(["thinking"] if model.thinking else [])]


def _details(model: SimModel) -> dict[str, object]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameters,
        "quantization_level": "Q4_K_M",
    }
