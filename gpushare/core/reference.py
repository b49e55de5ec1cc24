"""The page ``docs/config.md``, made from the comments of ``config.toml``.

Called by: ``gpushare config docs --markdown``; a test holds the page equal to what this makes.  Rules: each
setting is one line ``name = value  # meaning``, and each section one line ``[name]``.
"""

import re
from collections.abc import Iterator

HEAD = """# Settings

Made from `config.toml` by `gpushare config docs --markdown > docs/config.md`; change it there.

Where gpushare looks, the first found wins and files are never merged: `--config FILE`, `$GPUSHARE_CONFIG`,
`$XDG_CONFIG_HOME/gpushare/config.toml` (`~/.config/…`), `/etc/gpushare/config.toml`. Without a file the
defaults below hold. A variable such as `GPUSHARE_QUEUE__SLOTS=2` sets one value over the file.
`gpushare config check` tells every mistake at once, `gpushare config show` what is in effect and why.

A change acts on `systemctl reload gpushare`, or SIGHUP: everything is read and checked again, and taken into
use whole or not at all; calls that run or wait are left alone. The log names what changed
(`config.loaded`) or every mistake (`config.rejected`). Where *(restart)* is noted, a change acts only after a
restart, and the log names it.

Times are written `"30s"`, `"5m"`, `"2h"`, `"7d"`; sizes `"32MB"` (millions) or `"32MiB"` (powers of two).
"""
_SETTING = re.compile(r"(?P<name>\w+) = (?P<value>\"[^\"]*\"|\[[^\]]*\]|\S+)\s+# (?P<meaning>.*)")


def to_markdown(text: str) -> str:
    """Returns the page for a reference text."""
    return HEAD + "".join(f"{line}\n" for line in _lines(text))


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("["):
            yield from ("", f"## {line}", "", "| setting | default | meaning |", "|---|---|---|")
        elif found := _SETTING.fullmatch(line):
            meaning = re.sub(r"<(\w+)>", r"&lt;\1&gt;", found["meaning"]).replace("|", "\\|")
            meaning = meaning.replace("(restart)", "*(restart)*")
            yield f"| `{found['name']}` | `{found['value']}` | {meaning[:1].upper()}{meaning[1:]} |"
