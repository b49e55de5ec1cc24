"""docs/conformance.md lists every case, and exactly the tests that show it."""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

CASES = range(1, 91)
STATES = {"met", "scaled", "otherwise", "in part", "not met"}
HERE = Path(__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
ROW = re.compile(r"\| (\d+) \| (.+?) \| (.+?) \| (.+) \|")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: ``tests`` are the names in it, ``why`` the words before them."""

    case: int
    module: str
    state: str
    tests: frozenset[str]
    why: str


def rows() -> list[Row]:
    """Returns the table's rows in order."""
    found, module = [], ""
    for line in DOCUMENT.read_text().splitlines():
        if named := re.fullmatch(r"`tests/conformance/(test_\w+\.py)`", line):
            module = named[1]
        elif row := ROW.fullmatch(line):
            tests = frozenset(re.findall(r"`(test_\w+)`", row[4]))
            why = re.sub(r"`test_\w+`,? ?", "", row[4]).strip()
            found.append(Row(int(row[1]), module, row[3], tests, why))
    return found


def marked() -> dict[tuple[int, str], set[str]]:
    """Returns the tests that carry a case's mark, by case and module, as they stand in the sources."""
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    for path in HERE.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for case in cases_of(node):
                    found[case, path.name].add(node.name)
    return found


def cases_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[int]:
    """Returns the numbers in a test's ``pytest.mark.case`` decorators."""
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    numbers = [re.fullmatch(r"pytest\.mark\.case\((\d+)\)", mark) for mark in marks]
    return [int(number[1]) for number in numbers if number is not None]


def test_every_case_has_one_row() -> None:
    """No case is forgotten and none is listed twice."""
    assert [row.case for row in rows()] == list(CASES)


def test_the_rows_name_exactly_the_marked_tests() -> None:
    """A test that is renamed, added, moved or removed must change the table, and the other way round."""
    listed = {(row.case, row.module): set(row.tests) for row in rows() if row.tests}
    assert listed == marked()


def test_the_states_tell_the_truth() -> None:
    """What is met has a test; what is not has none; and all but what is met as written says why."""
    for row in rows():
        assert row.state in STATES, row
        assert bool(row.tests) == (row.state != "not met"), row
        assert bool(row.why) == (row.state != "met"), row


def test_no_listed_test_is_skipped() -> None:
    """A case is shown by a test that runs."""
    left_out = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail)\b")
    assert [path.name for path in HERE.glob("test_*.py") if left_out.search(path.read_text())] == []
