"""A command that is copied sends the request that is shown, and hides nothing from who reads it."""

import subprocess

import pytest

from api.webhooks.code_samples import curl
from streams.core.text import escape_controls


def test_a_curl_command_quotes_what_a_shell_would_run() -> None:
    headers = {"X-Key": "it's $(rm)", "Host": "crm.example.com", "Content-Length": "2"}
    command = curl("https://crm.example.com/a?b=1&c=`d`", headers, b"{'$x'}")
    assert "'https://crm.example.com/a?b=1&c=`d`'" in command
    assert """-H 'X-Key: it'"'"'s $(rm)'""" in command
    assert "Host" not in command
    for body in (b"x" * 5000, b"NUL \0", None):
        assert "--data-binary @event.json" in curl("https://x.example", {}, body)


BODIES = [
    '{"name": "user\u202egpj.exe"}'.encode(),
    "\u202e0a\u2066\"'\\ $(rm) `x`\ufeff\U000e0041".encode(),
    "\x01\x1b[2J\x7f\x85\r\n\tend".encode(),
    "Größe 日本語 \u200d".encode(),
    bytes(range(1, 256)),
    b"",
]


@pytest.mark.parametrize("body", BODIES, ids=ascii)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_copied_command_sends_the_same_bytes(body: bytes, locale: str) -> None:
    command = curl("https://x.example", {"X-Name": "a\u202eb"}, body)
    assert escape_controls(command, allowed="\n") == command
    script = "curl() { printf '%s\\0' \"$@\"; }\n" + command
    done = subprocess.run(["bash", "-c", script], env={"LC_ALL": locale}, capture_output=True, check=True)
    assert done.stdout.split(b"\0")[-2:-1] == [body]
    assert "X-Name: a\u202eb".encode() in done.stdout.split(b"\0")
