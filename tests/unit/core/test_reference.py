from pathlib import Path

from gpushare.core.config import Config
from gpushare.core.reference import to_markdown
from gpushare.core.schema import settings

ROOT = Path(__file__).parents[3]


def test_the_page_is_what_the_reference_makes() -> None:
    """The page follows config.toml; after a change: gpushare config docs --markdown > docs/config.md."""
    assert (ROOT / "docs/config.md").read_text() == to_markdown((ROOT / "config.toml").read_text())


def test_every_setting_has_a_row_with_its_meaning() -> None:
    """No setting is missing from the page."""
    page = to_markdown((ROOT / "config.toml").read_text())
    for setting in settings(Config()):
        name = setting.name.partition(".")[2]
        assert any(line.startswith(f"| `{name}` |") for line in page.splitlines()), setting.name


def test_angle_brackets_and_bars_do_not_break_the_table() -> None:
    """A placeholder or a bar in a meaning shows as text."""
    assert to_markdown("[a]\nb = 1  # x <y> | z\n").endswith("| `b` | `1` | X &lt;y&gt; \\| z |\n")
