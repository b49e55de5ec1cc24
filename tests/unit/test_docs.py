"""What the documents say of the code is so: names, tables, files, links."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest
from msgspec import Struct, structs

from gpushare.core import about, document, why
from gpushare.core.config import Config
from gpushare.core.dialects import ENDPOINTS
from gpushare.core.document import State
from gpushare.core.errors import GpushareError, Internal, render
from gpushare.core.model import Dialect, Kind, Outcome, Phase
from gpushare.core.schema import settings
from gpushare.edge.logs import FIELDS
from tests.integration.matrix import CODES, MATRIX
from tests.integration.scenes import State as CallState
from tests.unit.core.test_errors import every_type, example
from tests.unit.source import PACKAGE, ROOT, modules
from tests.unit.test_layering import EDGE, LAYERS, OUTSIDE

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ARCHITECTURE, API, LOGS, METRICS, RELIABILITY = (
    (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("architecture", "api", "logs", "metrics", "reliability")
)
FOLDERS = "docs|extras|gpushare|tests|requirements|templates|static|systemd"
LAYER_NAMES = "|".join(LAYERS)
# Attributes of classes that are not ours.
FOREIGN = {"StreamResponse.write"}


def code_words(text: str) -> list[str]:
    """Returns everything in backquotes, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def section(text: str, heading: str) -> str:
    """Returns what stands under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Returns the cells of all tables of a text, without their heads."""
    lines = re.findall(r"^\|(?!-).*\|$(?!\n\|-)", text, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


def ticked(cell: str) -> set[str]:
    """Returns the words in backquotes of a cell."""
    return set(re.findall(r"`([^`]+)`", cell))


def purpose(name: str) -> str:
    """Returns the first sentence of a module's docstring."""
    text = ast.get_docstring(modules()[name]) or ""
    return " ".join(re.split(r"\.(?:\s|$)", text, maxsplit=1)[0].split()).replace("``", "`")


def members() -> dict[str, set[str]]:
    """Returns the methods, fields and attributes of every class of ours, inherited ones left out."""
    found: dict[str, set[str]] = {}
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(names_in(node))
    return found


def names_in(owner: ast.ClassDef) -> Iterator[str]:
    """Yields what a class body defines, and what its methods set on ``self``."""
    for node in ast.walk(owner):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Attribute(value=ast.Name(id="self"), attr=name)
            ):
                yield name


