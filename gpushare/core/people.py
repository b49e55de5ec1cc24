"""Which names a person may have, so that a name is inert on a page, in a log and in a spreadsheet.

Rules: letters and digits of one script, space and ``. _ - @``, at most 64 characters, beginning with a letter
or digit; two names that a reader could take for one another are one name.
"""

import unicodedata

NAME_MAX = 64
_SIGNS = " ._-@"
# Scripts that are written together in one name.
_TOGETHER = ({"CJK", "HIRAGANA", "KATAKANA"}, {"CJK", "HANGUL"}, {"CJK", "BOPOMOFO"})
# What looks like a Latin letter in most fonts; compared only, never shown.
_LOOKS = str.maketrans("I01|аеорсухіѕјԁһӏвкмнтаοανρτικυχ", "lol1aeopcyxisjdhlbkmhtaoavptikyx")


def name_problem(name: str) -> str:
    """Says what is wrong with a person's name; empty when nothing is."""
    if not 0 < len(name) <= NAME_MAX:
        return f"a name has 1 to {NAME_MAX} characters"
    if not _plain(name):
        return "a name has only letters, digits, space and . _ - @"
    if not name[0].isalnum() or name.endswith(" "):
        return "a name begins with a letter or digit and does not end in a space"
    if name.startswith("gs_"):
        return "this looks like a key, not like a name"
    scripts = {unicodedata.name(char, char).partition(" ")[0] for char in name if char.isalpha()}
    if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
        return "a name has letters of one script only"
    return ""


def look_alike(one: str, other: str) -> bool:
    """Whether two names could be taken for one another: by case, or by letters that look the same."""
    return one.casefold() == other.casefold() or _skeleton(one) == _skeleton(other)


def _plain(name: str) -> bool:
    """Composed, without compatibility forms (full-width, mathematical), marks, controls and other signs."""
    return unicodedata.normalize("NFKC", name) == name and all(
        char in _SIGNS
        or (char.isascii() and char.isalnum())
        or unicodedata.category(char) in ("Lu", "Ll", "Lo")
        for char in name
    )


def _skeleton(name: str) -> str:
    return name.translate(_LOOKS).casefold().translate(_LOOKS)
