"""Commands of `topics`, and `restore`, check what they are given, and ask, before they touch Kafka."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.app import app
from streams.core.errors import Invalid, Misconfigured

RESTORE = ["restore", "--yes", "--since"]
SKIP = ["topics", "skip", "deliver", "deliveries", "3", "1207"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, and no Kafka."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    return tmp_path


def test_nothing_happens_without_a_yes(folder: Path) -> None:
    done = CliRunner().invoke(app, SKIP, input="n\n")
    assert done.exit_code == 1
    assert "Let deliver never handle record 1207 of deliveries, partition 3?" in done.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([*RESTORE, "yesterday"], "--since: must be a time with a zone"),
        (["topics", "skip", "record", "subscriptions", "0", "1", "--yes"], "record does not read subscriptions"),
        (["topics", "skip", "record", "deliveries.retry.30s", "0", "1", "--yes"], "record does not read"),
        (["topics", "skip", "deliver", "deliveries.held", "0", "1", "--yes"], "deliver does not read"),
    ],
)
def test_what_is_wrong_is_named(command: list[str], message: str) -> None:
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, Invalid)
    assert message in ", ".join(map(str, done.exception.errors))


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_the_topics_of_the_embedded_broker_are_its_own(verb: str) -> None:
    done = CliRunner().invoke(app, ["topics", verb])
    assert isinstance(done.exception, Misconfigured)
    assert "the embedded broker of `up` makes its topics itself" in str(done.exception)


def test_a_restore_needs_topics_that_keep_records(folder: Path) -> None:
    done = CliRunner().invoke(app, [*RESTORE, "2026-11-27T02:00:00Z"])
    assert isinstance(done.exception, Misconfigured)
    assert "KAFKA_BOOTSTRAP_SERVERS is not set: the embedded broker keeps nothing" in str(done.exception)
