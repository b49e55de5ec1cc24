from gpushare.core.problems import ConfigErrors, Problem, closest, printable


def test_a_problem_shows_its_place_its_line_and_a_caret() -> None:
    """A problem in a file reads as file, line, column, what is wrong, the line itself and the remedy."""
    problem = Problem(
        source="/etc/gpushare/config.toml",
        setting="queue.max_wiat",
        message="no such setting",
        hint='did you mean "max_wait"?',
        line=8,
        column=3,
        width=8,
        line_text='  max_wiat = "4m"',
    )
    assert str(problem).split("\n") == [
        "/etc/gpushare/config.toml:8:3: queue.max_wiat: no such setting",
        '     8 |   max_wiat = "4m"',
        '       |   ^^^^^^^^ did you mean "max_wait"?',
    ]


def test_a_problem_without_a_line_is_one_line() -> None:
    """A problem in the environment names the variable."""
    assert str(Problem(source="environment X", message='expected text, got "two"')) == (
        'environment X: expected text, got "two"'
    )


def test_all_problems_are_told_and_counted() -> None:
    """The summary counts, says that nothing was changed, and names the reference."""
    one = Problem(source="a", message="b")
    assert str(ConfigErrors((one,))).endswith("\n1 error; nothing was changed.")
    assert str(ConfigErrors((one, one), reference="x docs")).endswith(
        "\n2 errors; nothing was changed. Reference: x docs"
    )


def test_no_control_character_reaches_the_terminal() -> None:
    """Escape sequences, direction marks and zero-width characters are made visible; columns stay."""
    hostile = "a\x1b[2J\u202eb\u200bc\t\n"
    assert printable("1\u202f204 ü") == "1\u202f204 ü"
    assert printable(hostile) == "a?[2J?b?c ?"
    assert len(printable(hostile)) == len(hostile)
    assert "\x1b" not in str(Problem(source="\x1b", message="\x1b", line=1, line_text="\x1b", hint="\x1b"))


def test_a_near_name_is_proposed() -> None:
    """A slip of the finger finds its name; nonsense finds none."""
    assert closest("max_wiat", ["max_wait", "slots"]) == "max_wait"
    assert closest("qqqq", ["max_wait", "slots"]) == ""
