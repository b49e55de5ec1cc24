"""Nothing grows past what can be read at once."""

import ast

from tests.unit.source import PACKAGE, modules

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


def test_no_module_is_too_long() -> None:
    """A module that needs more lines has two purposes and is split."""
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_function_is_too_long() -> None:
    """A function fits on a screen, its docstring included."""
    lengths = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
