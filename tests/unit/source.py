"""The package's own source as data, for the tests that hold its shape."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gpushare"


@cache
def modules() -> dict[str, ast.Module]:
    """Returns every module by dotted name; a package goes by its own name."""
    return {dotted(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def dotted(path: Path) -> str:
    """Returns ``gpushare.core.model`` for ``gpushare/core/model.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module) -> Iterator[str]:
    """Yields the dotted name of each module imported anywhere in a tree, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which layer they reach"
            assert node.module
            for alias in node.names:
                # `from gpushare.core import errors` names a module; most imports name something inside one.
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else node.module
