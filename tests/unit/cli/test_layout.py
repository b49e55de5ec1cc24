from pathlib import Path

from gpushare.cli.layout import Layout


def test_a_prepared_tree_has_the_same_paths_below_it() -> None:
    """A package is made of it."""
    live, tree = Layout(), Layout(Path("/srv/tree"))
    assert (live.is_live, tree.is_live) == (True, False)
    assert (live.config, tree.config) == (
        Path("/etc/gpushare/config.toml"),
        Path("/srv/tree/etc/gpushare/config.toml"),
    )
    assert (live.state, live.program, live.home) == (
        Path("/var/lib/gpushare"),
        Path("/opt/gpushare/venv"),
        Path("/opt/gpushare"),
    )
    assert (tree.command, tree.units) == (
        Path("/srv/tree/usr/local/bin/gpushare"),
        Path("/srv/tree/etc/systemd/system"),
    )
