import tomllib
from typing import Any

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushare.core.places import fill, places

TEXT = '''# comment = "no key"
[server]  # [not] a = header
  listen = "127.0.0.1:1"   # x = 1
note = """
trap = 1
"""
'quo"ted'."o\\u0074her" = [1, 2, # ] comment
  3]
[a . b]
c.d = { e = 1, f = { g = "}" } }
[[rule]]
x = 1979-05-27 07:32:00
[[rule]]
x = 1.5
[rule.deep]
y = 'it''s'
'''.replace("'it''s'", "'its'")


def test_each_key_has_its_line_and_column() -> None:
    """Keys are found in tables, dotted names, inline tables, lists of tables, past strings and comments."""
    found = places(TEXT)
    at = {path: (place.line, place.column, place.width) for path, place in found.items()}
    assert at[("server",)] == (2, 2, 6)
    assert at[("server", "listen")] == (3, 3, 6)
    assert at[("server", "note")] == (4, 1, 4)
    assert at[("server", 'quo"ted', "other")] == (7, 1, 22)
    assert at[("a", "b")] == (9, 2, 5)
    assert at[("a", "b", "c", "d")] == (10, 1, 3)
    assert at[("a", "b", "c", "d", "f", "g")] == (10, 22, 1)
    assert at[("rule", 0, "x")] == (12, 1, 1)
    assert at[("rule", 1, "x")] == (14, 1, 1)
    assert at[("rule", 1, "deep", "y")] == (16, 1, 1)
    assert ("server", "trap") not in at


def test_quotes_at_the_end_of_a_long_text_belong_to_it() -> None:
    """A long text may end in one or two quotes of its own; what follows is still found."""
    for text in ('a = """x""""\nb = 1\n', "a = '''x'''''\nb = 1\n", 'a = """\\""""\nb = 1\n'):
        assert places(text)[("b",)].line == 2
        assert fill(text, {("a",): "1"}) == "a = 1\nb = 1\n"


def test_windows_line_ends_change_nothing() -> None:
    """A file written on Windows has the same places."""
    lines = {path: place.line for path, place in places(TEXT).items()}
    assert {path: place.line for path, place in places(TEXT.replace("\n", "\r\n")).items()} == lines


def test_values_are_filled_in_and_comments_stay() -> None:
    """Filling in replaces the values named and not one character else."""
    text = '[server]\nlisten = "a"  # address\nname = ""\n[state]\ndir = ""  # where\n'
    filled = fill(text, {("server", "listen"): '"b:1"', ("state", "dir"): '"/x"'})
    assert filled == '[server]\nlisten = "b:1"  # address\nname = ""\n[state]\ndir = "/x"  # where\n'


_NAMES = st.text(min_size=1, max_size=6)
_LEAVES = st.one_of(st.integers(), st.booleans(), st.text(max_size=8), st.floats(allow_nan=False), st.dates())
_TABLES = st.recursive(
    st.dictionaries(_NAMES, _LEAVES | st.lists(_LEAVES, max_size=3), max_size=4),
    lambda inner: st.dictionaries(_NAMES, inner | _LEAVES, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(_TABLES)
def test_every_key_of_any_document_is_found(tree: dict[str, Any]) -> None:
    """Whatever a TOML writer produces, each key has a place that shows that key."""
    text = tomli_w.dumps(tree)
    found = places(text)
    for path in _paths(tomllib.loads(text)):
        place = found[path]
        line = text.split("\n")[place.line - 1]
        written = line[place.column - 1 : place.column - 1 + place.width]
        assert tomllib.loads(f"{written} = 1")


def _paths(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in tree.items():
        path = (*above, name)
        if isinstance(value, dict):
            found += _paths(value, path) if value else []
        else:
            found.append(path)
    return found
