"""What `up` prints at its start."""

import asyncio
from pathlib import Path

import pytest

from streams.runtime import start_lines
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.start_lines import quiet_log_settings, wait_until_up


class FakeStages:
    """Stages that are ready after some looks, or end."""

    def __init__(self, looks: int, ends: bool = False) -> None:
        self.looks = looks
        self.ends = ends

    @property
    def is_running(self) -> bool:
        return not (self.ends and self.looks <= 0)

    async def readiness_problems(self) -> list[str]:
        self.looks -= 1
        return ["record: no broker \x1b answers", "deliver: a topic is missing"] if self.looks > 0 or self.ends else []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_lines, "is_on_terminal", lambda: True)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_lines, "CHECK_INTERVAL_SECONDS", 0)


@pytest.mark.usefixtures("terminal")
async def test_a_long_start_is_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert await wait_until_up(FakeStages(5), asyncio.Event(), "http://a/readyz", notice_after_seconds=0)
    assert capsys.readouterr().out == (
        "Not ready yet: record: no broker \\x1b answers (http://a/readyz has all that is missing)\n"
    )


async def test_without_a_terminal_nothing_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert await wait_until_up(FakeStages(5), asyncio.Event(), "http://a/readyz", notice_after_seconds=0)
    assert (capsys.readouterr().out, quiet_log_settings()) == ("", {})


async def test_only_what_accounts_create_prints_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCORM_WEBHOOKS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    await start_lines.print_addresses(SqlDeployment.from_environment(), is_embedded=True)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "accounts create" in line]
    assert line.endswith("(prints its API key)")


@pytest.mark.usefixtures("terminal")
async def test_no_address_is_printed_after_an_end() -> None:
    stopping = asyncio.Event()
    assert not await wait_until_up(FakeStages(3, ends=True), stopping, "")
    stopping.set()
    assert not await wait_until_up(FakeStages(0), stopping, "")
    assert quiet_log_settings() == {"SCORM_WEBHOOKS_LOG_LEVEL": "warning"}