# --- every page ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """A path in backquotes leads to a file or a folder; those of the package may leave it out."""
    text = page.read_text()
    named = [word for word in code_words(text) if re.fullmatch(rf"(?:{FOLDERS})/[\w./-]*", word)]
    inside = [word for word in code_words(text) if re.fullmatch(rf"(?:{LAYER_NAMES})/[\w./-]*", word)]
    assert [word for word in named if not (ROOT / word).exists()] == []
    assert [
        word for word in inside if not ((PACKAGE / word).exists() or (PACKAGE / f"{word}.py").exists())
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link between pages finds its file, and within a page its heading."""
    text = page.read_text()
    folder = page.parent
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (folder / path).read_text() if path else text
        titles = re.findall(r"^#+ (.*)$", linked, re.MULTILINE)
        headings = [re.sub(r"[^\w\- ]", "", title).strip().lower() for title in titles]
        assert not anchor or anchor in [heading.replace(" ", "-") for heading in headings], target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_settings_exist(page: Path) -> None:
    """A setting in backquotes is one; events of the log have names of the same form."""
    known = {setting.name for setting in settings(Config())}
    sections = "|".join({name.partition(".")[0] for name in known})
    words = [
        re.fullmatch(rf"((?:{sections})\.[a-z_]+)(?: = .*)?", word) for word in code_words(page.read_text())
    ]
    named = {word[1] for word in words if word} - {"config.toml", "ledger.db"}
    assert named - known <= set(re.findall(r"`(\w+\.\w+)`", LOGS))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_members_exist(page: Path) -> None:
    """``Class.member`` in backquotes is a class of ours with that member."""
    text = page.read_text()
    known = members()
    for word in code_words(text):
        if (found := re.fullmatch(r"([A-Z]\w*[a-z]\w*)\.(\w+)", word)) and word not in FOREIGN:
            assert found[2] in known.get(found[1], set()), word


# --- docs/architecture.md --------------------------------------------------------------------------------


def test_the_way_of_a_request_names_what_is_there() -> None:
    """Each line of the drawing names a function or method of the module in front of it."""
    lines = re.findall(r"^ (\w+/\w+) +([\w.]+) ", section(ARCHITECTURE, "How a request flows"), re.MULTILINE)
    known = members()
    assert len(lines) > 15
    for path, name in lines:
        owner, _, member = name.rpartition(".")
        tree = modules()[f"gpushare.{path.replace('/', '.')}"]
        top = {node.name for node in tree.body if hasattr(node, "name")}
        assert (owner or member) in top, (path, name)
        assert not owner or member in known[owner], (path, name)


def test_the_table_of_layers_is_the_tested_one() -> None:
    """The page and tests/unit/test_layering.py give each layer the same imports."""
    found = {
        next(iter(ticked(layer))): (ours, theirs)
        for layer, ours, theirs in rows(section(ARCHITECTURE, "Who may import whom"))
    }
    assert {layer: ticked(ours) for layer, (ours, _) in found.items()} == LAYERS
    edge = dict(re.findall(r"`(\w+)`: `(\w+)`", found["edge"][1]))
    assert edge == EDGE
    assert {layer: ticked(theirs) for layer, (_, theirs) in found.items() if layer != "edge"} == OUTSIDE


def test_every_module_has_its_row() -> None:
    """The table repeats the first sentence of each module's docstring."""
    start = ARCHITECTURE.index("\n## Modules\n")
    shown = {
        name.strip("`").replace("/", "."): text
        for name, text in rows(ARCHITECTURE[start : ARCHITECTURE.index("\n## Who owns")])
    }
    layers = {f"gpushare.{layer}" for layer in LAYERS} - {"gpushare.app", "gpushare.sim"}
    expected = {
        name.removeprefix("gpushare."): purpose(name)
        for name in modules()
        if name not in {"gpushare", *layers}
    }
    assert shown == expected


@pytest.mark.parametrize("words", [Phase, Outcome, Kind])
def test_the_glossary_has_every_word(words: type[StrEnum]) -> None:
    """Phases, outcomes and kinds are all named, so a log line can be looked up."""
    assert {word.value for word in words} <= ticked(section(ARCHITECTURE, "Glossary"))


# --- docs/api.md -----------------------------------------------------------------------------------------


def test_every_route_is_in_the_table() -> None:
    """Method, path and kind are those of the route table."""
    shown = {
        (method, path.strip("`"), kind)
        for methods, path, kind in rows(section(API, "Routes of Ollama"))
        for method in methods.split(", ")
    }
    assert shown == {(row.method, row.path, row.kind.value) for row in ENDPOINTS}


def test_every_error_is_in_the_table() -> None:
    """Code, status, types, and what a client is told about trying again."""
    table = rows(section(API, "Errors"))
    shown = {tuple(cell.strip("`") for cell in row[:5]) for row in table if len(row) == 6}
    raised = [example(kind) for kind in every_type() if kind.code != Internal.code or kind is Internal]
    assert shown == {
        (error.code, str(error.status), retry(error), error.openai_type, error.anthropic_type)
        for error in raised
    }


def retry(error: GpushareError) -> str:
    """Returns what the table says of an error's headers."""
    headers = render(error, Dialect.OPENAI, request_id="r").headers
    if "x-should-retry" in headers:
        return "no"
    return "Retry-After" if "Retry-After" in headers else ""


def test_every_field_of_the_status_document_is_in_the_table() -> None:
    """Field by field, and every state."""
    text = section(API, "The status document")
    kinds: list[type[Struct]] = [
        document.Document,
        document.Ollama,
        document.Notice,
        document.Running,
        document.Waiting,
        document.Model,
        document.Gpu,
        document.LastDay,
        document.PersonShare,
        document.You,
        document.LastRequest,
    ]
    assert field_rows(text) == [[field.name for field in structs.fields(kind)] for kind in kinds]
    assert {state.value for state in State} <= ticked(text)


def test_every_field_of_the_queue_document_is_in_the_table() -> None:
    """Field by field."""
    kinds: list[type[Struct]] = [why.Queue, why.Place, why.Held, why.Share, why.Load]
    fields = field_rows(section(API, "Why a call waits"))
    assert fields == [[field.name for field in structs.fields(kind)] for kind in kinds]


def field_rows(text: str) -> list[list[str]]:
    """Returns the fields in the second column of a table of documents."""
    return [re.findall(r"`(\w+)`", row[1]) for row in rows(text) if row[1].startswith("`")]


@pytest.mark.parametrize("kind", [about.Whoami, about.Connecting, about.Cancelled, about.Probe])
def test_every_field_of_the_small_documents_is_in_the_table(kind: type[Struct]) -> None:
    """Named as they are written."""
    (row,) = (
        row
        for row in rows(section(API, "Small documents"))
        if row[0].startswith(f"`{kind.__name__.lower()}`")
    )
    assert re.findall(r"`(\w+)`", row[1]) == [field.encode_name for field in structs.fields(kind)]


# --- docs/troubleshoot.md --------------------------------------------------------------------------------

NEVER_SENT = {"client_slow"}
SPOKEN_ELSEWHERE = {"bad_json", "bad_query", "malformed_body", "unsupported_media"}
"""Errors that are given their sentences where they are raised."""


def test_every_error_is_in_the_troubleshooting() -> None:
    """By its code, and with sentences as they are really sent; ``…`` stands for what differs."""
    page = (ROOT / "docs" / "troubleshoot.md").read_text()
    table = [row for row in rows(section_of(page, "A tool shows an error")) if len(row) == 3]
    shown = [(code.strip("`"), sentence.strip("`")) for sentence, code, _ in table]
    said: dict[str, set[str]] = {}
    for kind in every_type():
        error = example(kind)
        said.setdefault(error.code, set()).add(error.message)
    assert {code for code, _ in shown} == said.keys() - NEVER_SENT
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for code, sentence in shown:
        parts = [part.strip() for part in sentence.split("…")]
        pattern = ".*".join(map(re.escape, parts))
        if code in SPOKEN_ELSEWHERE:
            assert all(part in sources for part in parts), sentence
        else:
            assert any(re.fullmatch(pattern, text) for text in said[code]), sentence


def section_of(text: str, heading: str) -> str:
    """Returns what stands under a heading of the second level, with all that is below it."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


# --- docs/logs.md and docs/metrics.md --------------------------------------------------------------------


def test_every_log_field_is_described() -> None:
    """A field that may be logged is in the page, and the page has no other."""
    call, other = section(LOGS, "One line per call: `request.done`"), section(LOGS, "Other events")
    shown = {name for row in rows(call) for name in ticked(row[0])}
    shown |= {name for row in rows(other) for name in ticked(row[1])}
    assert shown <= FIELDS
    assert shown | ticked(other) | {"unlisted"} >= FIELDS


def test_every_metric_is_described() -> None:
    """A family that is exposed is in the page, and the page has no other."""
    texts = (
        node.value for node in ast.walk(modules()["gpushare.edge.metrics"]) if isinstance(node, ast.Constant)
    )
    exposed = {text for text in texts if isinstance(text, str) and re.fullmatch(r"gpushare_\w+", text)}
    shown = {name for row in rows(METRICS) for name in ticked(row[0])}
    assert {re.sub(r"_(total|info)$", "", name) for name in shown} == exposed


# --- docs/reliability.md ---------------------------------------------------------------------------------

STATES = {"met", "scaled", "otherwise", "in part", "not met"}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yields every test function with its file, as in ``unit/test_docs.py``."""
    tests = ROOT / "tests"
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield str(path.relative_to(tests)), node


def promised() -> dict[str, set[str]]:
    """Returns the files whose tests begin their docstrings with a promise's number, by promise."""
    found: dict[str, set[str]] = {}
    for file, node in functions():
        named = re.match(r"(P\d+(?:, P\d+)*):", ast.get_docstring(node) or "")
        for promise in named[1].split(", ") if named else ():
            found.setdefault(promise, set()).add(file)
    return found


def marked() -> dict[str, set[str]]:
    """Returns the tests that carry the mark of a hostile input, by its number."""
    found: dict[str, set[str]] = {}
    for _, node in functions():
        for decorator in node.decorator_list:
            if number := re.fullmatch(r"pytest\.mark\.item\((\d+)\)", ast.unparse(decorator)):
                found.setdefault(number[1], set()).add(node.name)
    return found


def named_in(cell: str) -> set[str]:
    """Returns the tests or test files in backquotes."""
    return {word for word in ticked(cell) if re.fullmatch(r"(?:\w+/)*test_\w+(?:\.py)?", word)}


def check_state(number: str, state: str, last: str) -> None:
    """Checks that what is met has a test, what is not has none, and all else says why."""
    tests = named_in(last)
    why = re.sub(r"`[\w/]*test_\w+(?:\.py)?`,? ?", "", last).strip()
    assert state in STATES, number
    assert tests or state in {"not met", "in part"}, number
    assert not tests or state != "not met", number
    assert why or state == "met", number


def test_every_promise_has_its_row() -> None:
    """Each promise once, with files of tests that name it; none that a test names is called missing."""
    table = rows(section(RELIABILITY, "Promises"))
    assert [row[0] for row in table] == [f"P{number}" for number in range(1, 41)]
    shown = promised()
    for number, _, state, last in table:
        check_state(number, state, last)
        assert named_in(last) <= shown.get(number, set()), number
        assert state != "not met" or number not in shown, number


def test_every_cell_of_the_fault_matrix_is_shown() -> None:
    """Row by row, with the codes that the tests are held to, and what a remark says."""
    table = rows(section(RELIABILITY, "Faults"))
    assert table == [
        [row.name, row.text, *(row.cells.get(state, "") for state in CallState), row.why] for row in MATRIX
    ]
    assert {code for row in MATRIX for code in row.cells.values()} == CODES.keys()


def test_every_code_of_the_fault_matrix_is_explained() -> None:
    """What the client sees, and the outcome."""
    assert rows(section(RELIABILITY, "What the codes mean")) == [
        [name, code.seen, code.written] for name, code in CODES.items()
    ]


def test_every_hostile_input_has_its_row() -> None:
    """Each input once, with exactly the tests that carry its mark."""
    text = RELIABILITY[RELIABILITY.index("\n## Hostile input\n") :]
    table = [row for row in rows(text) if row[0].isdigit()]
    assert [row[0] for row in table] == [str(number) for number in range(1, 93)]
    shown = marked()
    for number, _, _, state, last in table:
        check_state(number, state, last)
        assert named_in(last) == shown.get(number, set()), number
