"""A shell completes the names of commands and options."""

import pytest
from typer.testing import CliRunner

from scorm_webhooks_cli.completion import typed_words
from streams.cli.app import app
from streams.core.errors import Invalid


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    done = CliRunner().invoke(app, ["completion", shell])
    assert (done.exit_code, "scorm-webhooks" in done.output) == (0, True)


def test_another_shell_is_refused_with_those_that_there_are() -> None:
    assert "bash, zsh, fish" in str(CliRunner().invoke(app, ["completion", "tcsh"]).exception)
    assert isinstance(CliRunner().invoke(app, ["completion", "tcsh"]).exception, Invalid)


def test_a_command_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "scorm-webhooks webhooks")
    assert typed_words() == ()
    monkeypatch.setenv("_SCORM_WEBHOOKS_COMPLETE", "complete_bash")
    assert set(typed_words()) == {"scorm-webhooks", "webhooks"}
