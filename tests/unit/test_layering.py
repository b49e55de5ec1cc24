"""Who may import whom: the table of docs/architecture.md, held by reading every import."""

import graphlib
import sys

import pytest

from tests.unit.source import imports, modules

# Layer -> what else of gpushare it may import.  Inside a layer everything may, but see EDGE and SIM.
LAYERS = {
    "core": {"core"},
    "edge": {"core"},
    "engine": {"core", "engine"},
    "web": {"core", "engine", "web"},
    "app": {"app", "core", "edge", "engine", "web"},
    "sim": {"core", "sim"},
    "cli": {"app", "cli", "core", "edge", "sim"},
}

# Layer -> packages from outside; msgspec only computes and is for all.  An edge module has the one in EDGE.
OUTSIDE: dict[str, set[str]] = {
    "core": set(),
    "engine": {"structlog"},
    "web": {"aiohttp", "aiohttp_jinja2", "itsdangerous", "jinja2", "markupsafe", "structlog"},
    "app": {"aiohttp", "aiohttp_jinja2", "structlog", "uvloop"},
    "sim": {"aiohttp"},
    "cli": {"aiohttp", "click", "rich"},  # aiohttp for the people of the demo
}
EDGE = {
    "files": "tomli_w",
    "logs": "structlog",
    "metrics": "prometheus_client",
    "nvml": "pynvml",
    "ollama": "aiohttp",
    "upstream": "httptools",
}

# The computing parts of the standard library: nothing that waits, reads a clock or touches the machine.
CORE_STANDARD = set(
    "array base64 binascii bisect codecs collections collections.abc dataclasses datetime difflib "
    "email.message email.parser enum functools hashlib heapq hmac ipaddress itertools json math "
    "operator re string tomllib types typing unicodedata urllib.parse zlib".split()
)
ENGINE_FORBIDDEN = set(
    "io os pathlib random secrets socket sqlite3 subprocess tempfile threading time".split()
)

# What the simulator shares with the product, so that it cannot agree with the product's mistakes.
SIM_SHARES = {"gpushare.core.dialects", "gpushare.core.model"}

# What owns no kind of I/O, but the thread in which any of them may take its time.
BESIDE = "gpushare.edge.beside"

# The modules that know how aiohttp's server works inside; an upgrade of aiohttp is checked there.
AIOHTTP_INSIDE = {"gpushare.web.protocol", "gpushare.web.server", "gpushare.web.transport"}


def layer(module: str) -> str:
    """Returns the layer of a module of ours, empty for the package itself (which holds only the version)."""
    return module.split(".")[1] if "." in module else ""


def one_edge(name: str, to: str) -> bool:
    """Returns whether both are one module of the edge, or parts of one package of it, or one is for all."""
    if not layer(name) == layer(to) == "edge":
        return False
    return to == BESIDE or name.split(".")[2:3] == to.split(".")[2:3]


def ours() -> list[tuple[str, str]]:
    """Returns every import between two modules of ours."""
    found = [(name, target) for name, tree in modules().items() for target in imports(tree)]
    return [(name, target) for name, target in found if target.split(".")[0] == "gpushare"]


def foreign() -> list[tuple[str, str]]:
    """Returns every import of a package that is neither ours nor the standard library's."""
    found = [(name, target) for name, tree in modules().items() for target in imports(tree)]
    known = {"gpushare", *sys.stdlib_module_names}
    return [(name, target) for name, target in found if target.split(".")[0] not in known]


def standard(of_layer: str) -> list[tuple[str, str]]:
    """Returns every import of the standard library in one layer."""
    named = [(name, target) for name, tree in modules().items() for target in imports(tree)]
    return [(n, t) for n, t in named if layer(n) == of_layer and t.split(".")[0] in sys.stdlib_module_names]


def test_imports_point_down() -> None:
    """A module imports only from the layers below its own."""
    apart = [(name, to) for name, to in ours() if layer(to) and not one_edge(name, to)]
    assert [(name, to) for name, to in apart if layer(to) not in LAYERS[layer(name)]] == []


def test_every_layer_is_in_the_table() -> None:
    """A new top-level module or folder needs a place in the table first."""
    assert {layer(name) for name in modules()} - {""} <= set(LAYERS)


def test_edge_modules_do_not_know_each_other() -> None:
    """Each edge module, or package, owns one kind of I/O alone; only the app sees two of them."""
    among = [(name, to) for name, to in ours() if layer(name) == layer(to) == "edge"]
    assert [(name, to) for name, to in among if not one_edge(name, to)] == []


def test_the_simulator_shares_only_the_wire_tables() -> None:
    """The simulated Ollama is independent of what it is used to test."""
    wrong = [
        to for name, to in ours() if layer(name) == "sim" and layer(to) == "core" and to not in SIM_SHARES
    ]
    assert wrong == []


def test_there_is_no_import_cycle() -> None:
    """The modules of the package can be put in one order."""
    graph = {
        name: {to for to in imports(tree) if to in modules() and to != name}
        for name, tree in modules().items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_packages_from_outside_stay_in_their_layer() -> None:
    """A dependency is imported only where the table says, so it can be replaced in one place."""

    def allowed(name: str) -> set[str]:
        if layer(name) == "edge":
            return {"msgspec", EDGE.get(name.removeprefix("gpushare.edge."), "msgspec")}
        return {"msgspec", *OUTSIDE[layer(name)]}

    assert [(name, to) for name, to in foreign() if to.split(".")[0] not in allowed(name)] == []


def test_core_uses_only_the_computing_standard_library() -> None:
    """Core code cannot wait, read a clock, open a file or draw a random number."""
    assert [(name, to) for name, to in standard("core") if to not in CORE_STANDARD] == []


def test_engine_opens_nothing_itself() -> None:
    """The engine reaches files, sockets, clocks and randomness only through what it is handed."""
    assert [(name, to) for name, to in standard("engine") if to in ENGINE_FORBIDDEN] == []


def test_only_three_modules_know_the_inside_of_aiohttp() -> None:
    """Handlers see aiohttp's public web interface and nothing else of it."""
    names = [(name, to) for name, to in foreign() if layer(name) == "web" and to.startswith("aiohttp.")]
    assert [(name, to) for name, to in names if to != "aiohttp.web" and name not in AIOHTTP_INSIDE] == []
