"""One target under atheris, which finds its way by coverage; atheris is installed by hand, beside the rest.

``python -m tests.fuzz.guided TARGET [libFuzzer options]``, for example ``-max_total_time=60``.
"""

import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Runs until the time is over, or until something is wrong."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["gpushare"]):
        from tests.fuzz.targets import TARGETS
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp())
    (folder / "corpus").mkdir()
    for number, example in enumerate(target.corpus):
        (folder / "corpus" / str(number)).write_bytes(example)
    words = ["".join(map("\\x{:02x}".format, token)) for token in target.tokens]
    (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
    arguments = [name, f"-dict={folder / 'words'}", "-max_len=4096", *options, str(folder / "corpus")]
    atheris.Setup(arguments, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
