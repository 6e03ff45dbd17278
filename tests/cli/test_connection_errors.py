"""A command that gets no response names what was typed, and says where http and https were exchanged."""

import socket
from pathlib import Path

import pytest
import trustme
from cli.command import run
from cli.test_doctor import endpoint

from builders import SECRET

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)


async def error_of(command: str, url: str) -> str:
    done = await run(command, url, answer="sk_1\n")
    assert done.exit_code != 0
    return f"{done.output}{done.exception}"


@pytest.mark.parametrize("command", ["login", "exam", "doctor"])
async def test_https_to_a_server_of_http_is_said(command: str) -> None:
    with endpoint(204) as port:
        error = await error_of(command, f"https://127.0.0.1:{port}")
    assert f"the server there speaks http, not https: use http://127.0.0.1:{port}" in error


@pytest.mark.parametrize("command", ["login", "exam", "doctor"])
async def test_http_to_a_server_of_https_is_said(command: str) -> None:
    with endpoint(204, certificate=trustme.CA().issue_cert("127.0.0.1")) as port:
        error = await error_of(command, f"http://127.0.0.1:{port}")
    assert f"if it expects https, use https://127.0.0.1:{port}" in error


@pytest.mark.parametrize("command", ["login", "exam"])
async def test_a_port_without_a_server_is_said(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = await error_of(command, f"http://127.0.0.1:{port}")
    assert f"http://127.0.0.1:{port} does not answer: nothing accepts connections there" in error
