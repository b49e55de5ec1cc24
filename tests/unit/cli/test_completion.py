import pytest

from gpushare.cli.terminal import ExitCode

from .conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(run: Run, shell: str) -> None:
    """The script asks gpushare itself for completions."""
    assert "_GPUSHARE_COMPLETE" in run("completion", shell).out


def test_an_unknown_shell_is_wrong_usage(run: Run) -> None:
    """Only shells we can serve are taken."""
    assert run("completion", "cmd").code == ExitCode.USAGE


def test_a_word_is_completed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked by the shell, gpushare lists the commands that fit."""
    monkeypatch.setenv("_GPUSHARE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "gpushare stat")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        run()


def test_completions_are_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed for the shell is the matching command."""
    monkeypatch.setenv("_GPUSHARE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "gpushare key ro")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        run("x")
    assert capsys.readouterr().out == "plain,rotate\n"
