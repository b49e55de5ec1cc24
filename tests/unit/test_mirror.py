"""A test file for each module, a module for each test file: where to look is never a question."""

import ast

from tests.unit.source import ROOT, modules

UNIT = ROOT / "tests" / "unit"

# Modules that only make sense together: a running gateway tests them.
TOGETHER = {
    "gpushare.app.process": "integration/test_lifecycle.py",
    "gpushare.app.serving": "integration/test_lifecycle.py",
    "gpushare.web.callers": "integration/test_calls.py",
    "gpushare.web.inference": "integration/test_calls.py",
    "gpushare.web.middleware": "integration/test_calls.py",
    "gpushare.web.parts": "integration/test_calls.py",
}

# Tests of the repository as a whole.
WHOLE = {"test_conservation", "test_docs", "test_layering", "test_mirror", "test_size"}


def has_code(name: str) -> bool:
    """Returns whether a module does anything: docstrings, imports, names to export and protocols do not."""
    return not all(idle(node) for node in modules()[name].body)


def idle(node: ast.stmt) -> bool:
    """Returns whether a statement has nothing that could be tested."""
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    return isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign)


def homes(name: str) -> list[str]:
    """Returns where a module's tests belong, as in ``core/test_model``.

    The tests of a package lie beside its folder, and those of its parts may lie there too: the parts of
    ``core/errors`` are tested in ``core/test_errors``.
    """
    *folders, last = name.split(".")[1:] or [name]
    own = "/".join([*folders, f"test_{last}"])
    part = len(folders) > 1  # the first folder is the layer
    return [own, "/".join([*folders[:-1], f"test_{folders[-1]}"])] if part else [own]


def is_tested(name: str) -> bool:
    """Returns whether there is a test file of the module's name, or of its name and a topic."""
    return any([*UNIT.glob(f"{home}.py"), *UNIT.glob(f"{home}_*.py")] for home in homes(name))


def test_every_module_has_its_tests() -> None:
    """A module's tests are where its name says."""
    assert {name for name in modules() if has_code(name) and not is_tested(name)} == set(TOGETHER)


def test_every_test_file_has_its_module() -> None:
    """A test file that outlived its module, or tests several, is moved or split."""
    known = [home for name in modules() for home in homes(name)]
    files = {str(path.relative_to(UNIT).with_suffix("")) for path in UNIT.rglob("test_*.py")} - WHOLE
    lost = {file for file in files if not any(file == home or file.startswith(f"{home}_") for home in known)}
    assert lost == set()


def test_tests_of_the_whole_exist() -> None:
    """The exceptions name files that are there."""
    assert [path for path in TOGETHER.values() if not (ROOT / "tests" / path).is_file()] == []
