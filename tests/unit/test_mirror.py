"""A test file for each module, a module for each test file: where to look is never a question."""

import ast

from tests.unit.source import ROOT, modules

UNIT = ROOT / "tests" / "unit"

# Modules tested through another's tests, and where.
ELSEWHERE: dict[str, str] = {
    "gpushare.core.errors.answers": "unit/core/test_errors.py",
    "gpushare.core.errors.base": "unit/core/test_errors.py",
    "gpushare.core.errors.ollama": "unit/core/test_errors.py",
    "gpushare.core.errors.queue": "unit/core/test_errors.py",
    "gpushare.core.errors.request": "unit/core/test_errors.py",
}

# Tests of the repository as a whole.
WHOLE = {"test_layering", "test_mirror", "test_size"}


def has_code(name: str) -> bool:
    """Returns whether a module holds more than a docstring, imports and names to export."""
    idle = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
    return not all(isinstance(node, idle) for node in modules()[name].body)


def home(name: str) -> str:
    """Returns where a module's tests belong, as in ``core/test_model`` (a package's beside its folder)."""
    *folders, last = name.removeprefix("gpushare.").split(".")
    return "/".join([*folders, f"test_{last}"])


def test_every_module_has_its_tests() -> None:
    """A module's tests are in the file of its name, or in a file of its name and a topic."""
    untested = {
        name
        for name in modules()
        if has_code(name) and not [*UNIT.glob(f"{home(name)}.py"), *UNIT.glob(f"{home(name)}_*.py")]
    }
    assert untested == set(ELSEWHERE)


def test_every_test_file_has_its_module() -> None:
    """A test file that outlived its module, or tests several, is moved or split."""
    homes = {home(name) for name in modules()}
    files = {str(path.relative_to(UNIT).with_suffix("")) for path in UNIT.rglob("test_*.py")} - WHOLE
    assert {
        file for file in files if not any(file == home or file.startswith(f"{home}_") for home in homes)
    } == set()


def test_tests_elsewhere_exist() -> None:
    """The exceptions name files that are there."""
    assert [path for path in ELSEWHERE.values() if not (ROOT / "tests" / path).is_file()] == []
