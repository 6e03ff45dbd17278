"""`publish --reconcile` deletes nothing that a person has not seen."""

import subprocess
import sys

import pytest

from builders import webhook
from streams.cli.stage_commands import confirm_deletion


@pytest.mark.parametrize("answer", ["\n", "", "y\n"])
def test_without_a_terminal_yes_is_required(answer: str) -> None:
    command = [sys.executable, "-m", "streams", "publish", "--reconcile"]
    done = subprocess.run(command, input=answer, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert "required without a terminal" in " ".join(done.stderr.split())


def test_what_would_be_deleted_has_its_url_and_account(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = [webhook(id=f"wh_{number}", url=f"https://crm.example.com/{number}") for number in range(12)]
    assert confirm_deletion(unknown, is_confirmed=True)
    shown = capsys.readouterr().out
    assert "12 webhooks on the topic are not in the database" in shown
    for one in unknown:
        assert f"{one.id}  account acme  {one.url}" in shown
